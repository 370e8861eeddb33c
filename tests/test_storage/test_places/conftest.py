"""Places behind URLs, of two kinds."""

from collections.abc import Iterator

import pytest

from storage.places.remote import RemotePlace, in_memory


@pytest.fixture(params=["memory", "s3"])
def place(request: pytest.FixtureRequest) -> Iterator[RemotePlace]:
    """A folder in memory, and one in a bucket."""
    if request.param == "s3":
        yield request.getfixturevalue("bucket")
    else:
        pytest.importorskip("obstore", reason="no obstore: pip install 'patchdict[remote]'")
        with in_memory() as memory:
            yield memory / "folder"
