"""Annotated images of a recipe, split into training and validation by a hash of their names."""

import hashlib
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np

from configs.settings import SampleType, Settings, Source
from data_prep import annotations
from data_prep.annotations import Annotation
from data_prep.sampling import scale_weights
from mtcnn_detector.boxes import FloatArray, longer_sides
from mtcnn_detector.errors import UserError
from pipeline.make_command import make_command

Split = Literal["train", "validation"]
SPLITS: tuple[Split, ...] = ("train", "validation")


class LabelledImage(NamedTuple):
    """One annotated image, the kinds of crops that may be cut from it, and its faces' weights."""

    annotation: Annotation
    sample_types: tuple[SampleType, ...]
    weights: FloatArray  # (N,) of its faces, see `sampling.scale_weights`


def read_sources(folder: Path, sources: Mapping[str, Source]) -> dict[str, list[Annotation]]:
    """Annotations by source; optional sources that are not on this machine are left out.

    Raises:
        UserError: a source that is not optional is missing, or none is there at all.
    """
    found = {}
    for name, source in sources.items():
        if source.optional and not (folder / source.labels).exists():
            print(
                f"warning: {name}: {folder / source.labels} is not there; going on without.",
                file=sys.stderr,
            )
            continue
        found[name] = read_source(folder, name, source)
    if not found:
        raise UserError(f"{folder} holds none of the recipe's sources: {', '.join(sources)}.")
    return found


def read_source(folder: Path, name: str, source: Source) -> list[Annotation]:
    """The annotations of one source; a missing file of landmarks is a warning.

    Raises:
        UserError: labels or images are missing, or as `annotations.read`.
    """
    labels, images = folder / source.labels, folder / source.images
    for path in (labels, images):
        if not path.exists():
            other = None if folder == Path("data") else folder
            raise UserError(
                f"{path} is not there: `{make_command('wider', False, DATA=other)}` downloads "
                f'WIDER FACE into {folder}, or SET="data.folder=..." names the folder that has it.'
            )
    landmarks = None if source.landmarks is None else folder / source.landmarks
    if landmarks is not None and not landmarks.exists():
        print(
            f"warning: {name}: {landmarks} is not there; its faces have no landmarks.",
            file=sys.stderr,
        )
        landmarks = None
    return annotations.read(source.format, labels, images, landmarks, name)


def labelled_images(settings: Settings, balance: float) -> dict[Split, list[LabelledImage]]:
    """All images of a recipe by split, both split and order a function of their keys.

    Raises:
        UserError: as `read_sources`; or two sources list one image, which could be trained on
            by one and held out by the other.
    """
    data = settings.data
    found = read_sources(Path(data.folder), data.train)
    owners: dict[Path, str] = {}
    for name, source in found.items():
        for annotation in source:
            owner = owners.setdefault(annotation.image, name)
            if owner != name:
                raise UserError(
                    f"{annotation.image} is listed by {owner} and by {name}: it could be trained "
                    "on by one and held out by the other; drop one of them."
                )
    split: dict[Split, list[LabelledImage]] = {"train": [], "validation": []}
    for name, source in found.items():
        kinds = data.train[name].sample_types
        for annotation, weights in zip(source, _weights(source, balance), strict=True):
            part: Split = (
                "validation" if split_hash(annotation.key) < data.validation_fraction else "train"
            )
            split[part].append(LabelledImage(annotation, kinds, weights))
    for part in SPLITS:
        # By the hash: every shard gets a mixture of sources and events.
        split[part].sort(key=lambda labelled: split_hash(labelled.annotation.key))
    return split


def fingerprint(split: Mapping[Split, list[LabelledImage]]) -> str:
    """16 hexadecimal digits that change with any image listed, box or landmark."""
    total = hashlib.sha256()
    for part in SPLITS:
        for annotation, kinds, _ in split[part]:
            total.update(f"{part} {annotation.key} {kinds} {len(annotation.boxes)}\n".encode())
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
