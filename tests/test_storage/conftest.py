"""What tests of stores share."""

from collections.abc import Iterator

import pytest
import zarr
from zarr.core import codec_pipeline

PIPELINES = [
    path
    for name in ("BatchedCodecPipeline", "FusedCodecPipeline")
    if hasattr(codec_pipeline, name) and (path := f"{codec_pipeline.__name__}.{name}")
]


@pytest.fixture(params=PIPELINES)
def chunks_read_by(request: pytest.FixtureRequest) -> Iterator[None]:
    """Each way in which the installed zarr reads chunks: through its event loop, and past it."""
    with zarr.config.set({"codec_pipeline.path": request.param}):
        yield
