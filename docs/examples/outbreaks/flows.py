"""How fast did four outbreaks spread? R(t) of each, compared, and again when new days come in.

Run it with `aero run docs/examples/outbreaks/flows.py`. The series lie beside this file; with
OUTBREAKS_URL they come from there, growing day by day: see replay.py.
"""

import csv
import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib.recfunctions import append_fields
from rt import estimate_r

from aero_core import AeroOutput, PolicyEnum, analysis, ingest

URL = os.environ.get("OUTBREAKS_URL")
SOURCE = URL or (Path(__file__).resolve().parent / "data").as_uri()
EVERY = os.environ.get("OUTBREAKS_EVERY", "2s") if URL else "1d"
SERIAL_INTERVALS = {  # in days
    "flu1918": {"si_mean": 2.596, "si_sd": 1.5345305471},
    "flu2009": {"si_mean": 2.596, "si_sd": 1.5345305471},
    "measles1861": {"si_mean": 14.89965, "si_sd": 3.9201530426},
    "sars2003": {"si_mean": 8.372, "si_sd": 3.7605340046},
}
TITLES = {
    "flu1918": "Influenza, Baltimore, 1918",
    "flu2009": "Influenza, a school in Pennsylvania, 2009",
    "measles1861": "Measles, Hagelloch, 1861",
    "sars2003": "SARS, Hong Kong, 2003",
}
COLUMNS = ["outbreak", "days", "cases", "r_day", "r", "r_low", "r_high", "max_r", "below_1_day"]


def r_of_t(series: str, si_mean: float, si_sd: float) -> AeroOutput:
    """R of every week of a series, with the cases of that week and all cases until its end."""
    incidence = np.loadtxt(series, delimiter=",", skiprows=1, usecols=2, ndmin=1)
    total = np.cumsum(incidence)
    cases = [total[7:] - total[:-7], total[7:]]
    weeks: Any = estimate_r(incidence, si_mean, si_sd, window=7)
    weeks = append_fields(weeks, ["cases", "total"], cases, usemask=False)
    header = ",".join(weeks.dtype.names)
    np.savetxt("rt.csv", weeks, fmt="%.12g", delimiter=",", header=header, comments="")
    return AeroOutput("rt", "rt.csv")


def known(weeks: Any) -> Any:
    """The weeks that say something: in one without cases, R drifts back to its prior."""
    return weeks[np.isfinite(weeks["mean"]) & (weeks["cases"] > 0)]


def summary(name: str, weeks: Any) -> dict[str, Any]:
    """The latest R, the highest, and the first day with the whole 95 % interval below 1."""
    row = {"outbreak": name, "days": int(weeks["t_end"][-1]), "cases": int(weeks["total"][-1])}
    data = known(weeks)
    if data.size:
        last = data[-1]
        row |= {"r_day": int(last["t_end"]), "r": round(last["mean"], 3)}
        row |= {"r_low": round(last["q025"], 3), "r_high": round(last["q975"], 3)}
        row["max_r"] = round(data["mean"].max(), 3)
    below = data["t_end"][data["q975"] < 1]
    if below.size:
        row["below_1_day"] = int(below[0])
    return row


def draw(outbreaks: dict[str, Any], footnote: str) -> None:
    """A panel an outbreak: R and its 95 % interval, on an axis of doublings."""
    from matplotlib.figure import Figure  # slow to import, and only this function needs it

    figure = Figure(figsize=(8, 6), layout="constrained")
    figure.suptitle("Reproduction number R over the past week: mean and 95 % interval")
    ticks = [1 / 8, 1 / 4, 1 / 2, 1, 2, 4, 8]
    panels = figure.subplots(2, 2, sharey=True).flat
    for panel, (name, weeks) in zip(panels, outbreaks.items(), strict=True):
        data = known(weeks)
        panel.fill_between("t_end", "q025", "q975", data=data, color="#0072B2", alpha=0.25, lw=0)
        panel.plot("t_end", "mean", data=data, color="#0072B2", marker=".", ms=3, lw=1.2)
        panel.axhline(1, color="black", lw=0.8, ls="--")
        panel.set(yscale="log", ylim=(1 / 32, 16), xlim=(0, weeks["t_end"][-1] + 1), xlabel="day")
        panel.set_yticks(ticks, [f"{tick:g}" for tick in ticks])
        panel.minorticks_off()
        panel.spines[["top", "right"]].set_visible(False)
        panel.set_title(TITLES[name], loc="left", fontsize="medium")
    figure.supxlabel(footnote, fontsize=6)
    figure.savefig("plot.png", dpi=150)


cases = {name: ingest(f"cases_{name}", url=f"{SOURCE}/{name}.csv", every=EVERY) for name in TITLES}
r_flows = {
    name: analysis(r_of_t, name=f"rt_{name}", inputs={"series": cases[name]}, kwargs=interval)
    for name, interval in SERIAL_INTERVALS.items()
}


@analysis(inputs={"estimates": r_flows}, policy=PolicyEnum.ALL, outputs=["table", "plot"])
def comparison(estimates: dict[str, str], run: Any) -> list[AeroOutput]:
    """A table and a plot of all outbreaks, made again once each of them has news."""
    outbreaks = {name: np.genfromtxt(path, delimiter=",", names=True, ndmin=1) for name, path in estimates.items()}
    with Path("table.csv").open("w", newline="") as file:
        table = csv.DictWriter(file, COLUMNS)
        table.writeheader()
        table.writerows(summary(name, weeks) for name, weeks in outbreaks.items())
    versions = "   ".join(f"{name}@{number}" for name, number in run.versions.items())
    draw(outbreaks, f"run {run.id}   from {versions}")
    return [AeroOutput("table", "table.csv"), AeroOutput("plot", "plot.png")]
