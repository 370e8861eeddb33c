import numpy as np
import pytest
import xarray
from hypothesis import given
from hypothesis import strategies as st

from analysis import usage
from analysis.measures.usage import usage_of_counts
from storage import InputError


def test_usage_by_hand() -> None:
    # Of all pairs the mean difference, 2 · (0 + 1 + 2 + 1 + 0 + 1 + 1) / 16 … over twice the mean.
    gini = (2 * (1 + 2 + 0 + 1 + 1 + 1) / 16) / (2 * 1)
    uses = {"k": 4, "live": 3, "half": 1, "largest_share": 0.5, "gini": gini}
    uses |= {"entropy": 1.5, "perplexity": 2**1.5}
    assert usage_of_counts(np.array([2, 1, 0, 1])) == pytest.approx(uses)


@pytest.mark.parametrize("k", [1, 10, 1000])
def test_even_use_has_a_perplexity_of_k(k: int) -> None:
    uses = {"k": k, "live": k, "half": (k + 1) // 2, "largest_share": 1 / k, "gini": 0}
    uses |= {"entropy": np.log2(k), "perplexity": k}
    assert usage_of_counts(np.full(k, 7)) == pytest.approx(uses, abs=1e-12)


def test_one_that_takes_all_is_as_uneven_as_can_be() -> None:
    uses = {"k": 4, "live": 1, "half": 1, "largest_share": 1, "gini": 0.75}
    assert usage_of_counts(np.array([0, 0, 9, 0])) == uses | {"entropy": 0, "perplexity": 1}


@given(st.lists(st.integers(0, 10**12), min_size=1, max_size=30).filter(any))
def test_gini_is_half_the_relative_mean_difference(counts: list[int]) -> None:
    values = np.array(counts)
    pairs = np.abs(values[:, np.newaxis] - values).mean() / (2 * values.mean())
    use = usage_of_counts(values)
    assert use["gini"] == pytest.approx(pairs, abs=1e-9)
    assert use == usage_of_counts(values[::-1])


def test_usage_without_rows_is_refused() -> None:
    with pytest.raises(InputError, match="no row"):
        usage_of_counts(np.zeros(3, np.int64))


def dictionary(channels: int = 1) -> xarray.Dataset:
    axes = ("atom", "row", "col", "channel")
    return xarray.Dataset(
        {
            "centroids": (axes, np.zeros((4, 2, 3, channels), np.float32)),
            "count": ("atom", np.array([2, 5, 0, 2])),
            "sse": ("atom", np.array([60.0, 0.0, 0.0, 180.0])),
        }
    )


@pytest.mark.parametrize("channels", [1, 3])
def test_usage_of_a_dictionary_by_hand(channels: int) -> None:
    found = usage(dictionary(channels))
    assert set(found.dims) == {"atom"}
    assert found["count"].values.tolist() == [2, 5, 0, 2]
    assert found["share"].values == pytest.approx([2 / 9, 5 / 9, 0, 2 / 9])
    assert found["sse_share"].values.tolist() == [0.25, 0, 0, 0.75]
    expected = np.array([5.0, 0.0, np.nan, 15.0]) / channels
    np.testing.assert_allclose(found["mse"].values, expected)
    assert found["rank"].values.tolist() == [2, 1, 4, 3]
    assert found["live"] == 3
    assert found["half"] == 1
    assert found["gini"] == pytest.approx(usage_of_counts(np.array([2, 5, 0, 2]))["gini"])


def test_shares_of_the_error_are_unknown_where_there_is_none() -> None:
    exact = dictionary()
    exact["sse"][:] = 0
    assert np.isnan(usage(exact)["sse_share"]).all()


def test_usage_names_its_units_and_reads_a_node_of_a_tree() -> None:
    tree = xarray.DataTree.from_dict({"k00004": dictionary()})
    tree.attrs["source"] = {"dtype": "uint8"}
    found = usage(tree["k00004"])
    assert found.equals(usage(dictionary()))
    assert found["mse"].attrs["units"] == "squared grey levels"
    assert usage(dictionary())["mse"].attrs["units"] == "squared pixel levels"
    for name in found.data_vars:
        assert found[name].attrs["units"]
        assert found[name].attrs["long_name"]
