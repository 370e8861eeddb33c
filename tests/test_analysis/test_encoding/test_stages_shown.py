"""What people see of residual stages: the report's curve, what commands tell."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from analysis import open_stages, report
from analysis.command_line import combined
from analysis.encoding.stages import stage_curves
from analysis.experiment import open_experiment
from analysis.html_report.freshness import digest_of
from analysis.html_report.sections.rate import rate_figure
from pipeline.kmeans import checkpoint
from pipeline.upkeep.status import in_words, take_inventory
from tests.damage import files_of, flip_bit
from tests.test_analysis.commands import invoke

K = 12


@pytest.mark.slow
def test_the_report_s_curve_has_points_of_stages(staged: Path) -> None:
    before = digest_of(staged)
    shutil.rmtree(staged / "k00012-stage3")
    assert digest_of(staged) != before  # its report is made again
    experiment = open_experiment(staged)
    curves = stage_curves(experiment)
    assert [*curves] == [K]
    np.testing.assert_allclose(curves[K]["rate"], np.log2(K) * np.array([1, 2]))
    np.testing.assert_allclose(curves[K]["psnr"], 10 * np.log10(255**2 / curves[K]["mse"].values))
    left = rate_figure(experiment.curve, None, curves).axes[0]
    (line,) = [one for one in left.lines if one.get_label() == "residual stages"]
    np.testing.assert_array_equal(line.get_data()[0], curves[K]["rate"])
    assert [text.get_text() for text in left.texts] == ["2 × 12"]
    report(staged)
    lines = (staged / "figures" / "rate-distortion.csv").read_text().splitlines()
    assert lines[0].startswith("k,stages,")
    assert [line.split(",")[:2] for line in lines[1:]] == [
        ["4", "1"],
        ["12", "1"],
        ["60", "1"],
        ["12", "2"],
    ]
    assert "Diamonds in a: residual stages" in (staged / "report.html").read_text()


def test_people_are_told_of_stages_and_codes(staged: Path) -> None:
    told = invoke("encode", staged, "--k", K, "--stages", 2)
    assert "stage 2: MSE " in told
    assert " bits of a patch, " in told
    assert "K = 12 in 2 stages, stride 1" in invoke(
        "decode", staged / "codes-k00012x2-digits-test-s1.zarr"
    )
    invoke("encode", staged, "--k", 4, "--split", "train", "--stride", 3)
    status = CliRunner().invoke(combined(), ["status", "--out", str(staged.parent)]).stdout
    assert "codes  K = 12 in 2 stages, 297 images (digits, test), stride 1, " in status
    assert "codes  K = 4, 1,500 images (digits, train), stride 3, " in status
    assert "stage  3 of K = 12, MSE " in status
    found = CliRunner().invoke(combined(), ["status", "--out", str(staged.parent), "--json"])
    (experiment,) = json.loads(found.stdout)["experiments"]
    assert [one["stages"] for one in experiment["codes"]] == [1, 2]
    path = Path(experiment["codes"][1]["codes"])
    chunks = {n: len(b) for n, b in files_of(path).items() if "codes/c/" in n}
    assert experiment["codes"][1]["bytes"] == sum(chunks.values())
    flip_bit(path / "zarr.json", 999)
    found = CliRunner().invoke(combined(), ["status", "--out", str(staged.parent), "--json"])
    assert len(json.loads(found.stdout)["damaged"]) == 1


def test_status_lists_a_stage_that_was_broken_off(
    staged: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.rmtree(staged / "k00012-stage3")
    monkeypatch.setattr(checkpoint, "SHARE", 1)  # each pass is saved
    save = checkpoint.write_checkpoint

    def broken(*given: Any) -> None:
        save(*given)
        raise KeyboardInterrupt

    monkeypatch.setattr(checkpoint, "write_checkpoint", broken)
    with pytest.raises(KeyboardInterrupt):
        open_stages(staged, K, 3)
    found = take_inventory(staged)
    (fit,) = found["experiments"][0]["unfinished"]
    assert (fit["k"], fit["stage"], fit["passes"]) == (K, 3, 1)
    assert "unfinished  stage 3 of K = 12 after 1 passes, MSE " in in_words(found)
    assert "the same encode goes on" in in_words(found)
