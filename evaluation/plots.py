"""The curves of a report and of a sweep, as PNG files."""

import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np

from evaluation.landmark_error import FAILURE
from evaluation.metrics import Score, by_size
from evaluation.sweep import SweepResult

COLOURS = ("#1764ab", "#d95f02")  # the weights, the other weights; apart for the colour-blind too
MISSING = "No curves: they need matplotlib; `.venv/bin/pip install -e '.[report]'` installs it."
MAX_ERROR = 0.2  # of the eye distance, where the landmark curve ends

MEASURES: dict[str, Callable[[SweepResult], float]] = {
    "faces found, %": lambda result: 100 * result.recall,
    "false alarms a picture": lambda result: result.false_alarms,
    "mean score of the found": lambda result: result.confidence,
    "ms a picture, median": lambda result: 1000 * result.seconds,
}


def at_hand() -> bool:
    """Whether there can be curves; says so when not."""
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
    """One curve a weights file in one panel a protocol, as far as the detector's threshold."""
    scores = {label: score.boxes[source] for label, score in columns.items()}
    names = list(dict.fromkeys(name for score in scores.values() for name in score.curves))
    figure, axes = _panels(len(names))
    for axis, name in zip(axes, names, strict=True):
        for (label, score), colour in zip(scores.items(), COLOURS, strict=False):
            curve = score.curves[name]
            told = f"{label}: AP {curve.ap:.3f}"
            axis.plot(curve.recall, curve.precision, color=colour, label=told, linewidth=1.6)
        title = "plain, all faces" if name == "plain" else f"WIDER protocol, {name}"
        axis.set(title=title, xlabel="recall", xlim=(0, 1))
        axis.legend(loc="lower left", frameon=False)
        axis.grid(alpha=0.25)
    least = min(
        curve.precision.min(initial=1) for s in scores.values() for curve in s.curves.values()
    )
    axes[0].set(ylabel="precision", ylim=(max(0, np.floor(10 * least) / 10 - 0.3), 1.02))
    _save(figure, target)


def recall_by_size(columns: Mapping[str, Score], source: str, target: IO[bytes]) -> None:
    """Bars: share of the faces found, in spans of size."""
    figure, (axis,) = _panels(1, width=7.5)
    width = 0.8 / len(columns)
    for at, (label, score) in enumerate(columns.items()):
        rows = by_size(score.boxes[source])
        shares = [100 * row.found / row.faces for row in rows]
        places = np.arange(len(rows)) + (at - (len(columns) - 1) / 2) * width
        bars = axis.bar(places, shares, width * 0.95, color=COLOURS[at], label=label)
        axis.bar_label(bars, fmt="%.0f", padding=1, fontsize=8)
    axis.set_xticks(np.arange(len(rows)), [f"{row.label}\n{row.faces} faces" for row in rows])
    axis.set(title="faces found, by size", xlabel="longer side, px", ylabel="%", ylim=(0, 112))
    axis.legend(loc="upper left", frameon=False, ncols=2)
    _save(figure, target)


def landmark_errors(columns: Mapping[str, Score], source: str, target: IO[bytes]) -> None:
    """The cumulative curve: share of the faces found whose error is at most so much."""
    limits = np.linspace(0, MAX_ERROR, 201)
    figure, (axis,) = _panels(1, width=5.2)
    for (label, score), colour in zip(columns.items(), COLOURS, strict=False):
        landmarks = score.landmarks[source].landmarks
        told = f"{label}: NME {100 * landmarks.nme:.2f} %"
        axis.plot(100 * limits, 100 * landmarks.cumulative(limits), color=colour, label=told)
    axis.axvline(100 * FAILURE, color="0.5", linestyle=":", linewidth=1)
    axis.annotate("failure", (100 * FAILURE, 3), (3, 0), textcoords="offset points", color="0.4")
    axis.set(xlabel="mean error of the five landmarks, % of the eye distance", ylabel="% of faces")
    axis.set(title="landmarks: faces within an error", xlim=(0, 100 * MAX_ERROR), ylim=(0, 102))
    axis.legend(loc="best", framealpha=0.9)
    axis.grid(alpha=0.25)
    _save(figure, target)


def sweep(results: Sequence[SweepResult], target: Path) -> None:
    """What was measured, a row each, over every setting, a column each; the recipe's is a ring."""
    names = list(dict.fromkeys(result.parameter for result in results))
    plt = pyplot()
    grid, size = (len(MEASURES), len(names)), (2.7 * len(names), 8)
    figure, axes = plt.subplots(*grid, figsize=size, sharex="col", sharey="row", squeeze=False)
    for row, (label, read) in zip(axes, MEASURES.items(), strict=True):
        row[0].set_ylabel(label)
        for axis, name in zip(row, names, strict=True):
            line = [(r.value, read(r)) for r in results if r.parameter == name]
            usual = [(r.value, read(r)) for r in results if r.parameter == name and r.usual]
            axis.plot(*zip(*line, strict=True), color=COLOURS[0], marker=".")
            axis.plot(*zip(*usual, strict=True), "o", color=COLOURS[1], fillstyle="none", ms=9)
            axis.grid(alpha=0.25)
        row[0].ticklabel_format(axis="y", useOffset=False)
    for axis, name in zip(axes[-1], names, strict=True):
        axis.set_xlabel(name)
    _save(figure, target)


def _panels(count: int, width: float | None = None) -> tuple[Any, Sequence[Any]]:
    plt = pyplot()
    size = (width or max(3.4 * count, 4.2), 3.5)
    figure, axes = plt.subplots(1, count, figsize=size, squeeze=False, sharey=True)
    return figure, axes[0]


def _save(figure: Any, target: Path | IO[bytes]) -> None:
    figure.tight_layout()
    figure.savefig(target, dpi=110, format="png")
    pyplot().close(figure)
