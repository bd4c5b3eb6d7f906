"""Annotated images of a recipe, split into training and validation by a hash of their names."""

import hashlib
import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from configs.record_settings import SampleType, Source
from configs.settings import Settings
from data_prep import archives
from data_prep.annotations import Annotation, LabelSet, read_labels
from data_prep.detections import add_detections
from data_prep.label_request import LabelRequest
from data_prep.readers.entries import Split
from data_prep.sampling import scale_weights
from mtcnn_detector.boxes import FloatArray, longer_sides
from mtcnn_detector.errors import UserError
from pipeline.make_command import make_command

SPLITS: tuple[Split, ...] = ("train", "validation")


class LabelledImage(NamedTuple):
    """One annotated image, the kinds of crops that may be cut from it, and its faces' weights."""

    annotation: Annotation
    sample_types: tuple[SampleType, ...]
    weights: FloatArray  # (N,) of its faces, see `sampling.scale_weights`
    weight: float = 1.0  # factor on its numbers of crops


Images = Mapping[Split, Sequence[LabelledImage]]  # of a recipe, by split


def read_sources(folder: Path, sources: Mapping[str, Source]) -> dict[str, list[Annotation]]:
    """Annotations by source; optional sources that are not on this machine are left out.

    Notes on how labels were read are printed, and damages that belong to no image; those of
    training sources, by the label check. Annotations that cannot be used have a `problem`.

    Raises:
        UserError: a source that is not optional is missing, or none is there at all.
    """
    found = {}
    for name, labels in label_sets(folder, sources).items():
        for note in (*labels.notes, *labels.of_no_image):
            print(f"{name}: {note}", file=sys.stderr)
        found[name] = labels.annotations
    return found


def label_sets(
    folder: Path, sources: Mapping[str, Source], use_landmarks: bool = True
) -> dict[str, LabelSet]:
    """As `read_sources`, with what was noted while reading.

    Without landmarks, sources that serve for nothing else are left out.
    """
    found = {}
    for name, source in sources.items():
        if source.landmarks_only and not use_landmarks:
            print(f"{name}: left out, since it is for landmarks alone (data.landmarks: false).")
            continue
        if is_absent(folder, source):
            missing = next(f for f in source.label_files if not (folder / f).exists())
            print(
                f"warning: {name}: {folder / missing} is not there; going on without.",
                file=sys.stderr,
            )
            continue
        found[name] = read_source(folder, name, source, use_landmarks)
    if not found:
        raise UserError(f"{folder} holds none of the recipe's sources: {', '.join(sources)}.")
    return found


def is_absent(folder: Path, source: Source) -> bool:
    """Whether a source is optional and its labels are not on this machine."""
    return source.optional and not all((folder / file).exists() for file in source.label_files)


def read_source(folder: Path, name: str, source: Source, use_landmarks: bool = True) -> LabelSet:
    """The annotations of one source; a missing file of landmarks is a warning.

    Raises:
        UserError: labels or images are missing, or as `annotations.read_labels`.
    """
    for file in (*source.label_files, source.images):
        _require(folder, name, file)
    labels, images = [folder / file for file in source.label_files], folder / source.images
    landmarks = None if source.landmarks is None else folder / source.landmarks
    if not use_landmarks:
        landmarks = None
    if landmarks is not None and not landmarks.exists():
        print(
            f"warning: {name}: {landmarks} is not there; its faces have no landmarks.",
            file=sys.stderr,
        )
        landmarks = None
    found = read_labels(
        LabelRequest(
            source.format,
            tuple(labels),
            images,
            landmarks,
            name,
            categories=source.categories,
            boxes=source.boxes,
            first_pixel=source.first_pixel or 0,
            exif=source.exif,
            landmark_names=source.landmark_names or (),
            columns=source.columns or {},
            use_landmarks=source.use_landmarks and use_landmarks,
        )
    )
    if source.detections is None:
        return found
    detections = folder / source.detections
    if not detections.exists():
        print(
            f"warning: {detections} is not there; faces that nobody labelled count as background.",
            file=sys.stderr,
        )
        return found
    return replace(found, annotations=add_detections(found.annotations, detections, use_landmarks))


def _require(folder: Path, name: str, file: str) -> None:
    """Raise UserError where a file or folder that a source names is not in the data's folder."""
    if (folder / file).exists():
        return
    published = [archive for one in archives.load().values() for archive in one.archives.values()]
    other = None if folder == Path("data") else folder
    remedy = f"the source {name} names it, below data.folder ({folder}): mend the recipe"
    if any(archive.brings([file]) for archive in published):
        remedy = f"`{make_command('data', False, DATA=other)}` downloads what is published"
    raise UserError(
        f'{folder / file} is not there: {remedy}, or SET="data.folder=..." names the folder that '
        "has it."
    )


def labelled_images(
    settings: Settings, balance: float, sets: Mapping[str, LabelSet] | None = None
) -> dict[Split, list[LabelledImage]]:
    """All images of a recipe by split, both split and order a function of their keys.

    Args:
        settings: the recipe.
        balance: see `sampling.scale_weights`.
        sets: the labels of its training sources, if they were read already.

    Raises:
        UserError: as `read_sources`; or two sources list one image, which could be trained on
            by one and held out by the other.
    """
    data = settings.data
    sets = label_sets(Path(data.folder), data.train, data.landmarks) if sets is None else sets
    found = {name: labels.annotations for name, labels in sets.items()}
    owners: dict[Path, str] = {}
    for name, source in found.items():
        for annotation in source:
            owner = owners.setdefault(annotation.image, name)
            if owner != name:
                raise UserError(
                    f"{annotation.image} is listed by {owner} and by {name}: it could be trained "
                    "on by one and held out by the other; drop one of them."
                )
    listed = {data.train[name].split or one.split for name in found for one in found[name]}
    split: dict[Split, list[LabelledImage]] = {"train": [], "validation": []}
    for name, source in found.items():
        settings_of_source = data.train[name]
        usable = [one for one in source if not one.all_empty]
        for annotation, weights in zip(usable, _weights(usable, balance), strict=True):
            drawn = split_hash(annotation.key) < data.validation_fraction
            by_hash: Split = "validation" if drawn else "train"
            own = annotation.split if len(listed) > 1 else None  # else there is but one part
            part = settings_of_source.split or own or by_hash
            kinds = settings_of_source.sample_types
            weight = settings_of_source.sample_weight
            split[part].append(LabelledImage(annotation, kinds, weights, weight))
    for part in SPLITS:
        # By the hash: every shard gets a mixture of sources and events.
        split[part].sort(key=lambda labelled: split_hash(labelled.annotation.key))
    return split


def check_counts(split: Images, fraction: float) -> None:
    """Raise UserError for a recipe without an image to train on, or without one to hold out."""
    counts = {part: len(split[part]) for part in SPLITS}
    total, enough = sum(counts.values()), math.ceil(3 / fraction)
    if all(counts.values()):
        return
    if total < 2:
        raise UserError(
            f"the recipe's sources hold {total} image{'s' * (total != 1)}: at least 2 are needed, "
            f"one to train on and one to hold out, and {enough} for a split by "
            f"data.validation_fraction {fraction:g}."
        )
    empty = next(part for part in SPLITS if not counts[part])
    held_out = [split_hash(one.annotation.key) for part in SPLITS for one in split[part]]
    purpose = "is held out" if empty == "validation" else "is left to train on"
    if min(held_out) < fraction <= max(held_out):  # by their names both parts would have some
        raise UserError(
            f"none of the {total} images {purpose}, by `split:` of their sources or the split of "
            "their labels: leave out `split:`, or give one source the other one."
        )
    wanted = math.ceil(1e3 * (min(held_out) if empty == "validation" else max(held_out))) / 1e3
    advice = (
        f'SET="data.validation_fraction={wanted:g}"' if 0 < wanted < 1 else "split: in a source"
    )
    raise UserError(
        f"none of the {total} images {purpose} at data.validation_fraction {fraction:g}: add "
        f"images ({enough} are enough), or set {advice}."
    )


def fingerprint(split: Images) -> str:
    """16 hexadecimal digits that change with any image listed, box or landmark."""
    total = hashlib.sha256()
    for part in SPLITS:
        for annotation, kinds, *_ in split[part]:
            view = " upright" if annotation.upright else ""
            line = f"{part} {annotation.key} {kinds} {len(annotation.boxes)}{view}\n"
            total.update(line.encode())
            for values in (annotation.boxes, annotation.ignored, annotation.landmarks):
                total.update(values.tobytes())
    return total.hexdigest()[:16]


def split_hash(key: str) -> float:
    """A uniform number in [0, 1) from an image's key: adding images moves no other one."""
    return int.from_bytes(hashlib.sha256(key.encode()).digest()[:7], "big") / 2**56


def _weights(source: list[Annotation], balance: float) -> list[FloatArray]:
    sides = [longer_sides(annotation.boxes) for annotation in source]
    weights = scale_weights(np.concatenate([*sides, np.zeros(0)]), balance)
    return np.split(weights, np.cumsum([len(s) for s in sides])[:-1])
