"""`python -m benchmarks.held_out WEIGHTS ...`: weights compared on a recipe's held-out images.

The false alarms decide where a detector works, not its threshold: for each group of sources the
faces found at so many false alarms, over all thresholds of the last net; and the landmark error.
The score at which the middle number is reached tells which `export.score_shift` puts it at 0.7.
"""

import argparse
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
from tqdm import tqdm

from configs import recipe
from configs.settings import Settings
from data_prep.annotations import Annotation
from evaluation import metrics
from evaluation.data_sets import held_out
from evaluation.detections import ImageDetections
from evaluation.metrics import BoxScore
from mtcnn_detector.boxes import longer_sides
from mtcnn_detector.detector import MTCNN
from pipeline.cli import run_cli

FALSE_ALARMS = {"wider": (55, 80, 140)}  # per group of sources; of others (10, 20, 40)
MIN_FACE = 20  # px, longer side; smaller faces are ignored
LOWEST = 0.02  # threshold of the last net


def main() -> None:
    """Print a table for each weights file."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.held_out", description=__doc__)
    parser.add_argument("weights", type=Path, nargs="+")
    parser.add_argument("--config", type=Path, default=Path("configs/weights.yaml"))
    parser.add_argument("--set", nargs="*", default=[], help="settings, as key.path=value")
    parser.add_argument("--thresholds", type=float, nargs=2, default=(0.6, 0.7), help="P R")
    arguments = parser.parse_args()
    settings = recipe.load(arguments.config, arguments.set)
    groups = dict(_groups(settings))
    for path in arguments.weights:
        detector = MTCNN(path, MIN_FACE, (*arguments.thresholds, LOWEST))
        print(f"\n{path}")
        for name, annotations in groups.items():
            print(_row(name, annotations, _detect(detector, name, annotations), settings))


def _groups(settings: Settings) -> Iterator[tuple[str, list[Annotation]]]:
    """The held-out images of the recipe, by groups of sources; sources of landmarks by name."""
    groups: dict[str, list[Annotation]] = defaultdict(list)
    for labelled in held_out(settings):
        source = labelled.annotation.key.partition("/")[0]
        boxed = not settings.data.train[source].landmarks_only
        kind = "masks" if source.startswith(("mafa", "mask")) else "others"
        group = kind if boxed and source != "wider" else source
        groups[group].append(labelled.annotation)
    yield from sorted(groups.items())


def _detect(
    detector: MTCNN, name: str, annotations: list[Annotation]
) -> dict[str, ImageDetections]:
    found = {}
    for annotation in tqdm(annotations, desc=name, unit="img", leave=False, disable=None):
        image = annotation.load()
        if image is not None:
            *before, faces = detector.cascade.stages(image)
            boxes = tuple(stage.boxes for stage in before)
            found[annotation.key] = ImageDetections("", 0.0, faces, boxes)
    return found


def _row(
    name: str,
    annotations: list[Annotation],
    found: Mapping[str, ImageDetections],
    settings: Settings,
) -> str:
    annotations = [one for one in annotations if one.key in found]
    if all(settings.data.train[one.key.partition("/")[0]].landmarks_only for one in annotations):
        return _landmark_row(name, annotations, found)
    for one in annotations:
        one.ignored[longer_sides(one.boxes) < MIN_FACE] = True
    score = metrics.score_boxes(annotations, found, {})
    limits = FALSE_ALARMS.get(name, (10, 20, 40))
    points = [_at_false_alarms(score, limit) for limit in limits]
    boxes = [np.mean([len(one.proposals[net]) for one in found.values()]) for net in (0, 1)]
    pairs = zip(limits, points, strict=True)
    parts = [f"{n} at {k} false alarms (score {t:.3f})" for k, (n, t) in pairs]
    return (
        f"{name}: of {score.faces} faces {', '.join(parts)}; {boxes[0]:.0f} and {boxes[1]:.1f} "
        f"boxes an image; AP {score.curves['plain'].ap:.3f}"
    )


def _at_false_alarms(score: BoxScore, count: int) -> tuple[int, float]:
    """Faces found at the lowest threshold with at most so many false alarms, and the threshold."""
    scores = [one.faces.scores for one in score.detections]
    wrong = np.concatenate([s[m.false_alarm] for s, m in zip(scores, score.matches, strict=True)])
    right = np.concatenate([s[m.found] for s, m in zip(scores, score.matches, strict=True)])
    threshold = float(np.sort(wrong)[::-1][count]) if len(wrong) > count else LOWEST
    return int((right > threshold).sum()), threshold


def _landmark_row(
    name: str, annotations: list[Annotation], found: Mapping[str, ImageDetections]
) -> str:
    landmarks = metrics.score_landmarks(annotations, found)
    if landmarks is None:
        return f"{name}: no landmarks"
    errors = landmarks.errors
    return (
        f"{name}: landmark NME {100 * errors.nme:.2f} %, failures "
        f"{100 * errors.failure_rate:.1f} %, {len(errors.errors)} of {errors.faces} faces"
    )


if __name__ == "__main__":
    run_cli(main)
