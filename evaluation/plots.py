"""Plots of a report and of a sweep, as PNG files."""

import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np

from evaluation.landmark_error import FAILURE
from evaluation.metrics import Score
from evaluation.metrics import recall_by_size as recall_rows
from evaluation.sweep import SweepResult
from evaluation.wording import plural

COLOURS = ("#1764ab", "#d95f02")  # first and other weights; distinct for the colour-blind too
MISSING = "No curves: they need matplotlib; `.venv/bin/pip install -e '.[report]'` installs it."
MAX_ERROR = 0.2  # of the eye distance, right end of the landmark curve

MEASURES: dict[str, Callable[[SweepResult], float]] = {
    "faces found, %": lambda result: 100 * result.recall,
    "false alarms per image": lambda result: result.false_alarms,
    "mean score of faces found": lambda result: result.confidence,
    "ms per image, median": lambda result: 1000 * result.seconds,
}


def available() -> bool:
    """Whether matplotlib is installed; prints a warning when it is not."""
    try:
        pyplot()
    except ImportError:
        print(f"warning: {MISSING}", file=sys.stderr)
        return False
    return True


def pyplot() -> Any:
    """Matplotlib, drawing into files."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    plt.rcParams.update({"axes.spines.top": False, "axes.spines.right": False, "font.size": 9})
    return plt


def precision_recall(columns: Mapping[str, Score], source: str, target: IO[bytes]) -> None:
    """Precision against recall down to the detector's threshold: a panel for each protocol."""
    scores = {label: score.boxes[source] for label, score in columns.items()}
    names = list(dict.fromkeys(name for score in scores.values() for name in score.curves))
    figure, axes = _panels(len(names))
    for axis, name in zip(axes, names, strict=True):
        for (label, score), colour in zip(scores.items(), COLOURS, strict=False):
            curve = score.curves[name]
            legend = f"{_plain(label)}: AP {curve.ap:.3f}"
            axis.plot(curve.recall, curve.precision, color=colour, label=legend, linewidth=1.6)
        title = (
            f"plain, all {plural(_noun(columns))}" if name == "plain" else f"WIDER protocol, {name}"
        )
        axis.set(title=title, xlabel="recall", xlim=(0, 1))
        axis.legend(loc="lower left", frameon=False)
        axis.grid(alpha=0.25)
    lowest = min(
        curve.precision.min(initial=1) for s in scores.values() for curve in s.curves.values()
    )
    axes[0].set(ylabel="precision", ylim=(max(0, np.floor(10 * lowest) / 10 - 0.3), 1.02))
    _save(figure, target)


def recall_by_size(columns: Mapping[str, Score], source: str, target: IO[bytes]) -> None:
    """Bars: share of the faces found, by span of sizes."""
    figure, (axis,) = _panels(1, width=7.5)
    nouns = plural(_noun(columns))
    width = 0.8 / len(columns)
    for column, (label, score) in enumerate(columns.items()):
        rows = recall_rows(score.boxes[source])
        shares = [100 * row.found / row.faces for row in rows]
        centres = np.arange(len(rows)) + (column - (len(columns) - 1) / 2) * width
        bars = axis.bar(centres, shares, width * 0.95, color=COLOURS[column], label=_plain(label))
        axis.bar_label(bars, fmt="%.0f", padding=1, fontsize=8)
    axis.set_xticks(np.arange(len(rows)), [f"{row.label}\n{row.faces} {nouns}" for row in rows])
    axis.set(title=f"{nouns} found, by size", xlabel="longer side, px", ylabel="%", ylim=(0, 128))
    axis.legend(loc="upper left", frameon=False, ncols=2)
    _save(figure, target)


def landmark_errors(columns: Mapping[str, Score], source: str, target: IO[bytes]) -> None:
    """Cumulative curve: share of the faces found whose landmark error is at most x."""
    limits = np.linspace(0, MAX_ERROR, 201)
    figure, (axis,) = _panels(1, width=5.2)
    for (label, score), colour in zip(columns.items(), COLOURS, strict=False):
        if source not in score.landmarks:
            continue  # weights without a head for them
        errors = score.landmarks[source].errors
        legend = f"{_plain(label)}: NME {100 * errors.nme:.2f} %"
        axis.plot(100 * limits, 100 * errors.cumulative(limits), color=colour, label=legend)
    axis.axvline(100 * FAILURE, color="0.5", linestyle=":", linewidth=1)
    axis.annotate("failure", (100 * FAILURE, 3), (3, 0), textcoords="offset points", color="0.4")
    axis.set(
        xlabel="mean error of the five landmarks, % of the eye distance",
        ylabel=f"% of {plural(_noun(columns))}",
    )
    axis.set(
        title=f"landmarks: {plural(_noun(columns))} within an error",
        xlim=(0, 100 * MAX_ERROR),
        ylim=(0, 102),
    )
    axis.legend(loc="best", framealpha=0.9)
    axis.grid(alpha=0.25)
    _save(figure, target)


def sweep(results: Sequence[SweepResult], target: Path) -> None:
    """A grid: a row for each measure, a column for each parameter; a ring marks the recipe's."""
    names = list(dict.fromkeys(result.parameter for result in results))
    plt = pyplot()
    grid, size = (len(MEASURES), len(names)), (2.7 * len(names), 8)
    figure, axes = plt.subplots(*grid, figsize=size, sharex="col", sharey="row", squeeze=False)
    for row, (label, read) in zip(axes, MEASURES.items(), strict=True):
        row[0].set_ylabel(label)
        for axis, name in zip(row, names, strict=True):
            line = [(r.value, read(r)) for r in results if r.parameter == name]
            default = [(r.value, read(r)) for r in results if r.parameter == name and r.default]
            axis.plot(*zip(*line, strict=True), color=COLOURS[0], marker=".")
            axis.plot(*zip(*default, strict=True), "o", color=COLOURS[1], fillstyle="none", ms=9)
            axis.grid(alpha=0.25)
        row[0].ticklabel_format(axis="y", useOffset=False)
    for axis, name in zip(axes[-1], names, strict=True):
        axis.set_xlabel(name)
    _save(figure, target)


def _plain(label: str) -> str:
    """A label as matplotlib shows it as it is: neither a formula nor hidden from the legend."""
    shown = label.replace("$", r"\$")
    return f" {shown}" if shown.startswith("_") else shown


def _noun(columns: Mapping[str, Score]) -> str:
    return next(iter(columns.values())).object


def _panels(count: int, width: float | None = None) -> tuple[Any, Sequence[Any]]:
    plt = pyplot()
    size = (width or max(3.4 * count, 4.2), 3.5)
    figure, axes = plt.subplots(1, count, figsize=size, squeeze=False, sharey=True)
    return figure, axes[0]


def _save(figure: Any, target: Path | IO[bytes]) -> None:
    figure.tight_layout()
    figure.savefig(target, dpi=110, format="png")
    pyplot().close(figure)
