"""Variables of make: each is an option of the command line, and no other is taken."""

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline import SweepOptions
from pipeline.config import FORMER_NAMES

ROOT = Path(__file__).parents[1]
pytestmark = pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")


def dry_run(*arguments: str) -> "subprocess.CompletedProcess[str]":
    """What make would do; not told of a make that runs these tests."""
    variables = set(os.environ) - {"MAKEFLAGS", "MAKELEVEL", "MFLAGS", "MAKEOVERRIDES"}
    return subprocess.run(
        ["make", "--dry-run", f"PYTHON={sys.executable}", *arguments],
        cwd=ROOT,
        env={name: os.environ[name] for name in variables},
        capture_output=True,
        text=True,
        check=False,
    )


def commands_of(*arguments: str) -> list[list[str]]:
    """The words of the two commands of a sweep, after the interpreter's `-m`."""
    done = dry_run("sweep", *arguments)
    assert done.returncode == 0, done.stderr
    *_, sweep, report = done.stdout.replace("\\\n", " ").split("&&")
    found = [shlex.split(line) for line in (sweep, report)]
    assert [words[-2:] for words in found] == [["--swept", "$swept"]] * 2
    return [words[2:-2] for words in found]


def test_variables_are_the_options() -> None:
    makefile = (ROOT / "Makefile").read_text().replace("\\\n", " ")
    line = next(line for line in makefile.splitlines() if line.startswith("VARIABLES :="))
    assert set(line.lower().split()[2:]) == {*SweepOptions.model_fields, "experiment"}
    former = next(line for line in makefile.splitlines() if line.startswith("FORMER :="))
    assert set(former.lower().split()[2:]) == set(FORMER_NAMES)


def test_values_arrive_as_they_were_typed() -> None:
    dataset, out = "/a b/it's $x$(y) $$.npy", 'runs "of" $HOME'
    sweep, report = commands_of(f"DATASET={dataset}", f"OUT={out}", "MAX_ITER=3", "MEMORY=2GiB")
    values = dict(zip(sweep[2::2], sweep[3::2], strict=True))
    assert values == {"--dataset": dataset, "--out": out, "--max-iter": "3", "--memory": "2GiB"}
    told = ["--dataset", dataset, "--memory", "2GiB"]
    assert report == ["analysis", "report", "--only-stale", *told]


def test_unset_variables_are_no_options() -> None:
    sweep, report = commands_of("K=")
    assert sweep == ["pipeline", "sweep", "--out", "runs"]
    assert report == ["analysis", "report", "--only-stale"]


def test_a_file_of_options_says_where_out_is_unless_it_is_given() -> None:
    sweep, report = commands_of("EXPERIMENT=my $x.toml")
    assert sweep == ["pipeline", "sweep", "--experiment", "my $x.toml"]
    assert report == ["analysis", "report", "--only-stale", "--experiment", "my $x.toml"]
    sweep, report = commands_of("EXPERIMENT=my.toml", "OUT=a b")
    assert sweep == ["pipeline", "sweep", "--out", "a b", "--experiment", "my.toml"]
    assert report[-2:] == ["--experiment", "my.toml"]


@pytest.mark.parametrize(
    ("variable", "told"),
    [
        ("k=20,50", "no variable k: did you mean K?"),
        ("Out=x", "no variable Out: did you mean OUT?"),
        ("THRESHHOLD=0.1", "no variable THRESHHOLD: did you mean THRESHOLD?"),
        ("EXPERIMNT=x.toml", "no variable EXPERIMNT: did you mean EXPERIMENT?"),
        ("MAXITER=5", "no variable MAXITER: did you mean MAX_ITER?"),
        ("FROBNICATE=1", "no variable FROBNICATE: there are DATASET DATA OUT"),
        ("v=1", "no variable v: there are DATASET"),
    ],
)
def test_an_unknown_variable_is_an_error_that_names_the_right_one(variable: str, told: str) -> None:
    done = dry_run("sweep", variable)
    assert (done.returncode, done.stdout) == (2, "")
    assert told in done.stderr
