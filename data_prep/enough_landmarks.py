"""Whether the labels have landmarks enough for the nets that are to learn them."""

from pathlib import Path

import numpy as np

from configs.settings import Settings
from data_prep.sources import Images, LabelledImage, is_absent
from mtcnn_detector.boxes import BoolArray, longer_sides
from mtcnn_detector.errors import UserError
from mtcnn_detector.net import NETS
from pipeline.finetuning import begun_again
from pipeline.make_command import make_command

RARE = 0.01  # of the faces: so few are no small set, but labels that lack their landmarks


def refuse_too_few(settings: Settings, images: Images) -> None:
    """Refuse a recipe whose nets learn landmarks that the labels do not have.

    Raises:
        UserError: no face to train on has landmarks; or under `RARE` of them do, and they do not
            fill the part of a batch that `faces_wanted` tells. The sentence says what to type.
    """
    wanted, found, faces = _count(settings, images)
    if found >= wanted or (found and found >= RARE * faces) or not images["train"]:
        return
    command = begun_again(settings, "data.landmarks=false")
    raise UserError(
        f"{found} of {faces} faces to train on have five landmarks, but {_purpose(wanted)}: "
        f"{_remedy(settings)}; or train all nets without landmarks, by `{command}`, or by "
        "`landmarks: false` below `data:` in the recipe."
    )


def faces_wanted(settings: Settings) -> int:
    """How many faces with landmarks a recipe should have at least.

    As many as one batch of the last net has landmark crops: with fewer, every batch shows the same
    faces several times, and the landmarks that a detector gives are those of a few faces. The nets
    before it learn landmarks only beside the boxes: one face will do.
    """
    trained = [settings.for_net(name).train for name in NETS if settings.for_net(name).train.steps]
    last = settings.for_net(NETS[-1]).train
    any_crops = any(train.sample_counts["landmark"] for train in trained)
    return max(last.sample_counts["landmark"] if last.steps else 0, int(any_crops))


def _count(settings: Settings, images: Images) -> tuple[int, int, int]:
    """Faces with landmarks that are wanted and found, and all faces to train on."""
    smallest = settings.data.min_face
    usable = [_usable(one, smallest) for one in images["train"]]
    known = [
        one & np.isfinite(labelled.annotation.landmarks).all(axis=(1, 2))
        for one, labelled in zip(usable, images["train"], strict=True)
        if "landmark" in labelled.sample_types
    ]
    return faces_wanted(settings), sum(map(np.sum, known)), sum(map(np.sum, usable))


def _usable(labelled: LabelledImage, min_face: int) -> BoolArray:
    """(N,) faces of an image that crops are cut of."""
    annotation = labelled.annotation
    usable: BoolArray = ~annotation.ignored & (longer_sides(annotation.boxes) >= min_face)
    return usable


def _purpose(wanted: int) -> str:
    key = f"{NETS[-1]}.train.batch_fractions"
    if wanted > 1:
        return f"a batch of {NETS[-1]} shows the landmarks of {wanted} ({key})"
    return "the nets learn landmarks (train.batch_fractions)"


def _remedy(settings: Settings) -> str:
    """What to do for landmarks: files of the recipe that are not there, or more labels."""
    data = settings.data
    folder = Path(data.folder)
    files = [folder / s.landmarks for s in data.train.values() if s.landmarks is not None]
    for source in data.train.values():
        if is_absent(folder, source) and "landmark" in source.sample_types:
            files += [folder / file for file in source.label_files]
    missing = [str(file) for file in files if not file.exists()]
    if not missing:
        return "label them in more images"
    there = "are not there" if len(missing) > 1 else "is not there"
    return f"{' and '.join(missing)} {there}, which `{make_command('data', False)}` brings"
