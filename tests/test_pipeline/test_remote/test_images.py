"""DATASET and DATA behind URLs."""

import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import zarr

from pipeline import PatchOptions, extract
from storage import InputError, open_images
from storage.errors import RemoteError
from storage.images import download
from storage.places.remote import RemotePlace
from storage.places.zarr_store import store_at
from tests.buckets import SlowProxy, refuse


def test_images_are_read_from_zarr_in_a_bucket(
    bucket: RemotePlace, served: SlowProxy, strokes: np.ndarray, tmp_path: Path
) -> None:
    array = zarr.create_array(store_at(bucket / "a.zarr"), data=strokes, chunks=(20, 12, 10))
    assert array.shape == strokes.shape
    source = open_images(f"{bucket}/a.zarr")
    assert np.array_equal(source.read(slice(0, 60)), strokes)
    here = extract(strokes, patch=3, out=tmp_path).store
    there = extract(f"{bucket}/a.zarr", patch=3, out=tmp_path).store
    assert np.array_equal(here.array[:], there.array[:])
    served.faults = [refuse(403, "/c/1/0/0")]
    with pytest.raises(RemoteError):
        open_images(f"{bucket}/a.zarr").read(slice(0, 60))


def test_files_behind_urls_are_fetched_once_and_again_when_they_change(
    bucket: RemotePlace,
    served: SlowProxy,
    strokes: np.ndarray,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    np.save(tmp_path / "a.npy", strokes)
    url = f"{bucket}/a.npy"
    (bucket / "a.npy").write_bytes((tmp_path / "a.npy").read_bytes())
    data = tmp_path / "data"

    def read() -> np.ndarray:
        return open_images(url, data_dir=data).read(slice(0, len(strokes)))

    assert np.array_equal(read(), strokes)
    served.requests.clear()
    assert np.array_equal(read(), strokes)
    assert [request.partition(" ")[0] for request in served.requests] == ["HEAD"]
    np.save(tmp_path / "b.npy", 255 - strokes)
    (bucket / "a.npy").write_bytes((tmp_path / "b.npy").read_bytes())
    assert np.array_equal(read(), 255 - strokes)
    (copy,) = data.rglob("a.npy")
    copy.write_bytes(copy.read_bytes()[:-5])  # what was fetched is damaged
    assert np.array_equal(read(), 255 - strokes)
    mask = np.zeros(strokes.shape[1:], np.uint8)
    mask[:6] = 1
    np.save(tmp_path / "mask.npy", mask[np.newaxis])
    (bucket / "mask.npy").write_bytes((tmp_path / "mask.npy").read_bytes())
    monkeypatch.chdir(tmp_path)
    fewer = extract(strokes, patch=3, out=tmp_path, mask=f"{bucket}/mask.npy").store
    same = extract(strokes, patch=3, out=tmp_path / "2", mask=str(tmp_path / "mask.npy")).store
    assert np.array_equal(fewer.array[:], same.array[:])
    assert not list(tmp_path.rglob("data/**/mask.npy"))  # the masks are kept nowhere
    with pytest.raises(InputError, match="there is no"):
        open_images(f"{bucket}/none.npy", data_dir=data)


def test_images_are_read_from_a_web_site(strokes: np.ndarray, tmp_path: Path) -> None:
    pytest.importorskip("obstore", reason="no obstore: pip install 'patchdict[remote]'")
    site, data = tmp_path / "site", tmp_path / "data"
    zarr.create_array(site / "a.zarr", data=strokes, chunks=(20, 12, 10))
    np.save(site / "a.npy", strokes)
    handler = type("Quiet", (SimpleHTTPRequestHandler,), {"log_message": lambda *_: None})
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(handler, directory=str(site)))
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        for name in ("a.npy", "a.zarr"):
            url = f"http://127.0.0.1:{server.server_port}/{name}"
            assert np.array_equal(open_images(url, data_dir=data).read(slice(0, 60)), strokes)
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
    with pytest.raises(InputError, match="only be read"):
        PatchOptions.checked(out="https://host/runs")


def test_named_data_sets_are_kept_behind_a_url(
    bucket: RemotePlace, strokes_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import hashlib

    from storage.images.datasets import DATASETS

    file = next(iter(DATASETS["mnist"].images.values()))
    content = strokes_file.read_bytes()
    digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
    wanted = type(file)("strokes-idx3-ubyte", digest)
    (bucket / "mnist" / wanted.name).write_bytes(content)
    monkeypatch.setattr(download, "_fetch", lambda *_: pytest.fail("it was there"))
    assert download.find_or_fetch(wanted, "mnist", bucket).read_bytes() == content
