from pathlib import Path
from typing import Any

import pytest

from pipeline.config import FitOptions, PatchOptions, SweepOptions
from pipeline.option_values import STUDY
from storage import InputError


@pytest.mark.parametrize(
    ("text", "sizes"),
    [
        ("100", (100,)),
        ("300,100, 200,100", (100, 200, 300)),
        ("100:300:100", (100, 200, 300)),
        ("2:4", (2, 3, 4)),
        ("5:100:30", (5, 35, 65, 95)),
        ("7,10:30:10", (7, 10, 20, 30)),
        ("10 20", (10, 20)),
        (" 10 , 20\t30 ", (10, 20, 30)),
        ("1e3", (1000,)),
        ("1e2:1E3:300", (100, 400, 700, 1000)),
        ("1:20", tuple(range(1, 21))),
        ("10:100:1", tuple(range(10, 101))),
        ("study", (*range(100, 1001, 100), *range(2000, 10001, 1000))),
    ],
)
def test_k_lists(text: str, sizes: tuple[int, ...]) -> None:
    assert SweepOptions.checked(k=text).sizes == sizes


@pytest.mark.parametrize("text", ["5x7", "5×7", "5*7", " 5 X 7 "])
def test_patches_are_read(text: str) -> None:
    assert SweepOptions.checked(patch=text).patch == (5, 7)


def test_default_sizes_follow_the_data_set() -> None:
    assert len(STUDY) == 19
    assert SweepOptions.checked(dataset="mnist").sizes == STUDY
    assert SweepOptions.checked().sizes == (10, 20, 50, 100, 200, 500, 1000)


def test_values_are_read_with_their_units() -> None:
    options = SweepOptions.checked(patch="5x7", stride="2", threshold="0.1", memory="800MB")
    assert (options.spec.rows, options.spec.cols, options.spec.stride) == (5, 7, 2)
    assert options.spec.threshold == 0.1
    assert options.memory == 800_000_000
    assert PatchOptions.checked(memory="1GiB").memory == 1 << 30
    assert PatchOptions.checked(memory=" 1.5 GiB ").memory == 3 << 29
    assert SweepOptions.checked(device_memory="8GB").device_memory == 8_000_000_000
    assert SweepOptions.checked(device_memory="").device_memory is None


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("k", "0", "k '0' is not valid: a dictionary has at least one"),
        ("k", "-5", "k '-5' is not valid"),
        ("k", "", "k '' is not valid"),
        ("k", "1:2:3:4", "use numbers, first:last:step"),
        ("k", "10:5:1", "the list is empty"),
        ("k", "1:5:0", "use numbers"),
        ("k", "10:100", "that is 91 dictionaries: 10:100:10 for ten of them, 10:100:1 for all"),
        ("k", "5,1:50", "that is 50 dictionaries: 1:50:10 for 5 of them, 1:50:1 for all"),
        ("k", "10-100", "use first:last:step: 10:100:10 for ten of them"),
        ("k", "100-1000", "100:1000:100 for ten of them"),
        ("k", "10-5", "use numbers"),
        ("k", "1.5e1", "use numbers"),
        ("patch", "5x", "use a number of pixels"),
        ("patch", "2.5", "use a number of pixels"),
        ("patch", "5,5", "use 5x5 for rows x columns$"),
        ("patch", "3 5", r"use 3x5 for rows x columns, a file of .* patch = \[3, 5\] for a run of"),
        ("stride", "0", "greater than or equal to 1"),
        ("threshold", "1", "less than 1"),
        ("threshold", "nan", "threshold 'nan'"),
        ("memory", "lots", "use a size such as 1GiB"),
        ("memory", "0", "greater than 0"),
        ("memory", "8,5GiB", "memory '8,5GiB' is not valid: use a size such as 1GiB"),
        ("memory", "1.GiB", "use a size such as 1GiB"),
        ("device_memory", "80%", "device_memory '80%' is not valid: use a size such as 1GiB"),
        ("device_memory", "0", "greater than 0"),
        ("device_memory", "-1GiB", "use a size such as 1GiB"),
        ("mode", "fast", "'nested', 'full' or 'minibatch'"),
        ("init", "k-means||", "'warm', 'k-means\\+\\+' or 'random'"),
        ("breathing", "-1", "greater than or equal to 0"),
        ("min_gain", "1", "less than 1"),
        ("empty", "drop", "'random' or 'split'"),
        ("max_iter", "0", "max_iter '0'"),
        ("batch_size", "1.5", "batch_size '1.5'"),
        ("tol", "-1", "tol '-1'"),
        ("seed", "x", "seed 'x'"),
        ("engine", "gpu", "'auto', 'torch', 'pruned' or 'fused'"),
        ("device_memory", "lots", "use a size such as 1GiB"),
        ("scheduler", "processes:0", "no scheduler .*: use nothing, processes:N"),
        ("scheduler", "threads", "no scheduler .*: use nothing, processes:N"),
        ("dataset", "", "dataset '' is not valid: it is empty: give a path"),  # a variable not set
        ("out", "", "out '' is not valid: it is empty"),
        ("mask", "", "mask '' is not valid: it is empty"),
    ],
)
def test_bad_values_are_one_line_that_says_what_to_do(field: str, value: Any, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        SweepOptions.checked(**{field: value})
    assert "\n" not in str(caught.value)


def test_an_unknown_key_lists_the_valid_ones() -> None:
    with pytest.raises(InputError, match=r"no option 'clusters': use one of .*batch_size"):
        SweepOptions.checked(clusters=3)


def test_paths_are_absolute_and_names_are_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mnist").mkdir()  # a folder of that name changes nothing
    (tmp_path / "x.npy").touch()
    (tmp_path / "x.h5").touch()
    assert SweepOptions.checked(out="runs").out == tmp_path / "runs"
    assert SweepOptions.checked().data == tmp_path / "data"
    assert SweepOptions.checked(dataset="mnist").dataset == "mnist"
    for text in ("x.npy", "x.h5::a/b", "*.png", "mnist/[0-9].png"):
        assert SweepOptions.checked(dataset=text).dataset == str(tmp_path / text)
    for text in ("https://host/a.zarr::0", "absent/x.h5::a", "minst"):
        assert SweepOptions.checked(dataset=text).dataset == text


@pytest.mark.parametrize(
    ("change", "differs"),
    [
        ({"seed": 1}, True),
        ({"init": "random"}, True),
        ({"mode": "minibatch"}, True),
        ({"tol": 0.1}, True),
        ({"max_iter": 7}, True),
        ({"max_iter": 300}, False),  # the default of nested
        ({"empty": "split"}, True),
        ({"batch_size": 10}, False),  # nested has none of a fixed size
        ({"mode": "minibatch", "batch_size": 10}, True),
        ({"breathing": 3}, True),
        ({"mode": "full", "breathing": 3}, False),  # full moves none
        ({"min_gain": 0.01}, True),
        ({"min_gain": 1e-4}, False),  # the default of nested
        ({"mode": "full", "min_gain": 2e-4}, True),
        ({"mode": "full", "min_gain": 0}, False),
        ({"device": "cpu"}, False),
        ({"device_memory": "3GiB"}, False),
        ({"engine": "torch"}, False),
        ({"memory": "3GiB"}, False),
        ({"out": "elsewhere"}, False),
        ({"k": "5"}, False),
    ],
)
def test_digest_holds_what_the_numbers_depend_on(change: dict[str, Any], differs: bool) -> None:
    base = {"mode": change["mode"]} if len(change) > 1 else {}
    one = SweepOptions.checked(**base).digest("train", "test")
    assert (SweepOptions.checked(**change).digest("train", "test") != one) is differs
    assert SweepOptions.checked(**base).digest("other", "test") != one
    assert FitOptions.checked(**base, init="warm").digest("train", "test") == one


def test_every_option_says_what_it_is() -> None:
    for name, field in SweepOptions.model_fields.items():
        assert field.description, name


@pytest.mark.parametrize(
    ("engine", "device", "expected"),
    [
        ("auto", "cpu", 1 << 30),
        ("pruned", "cpu", 1 << 30),
        ("torch", "cpu", 3 << 29),
        ("auto", "cuda", 4 << 30),
        ("torch", "mps", 4 << 30),
    ],
)
def test_a_cap_that_is_not_given_leaves_room_for_libraries(
    engine: str, device: str, expected: int
) -> None:
    assert SweepOptions.checked(engine=engine).on(device).memory == expected
    assert SweepOptions.checked(engine=engine, memory="2GiB").on(device).memory == 2 << 30


def test_former_names_are_taken_with_a_note_and_stored() -> None:
    with pytest.warns(FutureWarning) as notes:
        former = SweepOptions.checked(moves="3", target="0.5")
    assert [str(note.message) for note in notes] == [
        "option moves is called breathing now",
        "option target is called min_gain now",
    ]
    assert former == SweepOptions.checked(breathing=3, min_gain=0.5)
    assert {"moves": 3, "target": 0.5}.items() <= former.in_use().items()
    assert former.in_use().keys().isdisjoint({"breathing", "min_gain"})
    with pytest.raises(InputError, match="no option 'moves': use one of"):
        SweepOptions.checked(moves="3", breathing="4")


def test_digests_name_folders_and_stay() -> None:
    assert SweepOptions.checked(breathing=4).digest("train", "test") == "cb48cb2c"
    full = SweepOptions.checked(mode="full", min_gain=0.01)
    assert full.digest("train", "test") == "1c55efdd"


def test_none_is_as_if_nothing_were_given() -> None:
    nothing = dict.fromkeys(SweepOptions.model_fields)
    assert SweepOptions(**nothing) == SweepOptions()
    assert SweepOptions(**nothing).model_fields_set == set()
    with pytest.raises(InputError, match="no option 'schedule'"):
        SweepOptions.checked(schedule=None)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"preprocess": "pca"}, "preprocess 'pca' is not valid"),
        ({"distance": "manhattan"}, "distance 'manhattan' is not valid"),
        ({"zca_epsilon": 0}, "zca_epsilon 0 is not valid"),
        ({"contrast_floor": -1}, "contrast_floor -1 is not valid"),
    ],
)
def test_bad_preprocessing_is_refused_in_one_line(options: dict[str, object], said: str) -> None:
    with pytest.raises(InputError, match=said):
        FitOptions.checked(**options)
