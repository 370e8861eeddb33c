"""Extraction against the study's nested loops; what codecs make of rows of several kinds."""

import statistics
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import zarr
from zarr.storage import MemoryStore

from pipeline.extraction.extract import extract
from storage import PatchSpec, PatchStore
from storage.images.embedded import read_photos
from storage.images.source import open_images
from storage.patch_spec import Codec, codecs
from storage.strict_store import checked_compressors
from tests.oracles import cut_by_loops

LOOP_IMAGES = 600  # of 60,000: the loops are measured on a part and scaled
CHUNKS = 12  # of a store at most, evenly spread, on which codecs are measured
DECODINGS = 5


def measure(data: Path, folder: Path, repeats: int) -> tuple[PatchStore, list[dict[str, str]]]:
    """Returns the last store, and a table of seconds."""
    times = []
    for repeat in range(repeats):
        started = time.perf_counter()
        store = store_of("mnist", data, PatchSpec(5, 5), folder / str(repeat))
        times.append(time.perf_counter() - started)
    images = open_images("mnist", "train", data).images
    started = time.perf_counter()
    cut_by_loops(images[:LOOP_IMAGES], 5, 5, 1, 0)
    loops = (time.perf_counter() - started) * len(images) / LOOP_IMAGES
    ours = statistics.median(times)
    return store, [
        {
            "way": "nested loops over patches, as in the study (scaled from 1 %)",
            "seconds": f"{loops:.0f}",
            "MB": f"{store.n_rows * store.dim / 1e6:.0f} in memory",
        },
        {
            "way": f"patchdict: {store.n_rows:,} rows, unpacking, counting, writing",
            "seconds": f"{ours:.1f}",
            "MB": f"{store.stored_bytes / 1e6:.1f} on disk",
        },
    ]


def store_of(dataset: str, data: Path, spec: PatchSpec, folder: Path) -> PatchStore:
    """Training patches of a data set; tables before it may hold much of the memory already."""
    return extract(dataset, patch=spec, out=folder, data=data, memory="8GiB")[0]


def measure_codecs(data: Path, folder: Path) -> list[dict[str, str]]:
    """Size and decoding rate of what was written before codecs were tried, and of what is now."""
    table = []
    for name, images, side in _kinds(data):
        store = extract(images, patch=side, out=folder / name / str(side), memory="2GiB").store
        channels = store.dim // side**2
        row = {"rows": name, "patch": f"{side}×{side}" + "×3" * (channels == 3)}
        chunks = range(0, store.n_chunks, -(-store.n_chunks // CHUNKS))
        rows = [store.read_chunk(index) for index in chunks]
        itemsize = store.dtype.itemsize
        patch = store.dim * itemsize
        small = len(codecs(store.spec, channels, itemsize)) == 1
        before = Codec(small, patch if small else itemsize, patch * max(1, 409600 // patch))
        plain = Codec(False, itemsize, before.blocksize)
        tried = dict.fromkeys([before, plain, *codecs(store.spec, channels, itemsize)])
        row["bytes of a patch"] = str(patch)
        for codec in tried:
            ratio, one, two = _packed(rows, codec)
            how = f"shuffled by {codec.typesize}" if codec.shuffled else "not shuffled"
            table.append(
                row
                | {
                    "codec": f"{how}, blocks of {codec.blocksize >> 10} KiB",
                    "packed to 1 /": f"{ratio:.1f}",
                    "decoding, GB/s of CPU time": f"{one:.2f}",
                    "two threads, GB/s": f"{two:.2f}",
                    "before": "yes" * (codec == before),
                    "chosen": "yes" * (_stated(store) == codec),
                }
            )
    return table


def _stated(store: PatchStore) -> Codec:
    """What a store was written with."""
    stated = store.array.compressors[0].to_dict()["configuration"]
    return Codec(stated["shuffle"] == "shuffle", stated["typesize"], stated["blocksize"])


def _kinds(data: Path) -> Iterator[tuple[str, np.ndarray, int]]:
    """Names, images, sides of patches."""
    photos = read_photos()
    grey = photos.mean(axis=3)
    rng = np.random.default_rng(0)
    digits = open_images("mnist", "train", data).images[:6000]
    noisy = np.clip(photos + rng.normal(0, 10, photos.shape), 0, 255).astype(np.uint8)
    kinds = {
        "MNIST": (digits, (5, 8, 10, 12, 16)),
        "photographs": (photos, (5, 8, 16)),
        "photographs in grey": (grey.astype(np.uint8), (8, 12, 16)),
        "photographs, noise of 10 added": (noisy, (8, 16)),
        "masks": (np.where(grey > 128, 255, 0).astype(np.uint8), (16,)),
        "12 bits with photon noise": (rng.poisson(grey * 16).clip(0, 4095).astype("u2"), (8, 16)),
        "float32": ((grey / 255).astype(np.float32), (8, 16)),
    }
    for name, (images, sides) in kinds.items():
        for side in sides:
            yield name, images, side


def _packed(rows: list[np.ndarray], codec: Codec) -> tuple[float, float, float]:
    """Ratio; decoding in GB/s, by one thread's CPU time and by two threads' clock."""
    arrays, stored = [], 0
    for chunk in rows:
        files: dict = {}
        array = zarr.create_array(
            MemoryStore(files),
            shape=chunk.shape,
            chunks=chunk.shape,
            dtype=chunk.dtype,
            compressors=checked_compressors(
                codec.typesize,
                shuffle="shuffle" if codec.shuffled else "noshuffle",
                blocksize=codec.blocksize,
            ),
        )
        array[:] = chunk
        arrays.append(array)
        stored += sum(len(content) for key, content in files.items() if key.startswith("c/"))
    size = sum(chunk.nbytes for chunk in rows)
    cpu, clock = [], []
    with ThreadPoolExecutor(2) as pool:
        for _ in range(DECODINGS):
            started = time.process_time()
            for array in arrays:
                array[:]
            cpu.append(time.process_time() - started)
            started = time.perf_counter()
            list(pool.map(lambda array: array[:], arrays))
            clock.append(time.perf_counter() - started)
    return size / stored, size / statistics.median(cpu) / 1e9, size / min(clock) / 1e9
