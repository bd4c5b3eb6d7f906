"""YOLO's folders, lists and data.yaml, as its tools write them."""

import json
from pathlib import Path

import numpy as np
import pytest

from mtcnn_detector import pixels
from mtcnn_detector.errors import UserError
from tests.label_files import SCENES, WRITERS, coco_of, points, write_images, yolo_lines
from tests.reading import by_name, check, lenient, read


def test_yolo_data_yaml_brings_its_own_split(tmp_path: Path) -> None:
    for part, scene in (("train", SCENES[0]), ("valid", SCENES[1]), ("test", SCENES[3])):
        write_images(tmp_path / part / "images", [scene])
        (tmp_path / part / "labels").mkdir()
        label = tmp_path / part / "labels" / Path(scene.name).with_suffix(".txt")
        label.write_text(yolo_lines(scene, pose=True))
    (tmp_path / "data.yaml").write_text(
        "train: ../train/images\nval: ../valid/images\ntest: ../test/images\n"
        "kpt_shape: [5, 3]\nnc: 1\nnames: ['face']\n"
    )
    found = read(tmp_path / "data.yaml", tmp_path)
    splits = {one.image.name: one.split for one in found.annotations}
    assert splits == {"a.jpg": "train", "b.jpg": "validation"}
    assert any("test: are left out" in note for note in found.notes)
    assert found.categories == {"face": 3}
    first = by_name(found)["train/images/a.jpg"]
    np.testing.assert_allclose(first.landmarks[0], points(SCENES[0].boxes[0]), atol=1e-3)


def test_yolo_images_that_are_both_in_train_and_val_are_read_once(
    tmp_path: Path, images: Path
) -> None:
    WRITERS["yolo-pose"](tmp_path).rename(tmp_path / "labels")
    (tmp_path / "data.yaml").write_text("train: images\nval: images\nnames: [face]\n")
    found = read(tmp_path / "data.yaml", images)
    check(found, landmarks=True)
    assert {one.split for one in found.annotations} == {"train"}
    assert any("val: shares with train:" in note for note in found.notes)


def test_linked_folders_are_read_once(tmp_path: Path) -> None:
    for part, scene in (("one", SCENES[0]), ("two", SCENES[1])):
        write_images(tmp_path / part / "images", [scene])
        (tmp_path / part / "labels").mkdir()
        label = tmp_path / part / "labels" / Path(scene.name).with_suffix(".txt")
        label.write_text(yolo_lines(scene, pose=False))
    for kind in ("images", "labels"):
        (tmp_path / "all" / kind).mkdir(parents=True)
        for part in ("one", "two"):
            (tmp_path / "all" / kind / part).symlink_to(tmp_path / part / kind)
    (tmp_path / "all" / "labels" / "again").symlink_to(tmp_path / "all" / "labels")
    found = read(tmp_path / "all" / "labels", tmp_path / "all" / "images")
    assert by_name(found).keys() == {"one/a.jpg", "two/b.jpg"}


def test_labels_may_lie_beside_images_in_any_folder(tmp_path: Path) -> None:
    folder = tmp_path / "images" / "set"
    write_images(folder / "train", [SCENES[0]])
    (folder / "train" / "a.txt").write_text(yolo_lines(SCENES[0], pose=False))
    (folder / "train" / "notes.txt").mkdir()
    (folder / "data.yaml").write_text("train: train\nnames: [face]\n")
    assert by_name(read(folder / "data.yaml", folder)).keys() == {"train/a.jpg"}


def test_endings_of_jpeg_files(tmp_path: Path) -> None:
    write_images(tmp_path / "images", SCENES)
    for name, ending in (("a", ".jfif"), ("b", ".JPE")):
        path = tmp_path / "images" / f"{name}.jpg"
        path.rename(path.with_suffix(ending))
    found = by_name(read(WRITERS["yolo"](tmp_path), tmp_path / "images"))
    assert found.keys() == {"a.jfif", "b.JPE", "c d.png", "e.jpg"}
    assert found["a.jfif"].load() is not None
    pixels.write_image(tmp_path / "copy.JFIF", np.zeros((7, 5, 3), np.uint8))
    copy = pixels.read_image(tmp_path / "copy.JFIF")
    assert copy is not None and copy.shape == (7, 5, 3)


def test_yolo_images_without_a_file_are_left_out_and_named(tmp_path: Path, images: Path) -> None:
    labels = WRITERS["yolo"](tmp_path)
    (labels / "e.txt").unlink()
    found = read(labels, images)
    assert by_name(found).keys() == {"a.jpg", "b.jpg", "c d.png"}
    assert "1 images have no label file and are left out (e.jpg)" in " ".join(found.notes)


@pytest.mark.parametrize("visible", ["1 2 0", "all", "minus"])
def test_yolo_points_that_are_not_placed_are_unknown(
    tmp_path: Path, images: Path, visible: str
) -> None:
    labels = tmp_path / "labels"
    labels.mkdir()
    pairs = [(x / 200, y / 140) for x, y in points((20, 30, 40, 50))]
    if visible == "minus":
        pairs = [(-1.0, -1.0)] * 5
    words: list[float] = []
    for number, (x, y) in enumerate(pairs):
        words += [x, y] if visible != "1 2 0" else [x, y, 0 if number == 4 else 1]
    numbers = " ".join(map(str, [0, 0.2, 55 / 140, 0.2, 50 / 140, *words]))
    (labels / "a.txt").write_text(numbers + "\n")
    five = by_name(read(labels, images, "yolo"))["a.jpg"].landmarks[0]
    known = np.isfinite(five).all(axis=1).sum()
    assert known == {"1 2 0": 4, "all": 5, "minus": 0}[visible]


def test_yolo_classes_are_counted_by_line(tmp_path: Path, images: Path) -> None:
    labels = WRITERS["yolo"](tmp_path)
    (labels / "classes.txt").write_text("\nbody\n\nface\n")
    (labels / "a.txt").write_text("3 0.2 0.4 0.2 0.3\n1 0.5 0.5 0.9 0.9\n")
    (labels / "b.txt").write_text("")
    (labels / "e.txt").write_text("")
    assert read(labels, images, "yolo", categories=("face",)).categories == {"face": 1, "body": 1}


def test_yolo_polygons_give_their_bounds(tmp_path: Path, images: Path) -> None:
    labels = tmp_path / "labels"
    labels.mkdir()
    (labels / "a.txt").write_text("0 0.1 0.5 0.2 0.25 0.3 0.5 0.2 0.75\n")
    boxes = by_name(read(labels, images, "yolo"))["a.jpg"].boxes
    np.testing.assert_allclose(boxes, [[20, 35, 60, 105]], atol=1e-3)


def yolo_set(folder: Path, data: str, parts: dict[str, str]) -> Path:
    """A data set as Ultralytics lays it out: images/<part> and labels/<part> for each scene."""
    for name, part in parts.items():
        (scene,) = [one for one in SCENES if one.name == name]
        write_images(folder / "images" / part, [scene])
        label = (folder / "labels" / part / name).with_suffix(".txt")
        label.parent.mkdir(parents=True, exist_ok=True)
        label.write_text(yolo_lines(scene, pose=True))
    (folder / "data.yaml").write_text(data)
    return folder / "data.yaml"


def test_labels_of_no_image_are_counted_among_labels(tmp_path: Path, images: Path) -> None:
    """Two of six labels: as many as half of the images, but not half of the labels."""
    content = coco_of()
    label = {"image_id": 77, "category_id": 1, "bbox": [1, 2, 3, 4]}
    content["annotations"] += [label, label]
    (tmp_path / "labels.json").write_text(json.dumps(content))
    found = lenient(tmp_path / "labels.json", images)
    assert len(found.of_no_image) == 2 and not any(one.problem for one in found.annotations)
    content["annotations"] += 3 * [label]
    (tmp_path / "labels.json").write_text(json.dumps(content))
    with pytest.raises(UserError, match="image_id 77 is not among the images"):
        lenient(tmp_path / "labels.json", images)


def test_yolo_lists_of_images(tmp_path: Path) -> None:
    """As CVAT exports it: train: names a text file of paths."""
    data = "path: ./\ntrain: train.txt\nval: val.txt\nkpt_shape: [5, 3]\nnames: {0: face}\n"
    file = yolo_set(tmp_path, data, {"a.jpg": "train", "b.jpg": "val", "e.jpg": "train"})
    (tmp_path / "train.txt").write_text(
        "data/images/train/a.jpg\ndata/images/train/e.jpg\ndata/images/train/gone.jpg\n"
    )
    (tmp_path / "val.txt").write_text("data\\images\\val\\b.jpg\n")
    found = lenient(file, tmp_path)
    splits = {one.image.name: one.split for one in found.annotations}
    assert splits == {"a.jpg": "train", "e.jpg": "train", "b.jpg": "validation"}
    assert found.of_no_image == [
        f"{tmp_path / 'train.txt'}:3: the image data/images/train/gone.jpg is not there."
    ]


def test_a_folder_with_a_data_yaml_is_that_data_set(tmp_path: Path) -> None:
    data = "train: images/train\nval: images/val\nnames: [face]\n"
    yolo_set(tmp_path, data, {"a.jpg": "train", "b.jpg": "val"})
    (tmp_path / "README.roboflow.txt").write_text("Exported on a Monday\n")
    found = read(tmp_path, tmp_path)
    splits = {one.image.name: one.split for one in found.annotations}
    assert splits == {"a.jpg": "train", "b.jpg": "validation"}
    (tmp_path / "data.yaml").unlink()
    assert len(read(tmp_path, tmp_path).annotations) == 2, "the text about the set is no label"


def test_yolo_keypoints_by_name(tmp_path: Path) -> None:
    names = ["nose", "left_eye", "right_eye", "mouth_left", "mouth_right"]
    data = f"train: images/train\nval: images/train\nkpt_shape: [5, 3]\nkpt_names: {{0: {names}}}\n"
    file = yolo_set(tmp_path, data, {"a.jpg": "train"})
    scene = SCENES[0]
    rows = []
    for line in yolo_lines(scene, pose=True).splitlines():
        words = line.split()
        triples = [words[i : i + 3] for i in range(5, 20, 3)]
        rows.append([*words[:5], *triples[2], *triples[0], *triples[1], *triples[3], *triples[4]])
    label = tmp_path / "labels" / "train" / "a.txt"
    label.write_text("\n".join(" ".join(row) for row in rows))
    five = by_name(read(file, tmp_path))["images/train/a.jpg"].landmarks[0]
    np.testing.assert_allclose(five, points(scene.boxes[0]), atol=1e-3)
    file.write_text(data[: data.index("kpt_names")])
    notes = " ".join(read(file, tmp_path).notes)
    assert "most noses do not lie between eyes and mouth" in notes
