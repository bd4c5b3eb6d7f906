"""The recall meter: how many faces survive each net of the cascade, by their size.

'The accuracy is 0.95 but it finds nothing' is answered here: a net's accuracy on crops says
little about how many faces of a picture are left after it.
"""

import itertools
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

from configs.settings import Settings
from data_prep.sources import LabelledImage, labelled_images
from mtcnn_detector import boxes, pixels
from mtcnn_detector.boxes import BoolArray, FloatArray
from mtcnn_detector.cascade import Cascade
from mtcnn_detector.errors import UserError
from mtcnn_detector.net import NETS, NetName
from mtcnn_detector.weights import weight_files
from mtcnn_detector.weights.weight_files import TrainedNet

# Crops of this IoU with a face are trained on as parts of it: the next net can still refine them.
SURVIVES, FOUND = 0.4, 0.5
SIZES = (20, 32, 64, 128, 256)  # px, longer side
SPANS = tuple(itertools.pairwise((0, *SIZES, np.inf)))


class Survival(NamedTuple):
    """Faces of a set of pictures and which of them each net lets through."""

    sides: FloatArray  # (N,) px, longer side
    passed: BoolArray  # (N, nets)
    boxes: FloatArray  # (nets,) mean number of boxes a picture that each net lets through


def measure(cascade: Cascade, held_out: list[LabelledImage], min_face: int) -> Survival:
    """Run the cascade over pictures and look for every labelled face after every net."""
    sides, passed, counts = [], [], []
    for picture in tqdm(held_out, unit="img", desc="recall"):
        image = pixels.read_image(picture.annotation.image)
        if image is None:
            continue
        faces = picture.annotation.boxes[~picture.annotation.ignored]
        side = boxes.longer_sides(faces)
        faces, side = faces[side >= min_face], side[side >= min_face]
        stages = cascade.stages(image)
        sides.append(side)
        passed.append(np.stack([survives(s.boxes, faces, n) for n, s in enumerate(stages)], axis=1))
        counts.append([len(stage.scores) for stage in stages])
    if not sum(map(len, sides)):
        raise UserError("no held-out picture has a labelled face: raise data.validation_fraction.")
    return Survival(np.concatenate(sides), np.concatenate(passed), np.mean(counts, axis=0))


def survives(reported: FloatArray, faces: FloatArray, stage: int) -> BoolArray:
    """Which of the faces (N, 4) a net, by its place in the cascade, lets through."""
    last = stage == len(NETS) - 1
    # Only the last net's boxes are meant as annotated ones; the others' are windows.
    found = reported if last else boxes.windows_of(reported)
    overlap = boxes.iou(faces, found).max(axis=1, initial=0)
    seen: BoolArray = overlap >= (FOUND if last else SURVIVES)
    return seen


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
    per_picture = " | ".join(f"{count:.1f}" for count in survival.boxes)
    return "\n".join([*lines, f"| boxes a picture | | {per_picture} |"])


def size_label(low: float, high: float) -> str:
    """A span of sizes in words."""
    return f"{low:g} to {high:g}" if np.isfinite(high) else f"{low:g} and more"


def _row(label: str, passed: BoolArray) -> str:
    shares = " | ".join(f"{100 * share:.1f} %" for share in passed.mean(axis=0))
    return f"| {label} | {len(passed)} | {shares} |"


def report(settings: Settings, name: NetName, run: Path) -> None:
    """Measure the nets up to `name` of a run; print the table and write `run/<name>/recall.md`."""
    trained: dict[NetName, TrainedNet] = {}
    for net in NETS[: NETS.index(name) + 1]:
        trained |= weight_files.read(run / net / "weights.npz")
    text = of_nets(settings, trained)
    (run / name / "recall.md").write_text(text + "\n", encoding="utf-8")
    print(f"{text}\n{run / name / 'recall.md'}")


def of_nets(settings: Settings, trained: Mapping[NetName, TrainedNet]) -> str:
    """The table of these nets over the recipe's held-out pictures."""
    split = labelled_images(settings, settings.pnet.records.scale_balance)["validation"]
    labelled = [picture for picture in split if "positive" in picture.sample_types]
    cascade = Cascade(trained, settings.detector)
    thresholds = ", ".join(f"{t:g}" for t in settings.detector.thresholds[: len(trained)])
    survival = measure(cascade, labelled, settings.data.min_face)
    return (
        f"Faces of {len(labelled)} held-out pictures that survive at thresholds {thresholds}\n"
        f"(IoU {SURVIVES} with a crop, {FOUND} with a box of the last net):\n\n" + table(survival)
    )
