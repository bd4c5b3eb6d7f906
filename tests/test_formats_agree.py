"""The same labels in every format: the same annotations, figures and records."""

import hashlib
import re
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from configs import recipe
from configs.settings import Settings
from data_prep import label_check, worker
from data_prep.annotations import Annotation
from data_prep.image_headers import read_header
from data_prep.readers.entries import Split
from data_prep.sources import LabelledImage, label_sets, labelled_images
from tests.data_sets import MTCNN
from tests.label_files import (
    LISTS,
    SCENES,
    SECOND_FILES,
    WITHOUT_LANDMARKS,
    WRITERS,
    Box,
    Point,
    Scene,
    faces,
    points,
    write_images,
)

EVERY = {**WRITERS, **LISTS}
BOTH = [name for name in EVERY if name not in ("yolo", "yolo-pose", "voc", "mtfl")]
WITH = [*BOTH, "yolo-pose", "mtfl"]
WITHOUT = [*BOTH, *WITHOUT_LANDMARKS]
WIDER = Path(__file__).parents[2] / "shared" / "data" / "wider"
COUNTS = (
    "negatives_per_image: 3, negatives_per_face: 1, positives_per_face: 2, parts_per_face: 1, "
    "landmarks_per_face: 2, images_per_shard: 32"
)


class Made(NamedTuple):
    """What a data set in one format leads to."""

    split: dict[str, list[str]]
    annotations: dict[str, Annotation]
    report: str  # `labels.md` but for the name of the format, and how images were found
    crops: str  # digest of P-Net's, pixels and targets
    notes: list[str]


def settings_of(folder: Path, images: Path, name: str, labels: Path, landmarks: bool) -> Settings:
    second = SECOND_FILES.get(name) if landmarks else None
    source = f"format: {name.split('-')[0]}, labels: {labels}, images: {images}"
    source += f", landmarks: {folder / second}" if second else ""
    lines = [
        f"base: {MTCNN}",
        f"data: {{folder: {folder}, validation_fraction: 0.2, train: {{own: {{{source}}}}}}}",
        f"pnet: {{records: {{{COUNTS}}}}}",
    ]
    (folder / "recipe.yaml").write_text("\n".join(lines) + "\n")
    return recipe.load(folder / "recipe.yaml")


def make(
    folder: Path,
    images: Path,
    scenes: Sequence[Scene],
    name: str,
    landmarks: bool,
    step: int = 1,
) -> Made:
    """Read and check the scenes' labels in a format; cut the crops of every `step`th image."""
    known, kept = folder.parent / "images.json", folder / "run" / label_check.KEPT
    kept.parent.mkdir(parents=True)
    if known.exists():  # the images are the same: looked at once
        shutil.copy(known, kept)
    labels = EVERY[name](folder, scenes, landmarks)
    settings = settings_of(folder, images, name, labels, landmarks)
    sets = label_sets(folder, settings.data.train)
    split = labelled_images(settings, 0.5, sets)
    label_check.check(settings, sets, split, folder / "run", loud=False)
    shutil.copy(kept, known)
    every = [one.annotation for part in split.values() for one in part]
    return Made(
        {part: [one.annotation.key for one in found] for part, found in split.items()},
        {one.key: one for one in every},
        without_format(folder / "run" / "labels.md", sets["own"].notes),
        digest_of_crops(settings, split, step),
        sets["own"].notes,
    )


def digest_of_crops(
    settings: Settings, split: Mapping[Split, Sequence[LabelledImage]], step: int
) -> str:
    """What the workers cut for P-Net, in this process, which saves starting others."""
    worker._prepare(worker.Plan(settings, "pnet", {}))
    total = hashlib.sha256()
    for part in split.values():
        cut = worker.cut_chunk(list(part)[::step])
        assert not cut.broken
        for kind, crops in cut.crops.items():
            total.update(kind.encode())
            for values in crops:
                total.update(values.tobytes())
    return total.hexdigest()


def without_format(report: Path, notes: Sequence[str]) -> str:
    text = re.sub(r"## own \(\w+\)", "## own", report.read_text())
    text = re.sub(r"\| objects by category.*\n", "", text)  # of formats that have categories
    for note in notes:
        text = text.replace(f"- {note}\n", "")
    return text.replace("\n\n\n", "\n\n")


def check_same(made: Mapping[str, Made]) -> None:
    """All that follows from the labels is the same to the last bit."""
    first, *rest = made
    for name in rest:
        one, other = made[first], made[name]
        assert other.split == one.split, name
        for key, annotation in one.annotations.items():
            for field in ("boxes", "ignored", "landmarks"):
                wanted, found = getattr(annotation, field), getattr(other.annotations[key], field)
                np.testing.assert_array_equal(found, wanted, err_msg=f"{name} {key} {field}")
        assert other.report == one.report, name
        assert other.crops == one.crops, name


def drawn_scenes() -> list[Scene]:
    """Forty images; landmarks in quarters of a pixel, which every number of a format can hold."""
    scenes = []
    for i in range(40):
        plain = SCENES[i % len(SCENES)]
        boxes = [(x, y, w + i % 5, h + i % 3) for x, y, w, h in plain.boxes]
        landmarks = [[(round(4 * x) / 4, round(4 * y) / 4) for x, y in points(b)] for b in boxes]
        name = f"{i // 10}--Event/{i:02}_{plain.name}"
        scenes.append(Scene(name, plain.width, plain.height, boxes, landmarks))
    return sorted(scenes, key=lambda scene: Path(scene.name))


@pytest.mark.slow
@pytest.mark.parametrize("landmarks", [True, False])
def test_drawn_scenes_in_every_format(tmp_path: Path, landmarks: bool) -> None:
    scenes = drawn_scenes()
    write_images(tmp_path / "images", scenes)
    images = tmp_path / "images"
    names = [n for n in (WITH if landmarks else WITHOUT) if n not in ("mtfl", "celeba")]
    check_same({n: make(tmp_path / n, images, scenes, n, landmarks) for n in names})
    alone = [scene for scene in scenes if len(scene.boxes) == 1]
    lists = [n for n in ("coco", "celeba", "mtfl") if landmarks or n != "mtfl"]
    made = {n: make(tmp_path / f"{n}-1", images, alone, n, landmarks) for n in lists}
    check_same(made)
    assert made["coco"].split["validation"]


def photographed_scenes(count: int) -> list[Scene]:
    """WIDER images, labels rounded to whole pixels; those that every format can express.

    In some tools' formats a landmark belongs to the smallest box around it, so it lies in its own
    box and in no other.
    """
    scenes: list[Scene] = []
    text = (WIDER / "wider_face_split" / "retinaface_train_label.txt").read_text()
    blocks = text.split("# ")[1:]
    for block in blocks[:: len(blocks) // (4 * count)]:
        name, *rows = block.splitlines()
        boxes: list[Box] = []
        landmarks: list[list[Point]] = []
        for row in rows:
            values = [round(float(word)) for word in row.split()]
            x, y, w, h = values[:4]
            boxes.append((x, y, w, h))
            triples = [values[i : i + 3] for i in range(4, 19, 3)]
            landmarks.append([(u, v) for u, v, flag in triples if flag >= 0])
        header = read_header(WIDER / "WIDER_train" / "images" / name)
        assert header is not None
        scenes.append(Scene(name, header.width, header.height, boxes, landmarks))
    chosen = [scene for scene in scenes if unambiguous(scene)][:count]
    return sorted(chosen, key=lambda scene: Path(scene.name))


def unambiguous(scene: Scene) -> bool:
    """Whether the landmarks of each face lie in its box and in no other."""
    if not all(min(box[2:]) > 0 for box in scene.boxes):
        return False
    for own, (_, five) in enumerate(faces(scene)):
        for u, v in five:
            around = [x <= u <= x + w and y <= v <= y + h for x, y, w, h in scene.boxes]
            if not around[own] or sum(around) > 1:
                return False
    return True


@pytest.mark.slow
@pytest.mark.skipif(not WIDER.exists(), reason="WIDER FACE is not there")
@pytest.mark.parametrize("landmarks", [True, False])
def test_photographs_in_every_format(tmp_path: Path, landmarks: bool) -> None:
    scenes = photographed_scenes(150)
    images = WIDER / "WIDER_train" / "images"
    assert len(scenes) == 150
    names = [n for n in (WITH if landmarks else WITHOUT) if n not in ("mtfl", "celeba")]
    made = {n: make(tmp_path / n, images, scenes, n, landmarks, 5) for n in names}
    check_same(made)
    assert 10 < len(made["coco"].split["validation"]) < 60
    whole = [scene for scene in scenes if scene.boxes and all(scene.landmarks or [])]
    check_same({n: make(tmp_path / f"{n}-1", images, whole, n, True) for n in ("coco", "mtfl")})
    alone = [scene for scene in whole if len(scene.boxes) == 1]
    check_same(
        {n: make(tmp_path / f"{n}-2", images, alone, n, landmarks) for n in ("coco", "celeba")}
    )
