"""Metrics of one or several detectors as text: a table with a row for each metric."""

import math
from collections.abc import Mapping

from evaluation.metrics import BoxScore, LandmarkScore, Score
from evaluation.wider_ground_truth import LEVELS
from evaluation.wording import with_object

Figures = dict[str, str]  # name of a metric -> its value as it is printed


def figures(result: Score) -> Figures:
    """The metrics of one detector, by their names."""
    rows: Figures = {}
    for name in result.images:
        metrics: Figures = {}
        if name in result.boxes:
            metrics |= _box_figures(result.boxes[name])
        else:
            single = result.single_faces[name]
            metrics[f"faces found (IoU {single.min_overlap})"] = f"{single.found} of {single.faces}"
        if name in result.landmarks:
            metrics |= _landmark_figures(result.landmarks[name], name in result.boxes)
        if name in result.without_landmarks:
            metrics["landmarks"] = "none: no head for them"
        for metric, value in metrics.items():
            rows[f"{name}: {with_object(metric, result.object)}"] = value
    return rows


def _box_figures(boxes: BoxScore) -> Figures:
    f1, threshold = boxes.curves["plain"].best_f1()
    rows = {
        "faces found": f"{boxes.found} of {boxes.faces}",
        "false alarms": f"{boxes.false_alarms} on {len(boxes.annotations)} images",
        "AP": f"{boxes.curves['plain'].ap:.3f}",
        "AP50-95": f"{boxes.mean_ap:.3f}",
        "best F1": f"{f1:.3f} at confidence {confidence(threshold)}" if f1 else "none",
    }
    for level in LEVELS:
        if level in boxes.curves:
            row = f"AP {level}, WIDER protocol on these images"
            rows[row] = f"{boxes.curves[level].ap:.3f}"
    return rows


def confidence(threshold: float) -> str:
    """A threshold in three digits, rounded down so that no box at the threshold is lost."""
    return f"{math.floor(1000 * threshold) / 1000:.3f}"


def _landmark_figures(score: LandmarkScore, with_boxes: bool) -> Figures:
    """Metrics of the landmarks; with their own recall where boxes are evaluated, too."""
    errors = score.errors
    recall = {"faces found with landmarks": f"{len(errors.errors)} of {errors.faces}"}
    return {
        **(recall if with_boxes else {}),
        "landmark NME, of the eye distance": f"{100 * errors.nme:.2f} %",
        "failures (NME over 10 %)": f"{100 * errors.failure_rate:.2f} %",
    }


def table(columns: Mapping[str, Figures]) -> str:
    """A Markdown table: metrics down, weights across."""
    header, rows = as_rows(columns)
    lines = ["| | " + " | ".join(columns) + " |", "| --- " * len(header) + "|"]
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in rows)])


def as_rows(columns: Mapping[str, Figures]) -> tuple[list[str], list[list[str]]]:
    """Header and rows of the table of metrics (down) and weights (across)."""
    names = list(dict.fromkeys(name for figures in columns.values() for name in figures))
    rows = [[name, *(figures.get(name, "") for figures in columns.values())] for name in names]
    return ["", *columns], rows
