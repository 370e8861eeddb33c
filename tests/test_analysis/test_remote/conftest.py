"""An experiment in a folder, and the same in a bucket."""

import shutil
from pathlib import Path

import pytest

from storage.places.place import files_below
from storage.places.remote import RemotePlace


@pytest.fixture
def here(digits_folder: Path, tmp_path: Path) -> Path:
    """The digits, K = 4, 12 and 60, in a folder that a test may change."""
    runs = tmp_path / "runs"
    shutil.copytree(digits_folder.parent, runs, ignore=shutil.ignore_patterns("report*", "figures"))
    return runs / digits_folder.name


@pytest.fixture
def there(here: Path, bucket: RemotePlace) -> RemotePlace:
    """The same in a bucket."""
    for key, path in files_below(here.parent):
        (bucket / "runs" / key).write_bytes(path.read_bytes())
    return bucket / "runs" / here.name
