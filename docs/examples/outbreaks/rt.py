"""The instantaneous reproduction number R(t) of an outbreak, from its daily incidence.

R(t) is the mean number of people whom somebody infected on day t would infect if conditions
stayed as they are that day: an outbreak grows while it is above 1.

The method is that of Cori, Ferguson, Fraser and Cauchemez, "A New Framework and Software to
Estimate Time-Varying Reproduction Numbers During Epidemics", American Journal of Epidemiology
178(9), 2013, https://doi.org/10.1093/aje/kwt133.
"""

from __future__ import annotations

import operator
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import gammainc, gammaincinv

# Gamma prior of R: mean 5 and sd 5, so that an outbreak is not called controlled too easily.
PRIOR_SHAPE = 1.0
PRIOR_SCALE = 5.0

QUANTILES = {"q025": 0.025, "median": 0.5, "q975": 0.975}
FIELDS = np.dtype(
    [("t_start", np.int64), ("t_end", np.int64)] + [(name, np.float64) for name in ("mean", "sd", *QUANTILES)]
)

Floats = npt.NDArray[np.float64]


def estimate_r(incidence: npt.ArrayLike, si_mean: float, si_sd: float, window: int = 7) -> npt.NDArray[Any]:
    """Estimate R(t) over sliding windows, R being constant within each.

    A window without cases falls back towards the prior as infectivity fades: its interval is
    wide and its mean says little. No estimate depends on days after its window.

    Args:
        incidence: New cases a day, shape (days,), from the first day of the outbreak.
        si_mean: Mean of the serial interval in days, above 1.
        si_sd: Standard deviation of the serial interval in days, above 0.
        window: Length of a window in days. The first window starts on day 2, because nobody
            infected the cases of day 1 within the series.

    Returns:
        A structured array, shape (days - window,), a row a window in order of time: `t_start`
        and `t_end`, first and last day of the window (day 1 is the first of the series), and
        `mean`, `sd`, `q025`, `median` and `q975` of the posterior of R (no unit). These are
        NaN in a window that ends before the mean serial interval has passed.

    Raises:
        ValueError: If an argument is out of range, a day's incidence is negative or missing,
            or the series is too short for one window.
    """
    cases = _checked_incidence(incidence, window)
    infectivity = np.convolve(cases, discretised_si(cases.size, si_mean, si_sd))[: cases.size]
    shape = PRIOR_SHAPE + _window_sums(cases, window)
    scale = 1 / (1 / PRIOR_SCALE + _window_sums(infectivity, window))

    estimates = np.empty(cases.size - window, dtype=FIELDS)
    estimates["t_start"] = np.arange(2, cases.size - window + 2)
    estimates["t_end"] = estimates["t_start"] + window - 1
    known = estimates["t_end"] > si_mean
    estimates["mean"] = np.where(known, shape * scale, np.nan)
    estimates["sd"] = np.where(known, np.sqrt(shape) * scale, np.nan)
    for name, quantile in QUANTILES.items():
        estimates[name] = np.where(known, gammaincinv(shape, quantile) * scale, np.nan)
    return estimates


def discretised_si(days: int, si_mean: float, si_sd: float) -> Floats:
    """Probability that a serial interval lasts 0, 1, 2 ... days.

    The serial interval is 1 day plus a gamma distributed time, each instant of which counts
    towards the two whole days around it (Cori et al. 2013, web appendix 11).

    Args:
        days: How many probabilities, from that of 0 days on.
        si_mean: Mean of the serial interval in days, above 1.
        si_sd: Standard deviation of the serial interval in days, above 0.

    Returns:
        The probabilities, shape (days,). The first is 0; enough of them sum to 1.

    Raises:
        ValueError: If the mean or the standard deviation is out of range.
    """
    if not 1 < si_mean < np.inf:
        raise ValueError(f"si_mean must be a number of days above 1, not {si_mean}")
    if not 0 < si_sd < np.inf:
        raise ValueError(f"si_sd must be a number of days above 0, not {si_sd}")
    shape = ((si_mean - 1) / si_sd) ** 2
    scale = si_sd**2 / (si_mean - 1)
    # Column by column: the gamma distribution up to k - 2, k - 1 and k days.
    k = np.arange(days, dtype=np.float64)
    upto = np.maximum(np.subtract.outer(k, [2.0, 1.0, 0.0]), 0)
    weights = np.array([1.0, -2.0, 1.0])
    mass = gammainc(shape, upto / scale)
    moment = shape * scale * gammainc(shape + 1, upto / scale)
    probabilities: Floats = (upto * mass - moment) @ weights
    # Rounding leaves tiny negative numbers far out in the tail.
    return np.maximum(probabilities, 0)


def _checked_incidence(incidence: npt.ArrayLike, window: int) -> Floats:
    """The series as floats, if it is one that R(t) can be estimated from."""
    cases = np.asarray(incidence, dtype=np.float64)
    if cases.ndim != 1:
        raise ValueError(f"incidence must be one number a day, not an array of {cases.ndim} axes")
    bad = np.flatnonzero(~(np.isfinite(cases) & (cases >= 0)))
    if bad.size:
        raise ValueError(
            f"incidence must be a number of cases on every day, but is {cases[bad[0]]:g} on day {bad[0] + 1}"
        )
    if operator.index(window) < 1:
        raise ValueError(f"window must be at least 1 day, not {window}")
    if cases.size <= window:
        raise ValueError(
            f"a window of {window} days from day 2 on needs {window + 1} days of incidence, but there are {cases.size}"
        )
    return cases


def _window_sums(series: Floats, window: int) -> Floats:
    """The sum over every window that starts on day 2 or later."""
    windows = np.lib.stride_tricks.sliding_window_view(series[1:], window)
    sums: Floats = windows.sum(axis=1)
    return sums
