"""Recall after each net of the cascade, by face size, on the held-out images of a run.

A net's accuracy on crops does not show how many faces of an image are left after it; this does.
"""

import itertools
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

from configs.settings import Settings
from data_prep.sources import LabelledImage
from evaluation.data_sets import held_out
from evaluation.wording import with_object
from mtcnn_detector import boxes
from mtcnn_detector.boxes import BoolArray, FloatArray
from mtcnn_detector.cascade import Cascade
from mtcnn_detector.errors import UserError
from mtcnn_detector.net import NETS, NetName
from mtcnn_detector.weights import weight_files
from mtcnn_detector.weights.weight_files import TrainedNet
from pipeline import manifest
from pipeline.survival import write_survival

# IoU 0.4 with a squared face makes a training crop a part of it, so the next net can refine it.
SURVIVES, FOUND = 0.4, 0.5
# Crops may show more than the face (`records.context`): they are compared with the face and with
# larger windows about it.
CONTEXTS = (1.0, 1.2, 1.4)
SIZES = (20, 32, 64, 128, 256)  # px, longer side
SPANS = tuple(itertools.pairwise((0, *SIZES, np.inf)))


class Survival(NamedTuple):
    """Which labelled faces (N) of a set of images survive each net (M)."""

    images: int  # that were looked at
    sides: FloatArray  # (N,) px, longer side
    passed: BoolArray  # (N, M)
    boxes: FloatArray  # (M,) mean number of boxes per image after each net


def measure(cascade: Cascade, images: list[LabelledImage], min_face: int) -> Survival:
    """Run the cascade over images and look for every labelled face after every net.

    Ignored faces and those with a longer side below `min_face` px do not count; images that
    training leaves out are left out here.

    Raises:
        UserError: no face counts.
    """
    sides, passed, counts = [], [], []
    for labelled in tqdm(images, unit="img", desc="recall"):
        image = labelled.annotation.load_checked()
        if isinstance(image, str):
            continue
        faces = labelled.annotation.boxes[~labelled.annotation.ignored]
        side = boxes.longer_sides(faces)
        faces, side = faces[side >= min_face], side[side >= min_face]
        stages = cascade.stages(image)
        sides.append(side)
        passed.append(np.stack([survives(s.boxes, faces, n) for n, s in enumerate(stages)], axis=1))
        counts.append([len(stage.scores) for stage in stages])
    if not sum(map(len, sides)):
        raise UserError("no held-out image has a labelled face: raise data.validation_fraction.")
    per_image = np.mean(counts, axis=0)
    return Survival(len(counts), np.concatenate(sides), np.concatenate(passed), per_image)


def survives(detected: FloatArray, faces: FloatArray, stage: int) -> BoolArray:
    """(N,) which of the faces (N, 4) are covered by a box (K, 4) of the net number `stage`.

    The boxes before the last net are crops, always square, so they are compared with the squares
    around the faces: a plate of 4:1 could never reach the IoU with a square.
    """
    if stage == len(NETS) - 1:
        covered: BoolArray = boxes.iou(faces, detected).max(axis=1, initial=0) >= FOUND
        return covered
    squares, windows = boxes.squared(faces), boxes.windows_of(detected)
    overlaps = [boxes.iou(boxes.scaled(squares, c), windows) for c in CONTEXTS]
    covered = np.max(overlaps, axis=0).max(axis=1, initial=0) >= SURVIVES
    return covered


def table(survival: Survival) -> str:
    """A Markdown table: sizes down, nets across."""
    names = NETS[: survival.passed.shape[1]]
    lines = [
        "| longer side, px | faces | " + " | ".join(f"after {n}" for n in names) + " |",
        "| --- " * (2 + len(names)) + "|",
    ]
    for low, high in SPANS:
        rows = (survival.sides >= low) & (survival.sides < high)
        lines += [_row(size_label(low, high), survival.passed[rows])] if rows.any() else []
    lines.append(_row("all", survival.passed))
    per_image = " | ".join(f"{count:.1f}" for count in survival.boxes)
    return "\n".join([*lines, f"| boxes per image | | {per_image} |"])


def size_label(low: float, high: float) -> str:
    """A span of sizes in words."""
    return f"{low:g} to {high:g}" if np.isfinite(high) else f"{low:g} and more"


def _row(label: str, passed: BoolArray) -> str:
    shares = " | ".join(f"{100 * share:.1f} %" for share in passed.mean(axis=0))
    return f"| {label} | {len(passed)} | {shares} |"


def write_report(settings: Settings, name: NetName, run: Path) -> None:
    """Measure a run's nets up to `name`; print the table and write it and `recall.json`.

    Both files lie in `run/<name>`. `recall.json` is what the next stage checks before it begins
    (see `pipeline.survival`). Nothing is measured where the images serve for landmarks alone.

    Args:
        settings: the recipe, whose held-out images are looked at.
        name: the last net to measure.
        run: the folder of the run.

    Raises:
        UserError: the net is not trained; or no held-out image has a face.
    """
    if settings.data.landmarks_only:
        print(f"recall after {name}: not measured, the recipe's images serve for landmarks alone.")
        return
    manifest.require_complete(run / name, f"train-{name}")
    trained: dict[NetName, TrainedNet] = {}
    for net in NETS[: NETS.index(name) + 1]:
        trained |= weight_files.read(run / net / "weights.npz")
    survival = measure_nets(settings, trained)
    thresholds = ", ".join(f"{t:g}" for t in settings.detector.thresholds[: len(trained)])
    text = (
        f"Faces of {survival.images} held-out images that survive at thresholds {thresholds}\n"
        f"(IoU {SURVIVES} of a crop with the square around the face, {FOUND} of a box of the last "
        "net with the face):\n\n" + table(survival)
    )
    text = with_object(text, settings.data.object)
    (run / name / "recall.md").write_text(text + "\n", encoding="utf-8")
    write_survival(run, name, float(survival.passed[:, -1].mean()), len(survival.sides))
    print(f"{text}\n{run / name / 'recall.md'}")


def measure_nets(settings: Settings, trained: Mapping[NetName, TrainedNet]) -> Survival:
    """The survival of the faces on the recipe's held-out images."""
    with_faces = [one for one in held_out(settings) if "positive" in one.sample_types]
    return measure(Cascade(trained, settings.detector), with_faces, settings.data.min_face)
