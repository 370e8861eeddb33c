"""Numbers as they stand in a sentence."""

from analysis.text import compact, count, listed, number, percent, round_percent, signed, unbroken


def test_nouns_follow_their_numbers() -> None:
    told = [count(n, noun) for noun in ("image", "patch", "dictionary") for n in (1, 1200)]
    one, many = ["1 image", "1 patch", "1 dictionary"], ["images", "patches", "dictionaries"]
    assert told[::2] == one
    assert told[1::2] == [f"1,200 {nouns}" for nouns in many]


def test_names_of_curves_are_short() -> None:
    levels = (16.0, 47.25, 6425.3, 2060.0, 0.0980, 0)
    assert [compact(level) for level in levels] == ["16", "47.2", "6,425", "2,060", "0.098", "0"]


def test_numbers_in_sentences() -> None:
    values = (1418.9, 98.334, 0.042131, 0, float("nan"), 2e7)
    assert " ".join(map(number, values)) == "1,419 98.33 0.04213 0 – 20,000,000"
    assert [percent(share) for share in (0.5, 0.0051, 0, 1)] == ["50.0 %", "0.51 %", "0 %", "100 %"]
    assert percent(float("nan")) == "–"
    assert percent(-1e-9) == "0 %"
    assert [round_percent(share) for share in (0.9, 0.05, 0.025)] == ["90 %", "5 %", "2.5 %"]
    assert signed(-0.3171) == "−0.317"
    assert listed([1000]) == "1,000"
    assert listed([1, 2, 3]) == "1, 2 and 3"
    assert listed(list(range(1, 20))) == "1, 2, 3, …, 18, 19"
    assert listed(list(range(1, 10)), most=9) == "1, 2, 3, 4, 5, 6, 7, 8 and 9"


def test_lines_do_not_end_between_a_number_and_its_unit() -> None:
    assert unbroken("K = 200 takes 5 % on 0 … 255") == (
        "K\u00a0=\u00a0200 takes 5\u00a0% on 0\u00a0…\u00a0255"
    )
