"""Parameter sweep of the detector: recall, false alarms and time, one setting varied at a time."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

from configs.settings import Settings
from data_prep.annotations import Annotation
from evaluation import detections
from evaluation.data_sets import data_sets
from evaluation.detections import ImageDetections, Runtime
from evaluation.metrics import score_boxes
from mtcnn_detector.errors import UserError
from mtcnn_detector.net import NETS
from mtcnn_detector.settings import DetectorSettings


class Parameter(NamedTuple):
    """A setting that the sweep varies."""

    read: Callable[[DetectorSettings], float]
    replaced: Callable[[DetectorSettings, float], DetectorSettings]
    values: tuple[float, ...]


def _threshold(place: int, values: tuple[float, ...]) -> Parameter:
    def replaced(detector: DetectorSettings, value: float) -> DetectorSettings:
        thresholds = detector.thresholds
        return detector.at([*thresholds[:place], value, *thresholds[place + 1 :]])

    return Parameter(lambda detector: detector.thresholds[place], replaced, values)


# In the order of NETS.
THRESHOLDS = ((0.4, 0.5, 0.6, 0.7, 0.8), (0.5, 0.6, 0.7, 0.8, 0.9), (0.5, 0.7, 0.8, 0.9, 0.95))
PARAMETERS = {
    "min_face_size": Parameter(
        lambda detector: detector.min_face_size,
        lambda detector, value: replace(detector, min_face_size=int(value)),
        (12, 20, 30, 40, 60),
    ),
    **{
        f"threshold of {net}": _threshold(place, THRESHOLDS[place])
        for place, net in enumerate(NETS)
    },
    "scale_factor": Parameter(
        lambda detector: detector.scale_factor,
        lambda detector, value: replace(detector, scale_factor=value),
        (0.5, 0.6, 0.709, 0.8, 0.9),
    ),
}


class SweepResult(NamedTuple):
    """Measurements at one value of one parameter."""

    parameter: str
    value: float
    default: bool  # whether it is the recipe's value
    recall: float  # share of the labelled faces found
    false_alarms: float  # per image
    confidence: float  # mean score of the boxes that found a face; NaN where none did
    seconds: float  # per image, median: the first image of a setting pays for the start


def choose(settings: Settings, count: int) -> list[Annotation]:
    """At most `count` images with labelled boxes, evenly spaced over all of them.

    Raises:
        UserError: no source that is on this machine has labelled boxes.
    """
    sets = data_sets(settings)
    labelled = [data for data in sets.values() if data.has_boxes]
    if not labelled:
        names = ", ".join(sets)
        raise UserError(f"the sweep needs labelled boxes: {names} serve for landmarks alone.")
    annotations = [annotation for data in labelled for annotation in data.annotations]
    spaced = np.linspace(0, len(annotations) - 1, min(count, len(annotations)))
    return [annotations[row] for row in np.unique(spaced.round().astype(int))]


def variants(start: DetectorSettings) -> list[tuple[str, float, DetectorSettings]]:
    """Parameter, value and settings of every step; the recipe's own values are among them."""
    return [
        (name, value, parameter.replaced(start, value))
        for name, parameter in PARAMETERS.items()
        for value in sorted({*parameter.values, parameter.read(start)})
    ]


def measure(
    start: DetectorSettings,
    runtime: Runtime,
    weights: Path,
    annotations: Sequence[Annotation],
    logs: Path,
) -> list[SweepResult]:
    """Run or resume the sweep, one setting after another; detections are logged below `logs`."""
    results = []
    for name, value, detector in tqdm(variants(start), unit="setting", desc="sweep"):
        log = detections.log_folder(logs, weights, detector, runtime) / "sweep.jsonl"
        run = detections.lazy_detector(runtime, weights, detector)
        found = detections.detect_all(run, annotations, log)
        results.append(summary(name, value, detector == start, annotations, found))
    return results


def summary(
    parameter: str,
    value: float,
    default: bool,
    annotations: Sequence[Annotation],
    found: Mapping[str, ImageDetections],
) -> SweepResult:
    """The measurements of one setting from its detections, by image key."""
    result = score_boxes(list(annotations), found, {})
    rows = zip(result.detections, result.matches, strict=True)
    hits = [detections.faces.scores[match.found] for detections, match in rows]
    scores = np.concatenate(hits)
    return SweepResult(
        parameter,
        value,
        default,
        result.found / result.faces,
        result.false_alarms / len(annotations),
        float(scores.mean()) if len(scores) else float("nan"),
        float(np.median([one.seconds for one in found.values()])),
    )


def table(results: Sequence[SweepResult]) -> str:
    """A Markdown table with a row for each result."""
    heads = (
        "setting",
        "value",
        "faces found",
        "false alarms per image",
        "mean score of faces found",
    )
    lines = [f"| {' | '.join((*heads, 'ms per image, median'))} |", "| --- | --- |" + " ---: |" * 4]
    for result in results:
        value = f"**{result.value:g}**" if result.default else f"{result.value:g}"
        confidence = "-" if np.isnan(result.confidence) else f"{result.confidence:.3f}"
        found = f"{100 * result.recall:.1f} % | {result.false_alarms:.2f} | {confidence}"
        lines.append(f"| {result.parameter} | {value} | {found} | {1000 * result.seconds:.0f} |")
    return "\n".join(lines)
