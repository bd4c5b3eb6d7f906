"""The composed set of WIDER FACE's size: exact counts; boxes and landmarks stay on the faces."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from benchmarks import full_size
from data_prep import annotations
from mtcnn_detector.pixels import read_image

pytestmark = pytest.mark.slow


@pytest.fixture
def smaller(tmp_path: Path) -> Path:
    """Two images of black squares on grey, one with a face and one with three."""
    data, lines = tmp_path / "small", []
    for name, corners in {"a.png": [(20, 30)], "b.png": [(10, 10), (60, 20), (100, 60)]}.items():
        image = np.full((120, 160, 3), 128, np.uint8)
        lines.append(f"# {name}")
        for x, y in corners:
            image[y : y + 30, x : x + 24] = 0
            landmarks = " ".join(f"{x + 12} {y + 15} 0.0" for _ in range(5))
            lines.append(f"{x} {y} 24 30 {landmarks} 0.5")
        (data / full_size.FOLDER).mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(data / full_size.FOLDER / name), image)
    (data / full_size.SPLIT).mkdir()
    (data / full_size.SPLIT / full_size.LANDMARKS).write_text("\n".join(lines) + "\n")
    return data


def test_the_composed_faces_are_where_the_labels_say(smaller: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    rng = np.random.default_rng(0)
    planned = full_size.plan(rng, full_size.read_sources(smaller), np.array([1, 7]), out / "images")
    tasks = [task._replace(path=out / full_size.FOLDER / task.path.name) for task in planned]
    sides = full_size.compose_all(tasks, out, workers=1)
    split = out / full_size.SPLIT
    found = annotations.read(
        "wider", split / full_size.LABELS, out / full_size.FOLDER, split / full_size.LANDMARKS
    )
    assert [len(annotation.boxes) for annotation in found] == [1, 7]
    assert len(sides) == 8
    for annotation in found:
        image = read_image(annotation.image)
        assert image is not None
        for box, landmarks in zip(annotation.boxes, annotation.landmarks, strict=True):
            x1, y1, x2, y2 = box.round().astype(int)
            assert image[y1 + 2 : y2 - 2, x1 + 2 : x2 - 2].mean() < 25, "a face is black"
            np.testing.assert_allclose(landmarks, [(box[:2] + box[2:]) / 2] * 5, atol=0.05)


def test_counts_are_those_of_the_official_set() -> None:
    counts = full_size.face_counts(np.random.default_rng(1), full_size.IMAGES, full_size.FACES)
    assert (len(counts), counts.sum()) == (full_size.IMAGES, full_size.FACES)
    assert 0.33 < (counts == 1).mean() < 0.34
    assert 10 < (counts > 300).sum() < 200
