"""Sentences on what is suspicious in labels that can be used."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from configs.settings import Settings
from data_prep.annotations import Annotation, LabelSet
from data_prep.image_check import ImageFacts
from data_prep.orientation import named
from data_prep.sources import Images

MAX_NAMED = 5
WARNED = 0.1  # share of faces or images from which on a property is suspicious
Pairs = Sequence[tuple[Annotation, ImageFacts]]


def warnings(
    annotations: Sequence[Annotation],
    found: Sequence[ImageFacts],
    figures: Mapping[str, int | str],
    min_face: int,
) -> list[str]:
    """Sentences on one source.

    Args:
        annotations: of its images.
        found: facts about the files of these images.
        figures: as in `labels.md`.
        min_face: the recipe's, pixels.
    """
    pairs = list(zip(annotations, found, strict=True))
    rotated = [one for one, fact in pairs if fact.orientation != 1 and not one.upright]
    faces = max(int(figures["faces"]), 1)
    sentences = [*_dropped(annotations), *_twins(pairs), *_converted(pairs)]
    if rotated:
        sentences.append(
            f"{len(rotated)} images have EXIF data that rotate them, but their labels are taken "
            f"to count stored pixels ({named([one.image for one in rotated])}): set exif: upright "
            "if labels.jpg shows them beside the faces."
        )
    if not int(figures["faces"]):
        sentences.append("no face is labelled: all its images are background.")
    shares = {
        f"below min_face ({min_face} px)": (0.5, "set data.min_face lower, or use larger images"),
        "across the border": (WARNED, "are boxes and images of the same size and rotation?"),
        "labelled twice": (WARNED, "is the set merged from two copies?"),
        "landmarks outside their box": (WARNED, "do boxes and landmarks belong together?"),
    }
    for key, (share, question) in shares.items():
        if int(figures.get(key, 0)) > share * faces:
            sentences.append(f"{figures[key]} of {faces} faces are {key}: {question}.")
    return sentences


def _dropped(annotations: Sequence[Annotation]) -> list[str]:
    empty = [one for one in annotations if one.dropped]
    if not empty:
        return []
    return [
        f"{sum(one.dropped for one in empty)} boxes have no width or height, or end before they "
        f"begin, and are dropped ({named([one.image for one in empty])})."
    ]


def _twins(pairs: Pairs) -> list[str]:
    """A sentence about files of the same content under different names."""
    first: dict[str, Path] = {}
    twins = []
    for one, fact in pairs:
        other = first.setdefault(fact.digest, one.image) if fact.digest else one.image
        if other != one.image:
            twins.append(f"{one.image.name} of {other.name}")
    if not twins:
        return []
    more = ", ..." if len(twins) > MAX_NAMED else ""
    return [f"{len(twins)} files are copies of others ({', '.join(twins[:MAX_NAMED])}{more})."]


def _converted(pairs: Pairs) -> list[str]:
    """A sentence about images that are not 8-bit RGB or grey, or of another format than named."""
    unusual = [f"{one.image.name}: {fact.unusual}" for one, fact in pairs if fact.unusual]
    if not unusual:
        return []
    more = ", ..." if len(unusual) > MAX_NAMED else ""
    return [
        f"{len(unusual)} images are read as 8-bit RGB though their files are of another kind "
        f"({', '.join(unusual[:MAX_NAMED])}{more})."
    ]


def copies(images: Images, facts: Mapping[Path, ImageFacts]) -> list[str]:
    """A sentence about held-out images that are trained on under another name."""
    digests = {
        part: {facts[one.annotation.image].digest: one.annotation.image.name for one in labelled}
        for part, labelled in images.items()
    }
    shared = set(digests["train"]) & set(digests["validation"]) - {""}
    if not shared:
        return []
    name = digests["validation"][min(shared)]
    return [
        f"{len(shared)} held-out images are copies of images to train on (first: {name}): the "
        "validation looks better than it is; remove the copies."
    ]


def no_landmarks(settings: Settings, sets: Mapping[str, LabelSet]) -> list[str]:
    """A sentence where landmarks are to be learned, and no face has all five."""
    known = not settings.data.landmarks or any(
        np.isfinite(one.landmarks).all(axis=(1, 2)).any()
        for labels in sets.values()
        for one in labels.annotations
    )
    return [] if known else ["no face has five landmarks: there will be no landmark crops."]
