"""What each setting of the detector does to what it finds, and to its time.

One setting at a time is changed, the others stay at the recipe's.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

from configs.settings import Settings
from data_prep.annotations import Annotation
from data_prep.sources import read_sources
from evaluation import detections
from evaluation.detections import ImageDetections, Runtime
from evaluation.metrics import judge_boxes
from mtcnn_detector.errors import UserError
from mtcnn_detector.net import NETS
from mtcnn_detector.settings import DetectorSettings


class Parameter(NamedTuple):
    """A setting that is varied."""

    read: Callable[[DetectorSettings], float]
    changed: Callable[[DetectorSettings, float], DetectorSettings]
    values: tuple[float, ...]


def _threshold(place: int, values: tuple[float, ...]) -> Parameter:
    def changed(detector: DetectorSettings, value: float) -> DetectorSettings:
        thresholds = detector.thresholds
        return detector.at([*thresholds[:place], value, *thresholds[place + 1 :]])

    return Parameter(lambda detector: detector.thresholds[place], changed, values)


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
    """One value of one setting, and what came of it."""

    parameter: str
    value: float
    usual: bool  # whether it is the recipe's value
    recall: float  # share of the labelled faces
    false_alarms: float  # a picture
    confidence: float  # mean score of the boxes that found a face; NaN without any
    seconds: float  # a picture, median: the first of a setting pays for the start


def choose(settings: Settings, count: int) -> list[Annotation]:
    """At most `count` of the pictures whose boxes are judged, evenly chosen."""
    sources = settings.data.validation
    labelled = {name: source for name, source in sources.items() if not source.landmarks_only}
    if not labelled:
        raise UserError("the sweep needs labelled boxes: data.validation has only landmarks.")
    found = read_sources(Path(settings.data.folder), labelled)
    every = [picture for source in found.values() for picture in source]
    rows = np.unique(np.linspace(0, len(every) - 1, min(count, len(every))).round().astype(int))
    return [every[row] for row in rows]


def variants(start: DetectorSettings) -> list[tuple[str, float, DetectorSettings]]:
    """Every value of every parameter, one changed at a time; the recipe's own is among them."""
    return [
        (name, value, parameter.changed(start, value))
        for name, parameter in PARAMETERS.items()
        for value in sorted({*parameter.values, parameter.read(start)})
    ]


def measure(
    start: DetectorSettings,
    runtime: Runtime,
    weights: Path,
    pictures: Sequence[Annotation],
    logs: Path,
) -> list[SweepResult]:
    """The results of the sweep; settings one after another, detections logged below `logs`."""
    results = []
    for name, value, detector in tqdm(variants(start), unit="setting", desc="sweep"):
        log = detections.log_folder(logs, weights, detector, runtime) / "sweep.jsonl"
        run = detections.when_needed(runtime, weights, detector)
        seen = detections.detect_all(run, pictures, log)
        results.append(summary(name, value, detector == start, pictures, seen))
    return results


def summary(
    parameter: str,
    value: float,
    usual: bool,
    pictures: Sequence[Annotation],
    seen: Mapping[str, ImageDetections],
) -> SweepResult:
    """What was found at one setting."""
    judged = judge_boxes(list(pictures), seen, {})
    hits = [s.faces.scores[f.found] for s, f in zip(judged.seen, judged.matches, strict=True)]
    scores = np.concatenate(hits)
    return SweepResult(
        parameter,
        value,
        usual,
        judged.found / judged.faces,
        judged.false_alarms / len(pictures),
        float(scores.mean()) if len(scores) else float("nan"),
        float(np.median([one.seconds for one in seen.values()])),
    )


def table(results: Sequence[SweepResult]) -> str:
    """A Markdown table, a row a result."""
    heads = ("setting", "value", "faces found", "false alarms a picture", "mean score of the found")
    lines = [f"| {' | '.join((*heads, 'ms a picture, median'))} |", "| --- | --- |" + " ---: |" * 4]
    for result in results:
        value = f"**{result.value:g}**" if result.usual else f"{result.value:g}"
        confidence = "-" if np.isnan(result.confidence) else f"{result.confidence:.3f}"
        found = f"{100 * result.recall:.1f} % | {result.false_alarms:.2f} | {confidence}"
        lines.append(f"| {result.parameter} | {value} | {found} | {1000 * result.seconds:.0f} |")
    return "\n".join(lines)
