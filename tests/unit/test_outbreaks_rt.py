"""R(t) of the reference example, against the field's reference implementation and by hand."""

from __future__ import annotations

import importlib.util
import math
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

EXAMPLE = Path(__file__).parents[2] / "docs" / "examples" / "outbreaks"
FLU = {"si_mean": 2.596, "si_sd": 1.5345305471}
COLUMNS_OF_REFERENCE = {
    "t_start": "t_start",
    "t_end": "t_end",
    "mean": "Mean(R)",
    "sd": "Std(R)",
    "q025": "Quantile.0.025(R)",
    "median": "Median(R)",
    "q975": "Quantile.0.975(R)",
}


@pytest.fixture(scope="module")
def rt() -> ModuleType:
    spec = importlib.util.spec_from_file_location("outbreaks_rt", EXAMPLE / "rt.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def incidence_of(name: str) -> Any:
    return np.loadtxt(EXAMPLE / "data" / f"{name}.csv", delimiter=",", skiprows=1, usecols=2)


def test_agrees_with_the_reference_implementation(rt: ModuleType) -> None:
    path = EXAMPLE / "data" / "reference_flu2009.csv"
    names = path.read_text().splitlines()[0].replace('"', "").split(",")
    reference = np.loadtxt(path, delimiter=",", skiprows=1)

    estimates = rt.estimate_r(incidence_of("flu2009"), **FLU)

    assert estimates.dtype.names == tuple(COLUMNS_OF_REFERENCE)
    for field, column in COLUMNS_OF_REFERENCE.items():
        expected = reference[:, names.index(column)]
        np.testing.assert_allclose(estimates[field], expected, rtol=1e-8, atol=0)


@pytest.mark.parametrize(("mean", "sd"), [(2.596, 1.5345305471), (8.372, 3.7605340046), (14.89965, 3.9201530426)])
def test_serial_interval_sums_to_one_and_keeps_its_mean(rt: ModuleType, mean: float, sd: float) -> None:
    probabilities = rt.discretised_si(200, mean, sd)

    assert probabilities[0] == 0
    assert (probabilities >= 0).all()
    assert probabilities.sum() == pytest.approx(1, abs=1e-12)
    assert probabilities @ np.arange(200) == pytest.approx(mean, abs=1e-9)


def test_serial_interval_by_hand(rt: ModuleType) -> None:
    # Mean 2, sd 1: 1 day plus an exponential time of rate 1. The integrals of exp(-x) under
    # triangles of half-width 1 around 0, 1, 2 ... are 1/e and then (1 - 1/e)^2 / e^(k - 2).
    by_hand = [0, 1 / math.e, *((1 - 1 / math.e) ** 2 / math.e ** (k - 2) for k in range(2, 9))]

    np.testing.assert_allclose(rt.discretised_si(9, 2, 1), by_hand, rtol=1e-12)


def test_posterior_by_hand(rt: ModuleType) -> None:
    # Window of day 2 and 3 after 10 cases on day 1: infectivity is 10 w(1) + 10 w(2) + 4 w(1).
    w1, w2 = 1 / math.e, (1 - 1 / math.e) ** 2

    (estimate,) = rt.estimate_r([10, 4, 6], si_mean=2, si_sd=1, window=2)

    shape, scale = 1 + 4 + 6, 1 / (1 / 5 + 14 * w1 + 10 * w2)
    assert (estimate["t_start"], estimate["t_end"]) == (2, 3)
    assert estimate["mean"] == pytest.approx(shape * scale, rel=1e-12)
    assert estimate["sd"] == pytest.approx(math.sqrt(shape) * scale, rel=1e-12)
    assert estimate["q025"] < estimate["median"] < estimate["q975"]


@pytest.mark.parametrize(("name", "mean", "first"), [("measles1861", 14.89965, 15), ("sars2003", 8.372, 9)])
def test_no_estimate_before_the_mean_serial_interval_has_passed(
    rt: ModuleType, name: str, mean: float, first: int
) -> None:
    estimates = rt.estimate_r(incidence_of(name), mean, 3.8)

    for field in ("mean", "sd", "q025", "median", "q975"):
        known = np.isfinite(estimates[field])
        np.testing.assert_array_equal(known, estimates["t_end"] >= first)


def test_a_window_that_ends_on_the_mean_has_no_estimate(rt: ModuleType) -> None:
    estimates = rt.estimate_r([5, 4, 3, 2], si_mean=3, si_sd=1, window=2)

    assert estimates["t_end"].tolist() == [3, 4]
    assert np.isnan(estimates["mean"]).tolist() == [True, False]


def test_estimates_do_not_depend_on_later_days(rt: ModuleType) -> None:
    cases = incidence_of("measles1861")

    early = rt.estimate_r(cases[:20], 14.89965, 3.9201530426)
    late = rt.estimate_r(cases, 14.89965, 3.9201530426)[: early.size]

    np.testing.assert_array_equal(early["t_end"], late["t_end"])
    np.testing.assert_allclose(early["mean"], late["mean"], rtol=1e-12)


def test_without_any_case_there_is_only_the_prior(rt: ModuleType) -> None:
    estimates = rt.estimate_r(np.zeros(12), **FLU)

    assert estimates.size == 5
    np.testing.assert_allclose(estimates["mean"], 5)
    np.testing.assert_allclose(estimates["sd"], 5)
    np.testing.assert_allclose(estimates["median"], 5 * math.log(2))


def test_after_the_last_case_estimates_drift_to_the_prior(rt: ModuleType) -> None:
    after = rt.estimate_r([*incidence_of("flu2009"), *[0] * 60], **FLU)

    assert np.isfinite(after["mean"]).all()
    assert after["mean"][-1] == pytest.approx(5, rel=1e-6)


@pytest.mark.parametrize("days", [8, 9])
def test_one_row_a_window(rt: ModuleType, days: int) -> None:
    assert rt.estimate_r([1] * days, **FLU).shape == (days - 7,)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"incidence": [1, 2, -3, 4]}, "is -3 on day 3"),
        ({"incidence": [1, math.nan, 3, 4]}, "is nan on day 2"),
        ({"incidence": [1, 2, 3, math.inf]}, "is inf on day 4"),
        ({"incidence": [[1, 2], [3, 4]]}, "not an array of 2 axes"),
        ({"incidence": [1, 2]}, "needs 3 days of incidence, but there are 2"),
        ({"incidence": []}, "needs 3 days of incidence, but there are 0"),
        ({"window": 0}, "window must be at least 1 day, not 0"),
        ({"si_mean": 1}, "si_mean must be a number of days above 1, not 1"),
        ({"si_mean": math.nan}, "si_mean must be"),
        ({"si_sd": 0}, "si_sd must be a number of days above 0, not 0"),
        ({"si_sd": -1}, "si_sd must be"),
    ],
)
def test_bad_input_is_refused(rt: ModuleType, change: dict[str, Any], message: str) -> None:
    good = {"incidence": [1, 2, 3, 4], "si_mean": 2, "si_sd": 1, "window": 2}

    with pytest.raises(ValueError, match=message):
        rt.estimate_r(**good | change)
