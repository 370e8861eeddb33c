"""The memory cap of a report: kept on data that would not fit, and refused with both numbers."""

import sys
from pathlib import Path

import numpy as np
import pytest

from analysis import report
from analysis.html_report.measured import Measured
from storage import InputError, MemoryBudgetError
from tests.process_trees import run_measured
from tests.test_analysis.test_html_report.small_runs import learn, small_images

MIB = 1 << 20
CAP = 600 * MIB
IMAGE_BYTES = 256 * MIB  # with what libraries take, more than the cap


def large_images(path: Path, nbytes: int) -> str:
    """A file of images of 256×256 pixels that are blank but for a corner each."""
    shape = (nbytes // 256**2, 256, 256)
    images = np.lib.format.open_memmap(path, "w+", np.uint8, shape)
    images[:, :32, :32] = np.random.default_rng(0).integers(0, 256, (shape[0], 32, 32), np.uint8)
    images.flush()
    return str(path)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads the kernel's figures from /proc")
def test_a_report_stays_below_its_cap_on_images_that_do_not_fit(tmp_path: Path) -> None:
    dataset = large_images(tmp_path / "large.npy", IMAGE_BYTES)
    fit = {"stride": 8, "mode": "full", "init": "random"}
    folder = learn(tmp_path, (4,), dataset=dataset, **fit)
    ran = run_measured(["-m", "analysis", "report", str(folder), "--memory", str(CAP)])
    assert ran.code == 0, ran.err
    assert (folder / "report.html").is_file()
    print(f"{ran.peak / MIB:.0f} of {CAP / MIB:.0f} MiB")
    assert ran.peak <= CAP


def test_a_cap_that_is_too_small_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    folder = learn(tmp_path, (3,))
    with pytest.raises(MemoryBudgetError, match=r"needs .* more than the cap of 100\.0 MiB"):
        report(folder, memory="100MiB")
    assert not (folder / "report.html").exists()
    with pytest.raises(InputError, match="memory 'much' is not valid: use a size"):
        report(folder, memory="much")


def test_a_cap_below_what_figures_take_is_refused_before_any_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    learn(tmp_path, (3,), dataset=small_images(tmp_path / "some.npy"))
    worked: list[object] = []
    monkeypatch.setattr(Measured, "curve", property(worked.append))
    with pytest.raises(MemoryBudgetError, match="a report needs"):
        report(tmp_path, memory=500 * MIB)
    assert worked == []
