"""Labelled images of an evaluation: the recipe's validation sources, or its held-out images."""

import re
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from configs.settings import Settings
from data_prep.annotations import Annotation
from data_prep.readers.entries import first_sentences
from data_prep.sources import LabelledImage, is_absent, labelled_images, read_sources
from mtcnn_detector.errors import UserError

HELD_OUT = " held out"  # ends the name of a training source whose held-out images are evaluated


@dataclass(frozen=True)
class DataSet:
    """The annotations of one source, and what is evaluated on it."""

    annotations: list[Annotation]
    has_boxes: bool  # False: one face per image is labelled, so boxes elsewhere are no errors
    labels: Path  # the labels file
    wider_ground_truth: Path | None = None


def data_sets(settings: Settings) -> dict[str, DataSet]:
    """The data sets of an evaluation, by name.

    Without a `data.validation` that is on this machine they are the held-out images of the
    training sources, on which no net was trained. Images that cannot be used are left out, as in
    training.

    Raises:
        UserError: labels are missing or damaged as a whole, no image can be used or is held out.
    """
    data, root = settings.data, Path(settings.data.folder)
    if all(is_absent(root, source) for source in data.validation.values()):
        return _held_out(settings, root)
    return {
        name: DataSet(
            _some_usable(name, annotations),
            not data.validation[name].landmarks_only,
            root / data.validation[name].label_files[0],
            _below(root, data.validation[name].wider_ground_truth),
        )
        for name, annotations in read_sources(root, data.validation).items()
    }


def _some_usable(name: str, annotations: Sequence[Annotation]) -> list[Annotation]:
    if found := usable(name, annotations):
        return found
    raise UserError(
        f"{name}: none of its images can be used: mend them, or name the right folder of images."
    )


def usable(name: str, annotations: Sequence[Annotation]) -> list[Annotation]:
    """Those whose images training would use; a sentence tells which are left out, and why.

    Args:
        name: of the data set, for the sentence.
        annotations: whose images are looked at, by several threads.
    """
    pool = ThreadPoolExecutor()
    try:
        problems = list(pool.map(Annotation.why_left_out, annotations))
    finally:
        pool.shutdown(cancel_futures=True)
    told = [problem for problem in problems if problem is not None]
    if told:
        print(
            f"warning: {name}: {len(told)} of {len(annotations)} images are left out: "
            f"{first_sentences(told)}.",
            file=sys.stderr,
        )
    return [one for one, problem in zip(annotations, problems, strict=True) if problem is None]


def _below(root: Path, path: str | None) -> Path | None:
    return None if path is None else root / path


def held_out(settings: Settings) -> list[LabelledImage]:
    """The images of the training sources that are held out: no net was trained on them."""
    return labelled_images(settings, 0)["validation"]  # their faces' weights do not matter


def _held_out(settings: Settings, root: Path) -> dict[str, DataSet]:
    sets: dict[str, DataSet] = {}
    annotations = [labelled.annotation for labelled in held_out(settings)]
    for annotation in usable("held-out images", annotations):
        name = annotation.key.partition("/")[0]
        source = settings.data.train[name]
        new = DataSet([], not source.landmarks_only, root / source.label_files[0])
        sets.setdefault(name + HELD_OUT, new).annotations.append(annotation)
    if not sets:
        raise UserError(
            "no training image is held out for the evaluation: raise data.validation_fraction, "
            "or name a data.validation in the recipe."
        )
    count = sum(len(one.annotations) for one in sets.values())
    fraction = settings.data.validation_fraction
    print(
        f"{root} holds no data.validation of the recipe, so the held-out training images "
        f"are evaluated: {count}, by data.validation_fraction {fraction:g}. By this recipe, no net "
        "is trained on them."
    )
    return sets


def file_stem(*names: str) -> str:
    """A file name without an ending, from the names of a run and of data sets."""
    return re.sub(r"[^\w.]+", "-", "-".join(names)).strip("-.") or "evaluation"
