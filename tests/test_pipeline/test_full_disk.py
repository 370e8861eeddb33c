"""A disk that fills up: one clear line, nothing damaged, and it goes on when there is room."""

import subprocess
import sys
from pathlib import Path

import pytest

from pipeline import SweepOptions, sweep
from tests.stored_numbers import numbers_of
from tests.test_pipeline.test_killing import assert_whole

# In a mount namespace of its own, so that nothing stays mounted: a disk that grows step by step.
GROWING_DISK = """
set -e
mkdir disk && mount -t tmpfs -o size={first}k tmpfs disk
for size in {sizes}; do
    mount -o remount,size=${{size}}k disk
    "{python}" -m pipeline sweep --out disk/runs --max-iter 20 --breathing 1 --k {k} \\
        >/dev/null 2>error || :
    echo $size $(tail -n 1 error)
done
cp -r disk/runs runs
"""


def own_disk(script: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a script that may mount; skips where this user may not."""
    command = ["unshare", "--map-root-user", "--mount", "bash", "-c"]
    try:
        subprocess.run(
            [*command, "mount -t tmpfs tmpfs /mnt"], check=True, capture_output=True, timeout=60
        )
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"no disk can be mounted here ({error})")
    return subprocess.run(
        [*command, script], cwd=folder, capture_output=True, text=True, timeout=600, check=False
    )


@pytest.mark.parametrize(
    ("k", "sizes"),
    [
        ("5,40", (96, 224, 4000)),
        pytest.param("5,40,200", (32, *range(64, 720, 16), 4000), marks=pytest.mark.slow),
    ],
    ids=["three sizes", "many sizes"],
)
def test_it_goes_on_when_there_is_room(k: str, sizes: tuple[int, ...], tmp_path: Path) -> None:
    script = GROWING_DISK.format(
        python=sys.executable, k=k, first=sizes[0], sizes=" ".join(map(str, sizes))
    )
    done = own_disk(script, tmp_path)
    assert done.returncode == 0, done.stderr
    *full, last = done.stdout.splitlines()
    assert len(full) >= 2
    for line in full[: 2 if len(sizes) == 3 else 30]:
        assert line.split(maxsplit=1)[1] == (
            f"error: the disk of {tmp_path / 'disk' / 'runs'} is full: make room, and run the same"
            " command again, it goes on from here"
        )
    assert "error" not in last
    out = tmp_path / "runs"
    assert_whole(out)
    fields = {"k": k, "max_iter": 20, "breathing": 1, "out": tmp_path / "roomy"}
    expected = sweep(SweepOptions.checked(**fields))
    (found,) = out.glob("digits*")
    assert numbers_of(found) == numbers_of(expected["experiment"])
