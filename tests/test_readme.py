"""The README's example runs as it stands, and its commands exist."""

import re
import subprocess
import sys
from pathlib import Path

from pipeline import SweepOptions

README = (Path(__file__).parents[1] / "README.md").read_text()


def test_the_python_example_runs(tmp_path: Path) -> None:
    (example,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    check = example + (
        "\nassert patches.n_rows == 24_000"
        "\nassert km.cluster_centers_.shape == (50, 25)"
        "\nassert rebuilt.shape == image.shape"
        "\nerror = ((image - rebuilt) ** 2).mean()"
        "\nassert 0 < error < 0.2 * image.astype(float).var()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", check], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_every_variable_of_make_is_explained() -> None:
    for name in SweepOptions.model_fields:
        assert f"`{name.upper()}`" in README, name


def test_pictures_are_there() -> None:
    pictures = re.findall(r'(?:src="|\]\()(\.pictures/[^")]+)', README)
    assert len(pictures) == 3
    for picture in pictures:
        assert (Path(__file__).parents[1] / picture).is_file()
