"""An experiment in a folder, and the same in a bucket."""

import shutil
from pathlib import Path

import pytest

from storage.places.place import files_below
from storage.places.remote import RemotePlace


@pytest.fixture
def here(digits_folder: Path, tmp_path: Path) -> Path:
    """The digits, K = 4 and 12, in a folder that a test may change."""
    # of its reports and of what other tests made of it nothing comes along
    others = shutil.ignore_patterns("report*", "figures", "k00060", "exports", "codes-*")
    return shutil.copytree(digits_folder.parent, tmp_path / "runs", ignore=others) / (
        digits_folder.name
    )


@pytest.fixture
def there(here: Path, bucket: RemotePlace) -> RemotePlace:
    """The same in a bucket."""
    for key, path in files_below(here.parent):
        (bucket / "runs" / key).write_bytes(path.read_bytes())
    return bucket / "runs" / here.name
