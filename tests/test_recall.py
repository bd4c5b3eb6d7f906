"""Recall after each net, on a cascade with known outputs."""

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import pytest

from configs import recipe
from configs.record_settings import SAMPLE_TYPES
from data_prep.annotations import Annotation
from data_prep.sources import LabelledImage
from evaluation.recall import Survival, measure, table, write_report
from mtcnn_detector.cascade import Cascade, Faces
from mtcnn_detector.errors import UserError
from mtcnn_detector.pixels import Image

MTCNN = Path(recipe.__file__).parent / "mtcnn.yaml"
Box = tuple[float, float, float, float]


def labelled_image(
    folder: Path, name: str, faces: Sequence[Box], ignored: Sequence[int] = ()
) -> LabelledImage:
    """A black image with these labelled faces."""
    path = folder / f"{name}.png"
    # The first pixel tells the fake cascade which image it is given.
    image = np.zeros((200, 200, 3), np.uint8)
    image[0, 0] = int(name)
    cv2.imwrite(str(path), image)
    boxes = np.array(faces, np.float32).reshape(-1, 4)
    hidden = np.isin(np.arange(len(boxes)), ignored)
    landmarks = np.full((len(boxes), 5, 2), np.nan, np.float32)
    annotation = Annotation(path, name, boxes, hidden, landmarks, f"labels:{name}")
    return LabelledImage(annotation, SAMPLE_TYPES, np.ones(len(boxes)))


def found(*boxes: Box) -> Faces:
    count = len(boxes)
    corners = np.array(boxes, float).reshape(-1, 4)
    return Faces(corners, np.ones(count, np.float32), np.full((count, 5, 2), np.nan))


class FakeCascade(Cascade):
    """Outputs of the nets by the image's first pixel."""

    def __init__(self, outputs: dict[int, list[Faces]]) -> None:
        self.outputs = outputs

    def stages(self, image: Image) -> list[Faces]:
        return self.outputs[int(image[0, 0, 0])]


FACE: Box = (10, 10, 50, 50)
BIG: Box = (60, 60, 160, 160)
TINY: Box = (5, 150, 12, 160)


def test_survival_by_hand(tmp_path: Path) -> None:
    images = [
        labelled_image(tmp_path, "1", [FACE, BIG, TINY, (0, 0, 40, 40)], ignored=[3]),
        labelled_image(tmp_path, "2", [FACE]),
        labelled_image(tmp_path, "3", []),
    ]
    # Reported boxes begin one pixel into their windows: the first one's is (10, 10, 50, 110),
    # whose IoU with the face is 0.4 exactly. The last net's boxes are meant as they are: 0.5.
    just: Box = (11, 11, 50, 110)
    half: Box = (10, 10, 50, 90)
    outputs = {
        1: [found(just, (61, 61, 160, 160)), found((61, 61, 160, 160)), found(half, BIG)],
        2: [found(just, (100, 100, 140, 140)), found(just), found((10, 10, 50, 91))],
        3: [found((1, 1, 20, 20)), found(), found()],
    }
    survival = measure(FakeCascade(outputs), images, min_face=12)
    assert survival.sides.tolist() == [40, 100, 40]  # neither the ignored nor the tiny one
    assert survival.passed.tolist() == [
        [True, False, True],
        [True, True, True],
        [True, True, False],
    ]
    np.testing.assert_allclose(survival.boxes, [5 / 3, 2 / 3, 1], atol=1e-9)


def test_part_of_a_cascade_is_measured_by_its_crops(tmp_path: Path) -> None:
    outputs = {1: [found((11, 11, 50, 111))]}  # 1600 / 4040 < 0.4
    survival = measure(FakeCascade(outputs), [labelled_image(tmp_path, "1", [FACE])], 12)
    assert survival.passed.tolist() == [[False]]


def test_crops_are_compared_with_the_square_around_a_long_object(tmp_path: Path) -> None:
    plate: Box = (20, 80, 180, 120)  # 4:1
    crop: Box = (21, 21, 180, 180)  # the square around it, as a net reports it
    images = [labelled_image(tmp_path, "1", [plate]), labelled_image(tmp_path, "2", [plate])]
    # The last net's boxes are compared with the object itself.
    outputs = {1: [found(crop), found(crop), found(crop)], 2: [found(crop), found(), found(plate)]}
    survival = measure(FakeCascade(outputs), images, min_face=12)
    assert survival.passed.tolist() == [[True, True, False], [True, False, True]]


def test_unreadable_images_are_left_out(tmp_path: Path) -> None:
    gone = labelled_image(tmp_path, "2", [FACE])
    gone.annotation.image.write_bytes(b"no picture")
    outputs = {1: [found((11, 11, 50, 50))]}
    survival = measure(FakeCascade(outputs), [labelled_image(tmp_path, "1", [FACE]), gone], 12)
    assert (survival.images, len(survival.sides)) == (1, 1)
    outside = labelled_image(tmp_path, "1", [FACE, (300, 10, 350, 50)])
    with pytest.raises(UserError, match="no held-out image has a labelled face"):
        measure(FakeCascade(outputs), [gone, outside], 12)
    with pytest.raises(UserError, match="no held-out image has a labelled face"):
        measure(FakeCascade(outputs), [labelled_image(tmp_path, "1", [])], 12)


def test_images_for_landmarks_alone_are_not_measured(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = "{format: mtfl, labels: l.txt, images: i, sample_types: [landmark]}"
    own = tmp_path / "own.yaml"
    own.write_text(f"base: {MTCNN}\ndata: {{train: {{points: {source}}}}}\n")
    write_report(recipe.load(own), "onet", tmp_path)
    assert "recall after onet: not measured" in capsys.readouterr().out
    assert [path.name for path in tmp_path.iterdir()] == ["own.yaml"]


def test_table_by_hand() -> None:
    sides = np.array([10, 19.9, 20, 31, 70, 300.0])
    passed = np.array([[1, 0], [0, 0], [1, 1], [1, 0], [1, 1], [1, 1]], bool)
    lines = table(Survival(6, sides, passed, np.array([123.45, 6]))).splitlines()
    assert lines == [
        "| longer side, px | faces | after pnet | after rnet |",
        "| --- | --- | --- | --- |",
        "| 0 to 20 | 2 | 50.0 % | 0.0 % |",
        "| 20 to 32 | 2 | 100.0 % | 50.0 % |",
        "| 64 to 128 | 1 | 100.0 % | 100.0 % |",
        "| 256 and more | 1 | 100.0 % | 100.0 % |",
        "| all | 6 | 83.3 % | 50.0 % |",
        "| boxes per image | | 123.5 | 6.0 |",
    ]
