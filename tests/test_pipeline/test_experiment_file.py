"""Experiments in files: which runs they make, and what is refused."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline import SweepOptions, read_experiment_file
from storage import InputError
from tests.test_pipeline.test_hostile_command_lines import run_here


def written(folder: Path, text: str) -> Path:
    path = folder / "my.toml"
    path.write_text(text)
    return path


def refusal_of(path: Path | str) -> str:
    with pytest.raises(InputError) as caught:
        read_experiment_file(path)
    assert str(caught.value).isprintable()
    return str(caught.value)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with two files of images; one works beside it."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    there = tmp_path / "there"
    there.mkdir()
    for name in "ab":
        np.save(there / f"{name}.npy", np.full((3, 6, 6), ord(name), np.uint8))
    return there


def test_lists_make_every_combination_in_order(folder: Path) -> None:
    file = written(
        folder,
        """
        dataset = ["a.npy", "b.npy"]
        patch = [3, 5, "4x6"]
        k = [20, "100:300:100"]
        memory = "2GiB"
        threshold = 0.25
        """,
    )
    runs = read_experiment_file(file)
    places = [str(folder / name) for name in ("a.npy", "b.npy")]
    patches = [(3, 3), (5, 5), (4, 6)]
    assert [(run.dataset, run.patch) for run in runs] == [(d, p) for d in places for p in patches]
    assert {run.k for run in runs} == {(20, 100, 200, 300)}
    assert {(run.memory, run.threshold, run.seed) for run in runs} == {(2 << 30, 0.25, 0)}
    assert runs[0] == SweepOptions.checked(
        dataset=places[0], patch="3", k="20,100:300:100", memory="2GiB", threshold="0.25"
    )


def test_tables_of_runs_come_before_the_options_above_them(folder: Path) -> None:
    file = written(
        folder,
        """
        patch = [3, 5]
        seed = 7
        [[run]]
        mode = ["nested", "full"]
        [[run]]
        patch = 4
        seed = 8
        [[run]]
        """,
    )
    found = [(run.patch[0], run.mode, run.seed) for run in read_experiment_file(file)]
    # the last table makes none of its own: its runs are the first table's
    assert found == [
        *((3, "nested", 7), (3, "full", 7), (5, "nested", 7), (5, "full", 7)),
        (4, "nested", 8),
    ]


@pytest.mark.parametrize(
    ("value", "sizes"),
    [
        ("[200, 100]", (100, 200)),
        ("50", (50,)),
        ('"100:300:100"', (100, 200, 300)),
        ('"study"', SweepOptions.checked(k="study").k),
    ],
)
def test_a_list_of_k_is_one_run(folder: Path, value: str, sizes: tuple[int, ...]) -> None:
    (run,) = read_experiment_file(written(folder, f"k = {value}"))
    assert run.k == sizes


def test_an_empty_file_is_the_defaults(folder: Path) -> None:
    for nothing in ("", "\ufeff# as editors of Windows begin a file"):
        assert read_experiment_file(written(folder, nothing)) == [SweepOptions()]


def test_options_beside_the_file_win_over_it(folder: Path) -> None:
    file = written(folder, 'patch = [3, 5]\nseed = [1, 2]\nout = "made"\nk = 10')
    runs = read_experiment_file(file, {"patch": "4", "k": "20,30"})
    assert [(run.patch, run.seed, run.k) for run in runs] == [
        ((4, 4), 1, (20, 30)),
        ((4, 4), 2, (20, 30)),
    ]
    assert {run.out for run in runs} == {folder / "made"}
    (run,) = read_experiment_file(file, {"seed": "3", "patch": "5", "out": "runs"})
    assert (run.out, run.seed) == (folder.parent / "here" / "runs", 3)


def test_relative_paths_start_from_the_file(folder: Path) -> None:
    np.save("a.npy", np.zeros((2, 6, 6), np.uint8))  # of that name where one works
    file = written(folder, 'dataset = "./a.npy"\nout = "../runs"')
    (run,) = read_experiment_file(Path("..") / "there" / file.name)
    assert (run.dataset, run.out) == (str(folder / "a.npy"), folder.parent / "runs")
    assert run.data == folder.parent / "here" / "data"  # a default is no path of the file
    (run,) = read_experiment_file(written(folder, 'dataset = "mnist"'))
    assert run.dataset == "mnist"
    for name in ("test", "mask", "labels"):
        text = f'dataset = "a.npy"\n{name} = "a.npy"'
        (run,) = read_experiment_file(Path("..") / "there" / written(folder, text).name)
        assert getattr(run, name) == str(folder / "a.npy")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("patches = 3", ": no option 'patches': did you mean patch?"),
        ("PATCH = 3", ": no option 'PATCH': did you mean patch?"),
        ("max-iter = 3", ": no option 'max-iter': did you mean max_iter?"),
        ("moves = 3", ": no option 'moves': did you mean breathing?"),
        ("frobnicate = 3", ": no option 'frobnicate': use one of memory, dataset,"),
        ("[fit]\nk = 3", ": no option 'fit': use one of memory, dataset,"),
        ('patch = "x"', ": patch 'x' is not valid: use a number of pixels"),
        ("patch = [3, 2.5]", ": patch '2.5' is not valid: use a number of pixels"),
        ("patch = [[5, 7]]", ": patch [5, 7] is a list in a list: write each value by itself, a"),
        ("patch = []", ": patch is an empty list: give a value, or leave it out"),
        ("patch = {rows = 3}", ": patch \"{'rows': 3}\" is not valid: use a number of pixels"),
        ("k = 0", ": k '0' is not valid: a dictionary has at least one"),
        ("k = [10, true]", ": k '10,True' is not valid: use numbers, first:last:step"),
        ("k = 1979-05-27", ": k '1979-05-27' is not valid: use numbers"),
        ("seed = true", ": seed true is not valid: use a number or a text"),
        ("seed = 1.5", ": seed 1.5 is not valid: input should be a valid integer"),
        ("dataset = 5", ": dataset 5 is not valid: input should be a valid string"),
        ('mode = ["full", "fast"]', ": mode 'fast' is not valid: input should be 'nested'"),
        ('memory = "8,5GiB"', ": memory '8,5GiB' is not valid: use a size such as 1GiB"),
        (f"seed = 0x{'f' * 9000}", ": seed is a number beyond 64 bits: use a smaller one"),
        (f"k = [0x{'f' * 9000}]", ": k is a number beyond 64 bits: use a smaller one"),
        (
            'dataset = "c.npy"',
            ": no data set 'c.npy': use digits, photos, mnist, fashion-mnist, cifar10, or",
        ),
        ('dataset = "minst"', ": no data set 'minst': did you mean mnist? Or use digits"),
        (
            'dataset = "photos"\ntest = "minst"',
            ": no test images 'minst': use a path as seen from /",
        ),
        ('mask = "m.npy"', ": no mask 'm.npy': use a path as seen from /"),
        (
            'dataset = "photos"\nlabels = "c.csv"',
            ": no file of classes 'c.csv': use a path as seen from /",
        ),
        ('dataset = "no/*.png"', ": no data set 'no/*.png': use digits"),
        ("run = 3", ": run is no list of tables: begin each with [[run]]"),
        ("run = []", ": run is no list of tables"),
        ("[run]\nk = 3", ": run is no list of tables"),
        ("[[run]]\n[[run]]\nsede = 3", ", [[run]] 2: no option 'sede': did you mean seed?"),
        ("[[run]]\n[[run.run]]", ", [[run]] 1: no option 'run'"),
        ("seed = 1\nseed = 2", " is not valid TOML: Cannot overwrite a value"),
        ("mode = full", " is not valid TOML: Invalid value (at line 1, column 8): write name = "),
        (f"k = {'[' * 5000}", " is not valid TOML: "),
        (f"seed = {'9' * 9000}", " is not valid TOML: "),
        ("seed = " + repr([*range(40)]) + "\npatch = " + repr([*range(1, 40)]), ": the lists make"),
    ],
    ids=lambda value: value[:20],
)
def test_what_is_wrong_is_one_line_with_file_key_and_remedy(
    folder: Path, text: str, told: str
) -> None:
    file = written(folder, text)
    message = refusal_of(file)
    assert message.startswith(f"{file}{told}")
    assert len(message) < 500


def test_what_is_no_file_of_options_is_named(folder: Path) -> None:
    assert refusal_of(folder).startswith("no experiment file '/")
    assert refusal_of("absent.toml").endswith("/absent.toml': give one of options in TOML")
    assert len(refusal_of("x" * 5000)) < 200
    assert refusal_of("a\0b").startswith("no experiment file 'a\\x00b': a path has no NUL bytes")
    (folder / "bytes").write_bytes(b"seed = \xff")
    assert "is no text in UTF-8" in refusal_of(folder / "bytes")
    (folder / "large").write_bytes(b"#" * ((1 << 20) + 1))
    assert "is larger than 1 MiB" in refusal_of(folder / "large")


@pytest.fixture
def small(folder: Path) -> Path:
    """A file of two small sweeps, and a third that no image is large enough for."""
    return written(
        folder,
        """
        dataset = "c.npy"
        patch = [2, 3, 9]
        k = [2, 3]
        max_iter = 1
        breathing = 0
        device = "cpu"
        out = "made"
        """,
    )


def json_of(words: list[str]) -> dict[str, Any]:
    code, output, errors = run_here([*words, "--json"])
    assert code == 0, errors
    (line,) = output.splitlines()
    found = json.loads(line)
    assert isinstance(found, dict)
    return found


def test_the_command_line_makes_each_run_and_finds_what_is_there(folder: Path, small: Path) -> None:
    images = np.random.default_rng(0).integers(1, 256, (4, 6, 6), np.uint8)
    np.save(folder / "c.npy", images)
    words = ["--experiment", str(small)]
    code, output, errors = run_here(["sweep", *words])
    assert code == 2
    assert "run 2 of 3: patch 3x3" in errors.splitlines()
    assert errors.splitlines()[-1] == (
        "error: run 3 (patch 9x9): patch 9x9 is larger than the images (6x6): use at most 6x6"
    )
    made = [line for line in output.splitlines() if line.startswith(str(folder / "made"))]
    assert len(made) == 2  # the table of each that was made
    small.write_text(small.read_text().replace(", 9]", "]"))
    swept = json_of(["sweep", *words])
    assert list(swept) == ["experiments"]
    assert [found["experiment"] for found in swept["experiments"]] == made
    entries = [entry for found in swept["experiments"] for entry in found["dictionaries"]]
    assert [(entry["k"], entry["reused"]) for entry in entries] == [(2, True), (3, True)] * 2
    one = json_of(["sweep", *words, "--patch", "2"])
    assert one == swept["experiments"][0] | {"experiments": swept["experiments"][:1]}
    stores = json_of(["extract", *words])["stores"]
    assert [(store["dim"], store["rows"], store["reused"]) for store in stores] == [
        (4, 100, True),
        (9, 64, True),
    ]
    assert json_of(["fit", *words, "--patch", "3", "--k", "2"]) == entries[2]
    code, output, errors = run_here(["fit", *words, "--k", "2"])
    assert (code, output) == (2, "")
    assert errors == "error: fit learns one dictionary, not 2: give one --k, or sweep\n"


def test_a_cap_that_is_too_low_is_refused_before_the_first_run(folder: Path) -> None:
    file = written(folder, 'memory = ["1GiB", "100MB"]\ndataset = "a.npy"\nout = "made"')
    code, _, errors = run_here(["sweep", "--experiment", str(file)])
    assert (code, "more than the cap of 95.4 MiB" in errors) == (2, True)
    assert not (folder / "made").exists()
