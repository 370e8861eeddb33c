"""Coverage-guided fuzzing of what reads files and options, a minute each."""

import gzip
import importlib.util
import re
import subprocess
from pathlib import Path

import numpy as np
import pytest

from pipeline.runtime.memory import peak_resident
from tests.idx_files import idx_bytes
from tests.npy_files import HEADER, npy_bytes, npy_parts
from tests.programs import run_python

SECONDS = 60
MIB = 1 << 20
IMAGES = np.arange(24).reshape(2, 3, 4).astype(np.uint8)
WHOLE = idx_bytes(IMAGES)
NPY_HEADER = HEADER.format(descr="|u1", fortran=False, shape=(2, 3, 4))
CORPORA = {
    "idx": [
        WHOLE,
        idx_bytes(IMAGES.astype(np.float32)),
        gzip.compress(WHOLE, mtime=0),
        gzip.compress(WHOLE[:20], mtime=0) + gzip.compress(WHOLE[20:], mtime=0) + b"\0\0",
    ],
    "npy": [
        *(npy_bytes(IMAGES, version) for version in ((1, 0), (2, 0), (3, 0))),
        npy_bytes(np.asfortranarray(IMAGES.astype(">f8"))),
        npy_parts(NPY_HEADER, IMAGES.tobytes()),
        npy_parts(NPY_HEADER.replace("2,", "2L,"), IMAGES.tobytes()),
    ],
    "sizes": [b"100,200", b"1:10:2,study", b"5x7", b"1:1000000000000"],
    "options": [bytes([n]) + b"1GiB 0.5 nested k-means++ tcp:// ~ 1e400" for n in range(20)],
}


def fuzz(target: str, folder: Path, seconds: int) -> "subprocess.CompletedProcess[str]":
    if importlib.util.find_spec("atheris") is None:
        pytest.skip("atheris is not installed: it has wheels for Linux on x86-64 alone")
    corpus = folder / "corpus"
    corpus.mkdir()
    for number, content in enumerate(CORPORA[target]):
        (corpus / str(number)).write_bytes(content)
    limits = [
        f"-artifact_prefix={folder}/",
        f"-max_total_time={seconds}",
        "-max_len=600",
        f"-rss_limit_mb={1024 + peak_resident() // MIB}",  # a child's peak begins at its parent's
        "-timeout=10",
    ]
    command = ["-m", "tests.fuzzing", target, str(corpus), *limits, "-seed=1"]
    return run_python(*command, errors="replace", timeout=seconds + 120)


@pytest.mark.slow
@pytest.mark.parametrize("target", CORPORA)
def test_no_input_breaks_what_reads_it(target: str, tmp_path: Path) -> None:
    done = fuzz(target, tmp_path, SECONDS)
    assert done.returncode == 0, done.stderr[-3000:]
    runs = re.search(r"Done (\d+) runs", done.stderr)
    assert runs is not None
    assert int(runs[1]) > 1000
