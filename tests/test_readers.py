"""Readers of tools' formats: the same scenes from each, their variants, and errors with places."""
# ruff: noqa: E501 (one damage a line)

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from data_prep.annotations import Annotation, LabelSet, read_labels
from data_prep.label_request import LabelRequest
from data_prep.readers.detection import likely_format
from mtcnn_detector.errors import UserError
from tests.label_files import (
    NAMES,
    SCENES,
    WITHOUT_LANDMARKS,
    WRITERS,
    Box,
    coco_of,
    points,
    write_images,
    yolo_lines,
)


@pytest.fixture
def images(tmp_path: Path) -> Path:
    write_images(tmp_path / "images")
    return tmp_path / "images"


def read(labels: Path, images: Path, format: str = "auto", **more: Any) -> LabelSet:
    found = read_labels(LabelRequest(format, (labels,), images, source="own", **more))
    found.require_whole()
    return found


def by_name(labels: LabelSet) -> dict[str, Annotation]:
    return {one.key.removeprefix("own/"): one for one in labels.annotations}


def check(labels: LabelSet, landmarks: bool) -> None:
    """The annotations are those of the scenes."""
    found = by_name(labels)
    assert found.keys() == {scene.name for scene in SCENES}
    for scene in SCENES:
        wanted = [[x, y, x + w, y + h] for x, y, w, h in scene.boxes]
        one = found[scene.name]
        assert one.image.is_file() and not one.upright
        np.testing.assert_allclose(one.boxes, np.reshape(wanted, (-1, 4)), atol=1e-3)
        assert not one.ignored.any()
        five = np.reshape([points(box) for box in scene.boxes], (-1, 5, 2))
        if landmarks:
            np.testing.assert_allclose(one.landmarks, five, atol=2e-3)
        else:
            assert np.isnan(one.landmarks).all()


@pytest.mark.parametrize("name", WRITERS)
def test_every_format_gives_the_same_annotations(tmp_path: Path, images: Path, name: str) -> None:
    labels = WRITERS[name](tmp_path)
    format = name.split("-")[0]
    assert likely_format(labels) == format
    for chosen in ("auto", format):
        found = read(labels, images, chosen)
        check(found, landmarks=name not in WITHOUT_LANDMARKS)
        assert found.format == format
        assert set(found.categories) <= {"face"}, "single points are no objects"


@pytest.mark.parametrize("name", ["coco", "voc", "labelme", "cvat", "via"])
def test_another_format_is_named(tmp_path: Path, images: Path, name: str) -> None:
    labels = WRITERS[name](tmp_path)
    other = "coco" if name != "coco" else "voc"
    with pytest.raises(UserError, match=rf"looks like a {name} file .*: set format: {name}\."):
        read(labels, images, other)


def test_names_of_formats_are_those_of_their_tools(tmp_path: Path, images: Path) -> None:
    with pytest.raises(UserError, match="this is Pascal VOC"):
        read(WRITERS["voc"](tmp_path), images, "yolo")


def test_several_files_are_one_source(tmp_path: Path, images: Path) -> None:
    files = []
    for number, scene in enumerate(SCENES):
        files.append(tmp_path / f"part{number}.json")
        files[-1].write_text(json.dumps(coco_of([scene])))
    check(read_labels(LabelRequest("coco", tuple(files), images, source="own")), landmarks=True)
    folder = tmp_path / "labels"
    folder.mkdir()
    for file in files:
        file.rename(folder / file.name)
    check(read(folder, images), landmarks=True)


COCO_VARIANTS: list[tuple[str, dict[str, Any]]] = [
    ("a score", {"score": 0.7}),
    ("float ids of categories", {"category_id": 1.0}),
    ("ids of images as text", {}),
    ("float ids of images", {}),
    ("flags as text", {"iscrowd": "0", "ignore": "false"}),
]


@pytest.mark.parametrize(("kind", "more"), COCO_VARIANTS)
def test_coco_as_tools_write_it(
    tmp_path: Path, images: Path, kind: str, more: dict[str, Any]
) -> None:
    content = coco_of(**more)
    for label in content["annotations"]:
        if kind == "ids of images as text":
            label["image_id"] = str(label["image_id"])
        if kind == "float ids of images":
            label["image_id"] = float(label["image_id"])
    (tmp_path / "labels.json").write_text(json.dumps(content))
    found = read(tmp_path / "labels.json", images)
    check(found, landmarks=True)
    assert ("carry a score (0.7 to 0.7)" in " ".join(found.notes)) == ("score" in more)


def test_a_rotated_box_is_read_as_its_bounds(tmp_path: Path, images: Path) -> None:
    content = coco_of()
    first = content["annotations"][0]
    first |= {"attributes": {"rotation": 90.0, "occluded": False}}
    (tmp_path / "labels.json").write_text(json.dumps(content))
    found = by_name(read(tmp_path / "labels.json", images))["a.jpg"]
    # 40 x 50 about (40, 55), lying on its side
    np.testing.assert_allclose(found.boxes[0], [15, 35, 65, 75], atol=1e-3)
    first["attributes"]["rotation"] = 45
    (tmp_path / "labels.json").write_text(json.dumps(content))
    found = by_name(read(tmp_path / "labels.json", images))["a.jpg"]
    half = 90 / 2 * 0.5**0.5
    np.testing.assert_allclose(
        found.boxes[0], [40 - half, 55 - half, 40 + half, 55 + half], atol=1e-3
    )


def test_polygons_without_a_box_give_their_bounds(tmp_path: Path, images: Path) -> None:
    content = coco_of()
    for label in content["annotations"]:
        x, y, w, h = label.pop("bbox")
        label["segmentation"] = [[x, y + h / 2, x + w / 2, y, x + w, y + h / 2, x + w / 2, y + h]]
    (tmp_path / "labels.json").write_text(json.dumps(content))
    check(read(tmp_path / "labels.json", images), landmarks=True)
    content["annotations"][0]["segmentation"] = {"counts": "abc", "size": [3, 3]}
    (tmp_path / "labels.json").write_text(json.dumps(content))
    with pytest.raises(UserError, match=r"annotations\[0\] \(id 1\): .*got a mask"):
        read(tmp_path / "labels.json", images)


def test_cvat_shapes(tmp_path: Path, images: Path) -> None:
    shapes = [
        '<box label="face" xtl="20" ytl="30" xbr="60" ybr="80" rotation="90"/>',
        '<polygon label="face" points="20,30;60,30;40,80"/>',
        '<ellipse label="face" cx="40" cy="55" rx="20" ry="25"/>',
        '<mask label="face" left="20" top="30" width="40" height="50" rle="1"/>',
    ]
    wanted = [[15, 35, 65, 75], *[[20, 30, 60, 80]] * 3]
    file = tmp_path / "labels.xml"
    file.write_text(
        f'<annotations><image id="0" name="a.jpg" width="200" height="140">{"".join(shapes)}'
        "</image></annotations>"
    )
    np.testing.assert_allclose(read(file, images).annotations[0].boxes, wanted, atol=1e-3)
    skeleton = "".join(
        f'<points label="{name}" points="{x},{y}" outside="0"/>'
        for name, (x, y) in zip(
            ["nose", "left_eye", "right_eye", "mouth_left", "mouth_right"],
            [(40, 57), (32, 47), (48, 47), (34, 69), (46, 69)],
            strict=True,
        )
    )
    file.write_text(
        '<annotations><image id="0" name="a.jpg" width="200" height="140"><box label="face" '
        'xtl="20" ytl="30" xbr="60" ybr="80"/><skeleton label="points">'
        f"{skeleton}</skeleton></image></annotations>"
    )
    five = read(file, images).annotations[0].landmarks[0]
    assert five.tolist() == [[32, 47], [48, 47], [40, 57], [34, 69], [46, 69]]


def test_cvat_tracks_are_frames(tmp_path: Path) -> None:
    scene = SCENES[0]._replace(name="frame_000007.png")
    write_images(tmp_path / "images", [scene])
    box = '<box frame="{}" outside="{}" xtl="20" ytl="30" xbr="60" ybr="80"/>'
    track = box.format(7, 0) + box.format(8, 1)
    (tmp_path / "labels.xml").write_text(
        f'<annotations><track id="0" label="face">{track}</track></annotations>'
    )
    (one,) = read(tmp_path / "labels.xml", tmp_path / "images").annotations
    assert one.image.name == scene.name
    assert one.boxes.tolist() == [[20, 30, 60, 80]]


def test_labelme_circle_and_polygon(tmp_path: Path, images: Path) -> None:
    shapes = [
        {"label": "face", "shape_type": "circle", "points": [[40, 50], [40, 70]]},
        {"label": "face", "shape_type": "polygon", "points": [[100, 20], [140, 30], [120, 80]]},
    ]
    content = {"version": "5", "shapes": shapes, "imagePath": "/home/me/a.jpg"}
    (tmp_path / "a.json").write_text(json.dumps(content))
    boxes = read(tmp_path / "a.json", images).annotations[0].boxes
    assert boxes.tolist() == [[20, 30, 60, 70], [100, 20, 140, 80]]


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


CSV_TABLES = [
    ("image_id,x_1,y_1,width,height\na.jpg,20,30,40,50\n", {}),  # Kaggle's CelebA
    ("a.jpg,20,30,60,80,face\n", {}),  # without a header
    ("file;left;top;right;bottom\na.jpg;20;30;60;80\n", {}),
    ('image_id,width,height,bbox\na.jpg,200,140,"[20, 30, 40, 50]"\n', {}),
    ("image,x_center,y_center,w,h\na.jpg,40,55,40,50\n", {}),
    (
        "Photo,A,B,C,D\na.jpg,20,30,60,80\n",
        {"path": "Photo", "x1": "A", "y1": "B", "x2": "C", "y2": "D"},
    ),
    ("filename,width,height,x,y,w,h\na.jpg,200,140,20,30,40,50\n", {}),  # sizes of the image too
    ("filename,width,height,bbox_x,bbox_y,bbox_w,bbox_h\na.jpg,200,140,20,30,40,50\n", {}),
    (
        "filename,w,h,x,y,width,height\na.jpg,200,140,20,30,40,50\n",
        {"width": "width", "height": "height"},
    ),
    ("ImageID,XMin,XMax,YMin,YMax\na,0.1,0.3,0.2142857,0.5714286\n", {"fractions": "1"}),
]


@pytest.mark.parametrize(("text", "columns"), CSV_TABLES)
def test_tables(tmp_path: Path, images: Path, text: str, columns: dict[str, str]) -> None:
    (tmp_path / "labels.csv").write_text(text)
    boxes = "fractions" if columns.pop("fractions", None) else None
    found = read(tmp_path / "labels.csv", images, "csv", columns=columns, boxes=boxes)
    np.testing.assert_allclose(by_name(found)["a.jpg"].boxes, [[20, 30, 60, 80]], atol=1e-3)


def test_landmarks_of_a_table_may_lie_in_a_second_one(tmp_path: Path, images: Path) -> None:
    (tmp_path / "boxes.csv").write_text("image_id,x_1,y_1,width,height\na.jpg,20,30,40,50\n")
    flat = ",".join(str(v) for point in points((20, 30, 40, 50)) for v in point)
    header = "lefteye_x,lefteye_y,righteye_x,righteye_y,nose_x,nose_y"
    header += ",leftmouth_x,leftmouth_y,rightmouth_x,rightmouth_y"
    (tmp_path / "points.csv").write_text(f"image_id,{header}\na.jpg,{flat}\n")
    found = read(tmp_path / "boxes.csv", images, "csv", landmarks=tmp_path / "points.csv")
    np.testing.assert_allclose(
        found.annotations[0].landmarks[0], points((20, 30, 40, 50)), atol=1e-3
    )


POINTS_HEADER = ",".join(f"{name}_{axis}" for name in NAMES for axis in "xy")


def test_landmarks_of_several_tables_are_counted_once(tmp_path: Path, images: Path) -> None:
    rows = {scene.name: scene.boxes for scene in SCENES[:2]}
    tables, lines = [], [f"image,{POINTS_HEADER}", ",1"]
    for name, boxes in rows.items():
        tables.append(tmp_path / f"{name}.csv")
        table = [f"{name},{','.join(map(str, box))}" for box in boxes]
        tables[-1].write_text("\n".join(["image,x,y,w,h", *table]))
        lines += [f"{name},{points_row(box)}" for box in boxes]
    landmarks = tmp_path / "points.csv"
    landmarks.write_text("\n".join(lines))
    found = read_labels(LabelRequest("csv", tuple(tables), images, landmarks, "own"))
    assert found.damages == (f"{landmarks}:2: the cell of the image's path is empty.",)
    for name, boxes in rows.items():
        wanted = [points(box) for box in boxes]
        np.testing.assert_allclose(by_name(found)[name].landmarks, wanted, atol=1e-3)


def points_row(box: Box) -> str:
    return ",".join(str(value) for point in points(box) for value in point)


def test_landmarks_of_a_second_table_in_the_order_of_its_rows(tmp_path: Path, images: Path) -> None:
    first, second = SCENES[0].boxes
    other = SCENES[1].boxes[0]
    boxes = [("a.jpg", first), ("b.jpg", other), ("a.jpg", second)]
    rows = [f"{name},{','.join(map(str, box))}\n" for name, box in boxes]
    (tmp_path / "boxes.csv").write_text(f"image,x,y,w,h\n{''.join(rows)}c d.png,,,,\ne.jpg,,,,\n")
    table, second_table = tmp_path / "boxes.csv", tmp_path / "points.csv"
    lines = [f"a.jpg,{points_row(first)}", f"a.jpg,{points_row(second)}"]
    lines.append(f"b.jpg,{points_row(other)}")
    second_table.write_text("\n".join([f"image,{POINTS_HEADER}", *lines]))
    found = by_name(read(table, images, "csv", landmarks=second_table))
    wanted = [points(first), points(second)]
    np.testing.assert_allclose(found["a.jpg"].landmarks, wanted, atol=1e-3)
    np.testing.assert_allclose(found["b.jpg"].landmarks, [points(other)], atol=1e-3)

    second_table.write_text("\n".join([f"image,{POINTS_HEADER}", lines[0], lines[2], ",1"]))
    labels = read_labels(LabelRequest("csv", (table,), images, second_table, "own"))
    whole = by_name(labels)
    sentence = f"{second_table}: number of rows for a.jpg: 1; expected 2, one for each of its"
    assert str(whole["a.jpg"].problem).startswith(sentence)
    np.testing.assert_allclose(whole["b.jpg"].landmarks, [points(other)], atol=1e-3)
    assert labels.of_no_image == [f"{second_table}:4: the cell of the image's path is empty."]


def test_a_second_table_calls_its_images_as_the_first(tmp_path: Path, images: Path) -> None:
    box = SCENES[0].boxes[0]
    table, second_table = tmp_path / "boxes.csv", tmp_path / "points.csv"
    table.write_text(f"Photo,x,y,w,h\na.jpg,{','.join(map(str, box))}\n")
    second_table.write_text(f"Photo,{POINTS_HEADER}\na.jpg,{points_row(box)}\n")
    more = {"landmarks": second_table, "columns": {"path": "Photo"}}
    (found,) = read(table, images, "csv", **more).annotations
    np.testing.assert_allclose(found.landmarks, [points(box)], atol=1e-3)
    second_table.write_text(f"Photo,{POINTS_HEADER}\na,{points_row(box)}\n")
    with pytest.raises(
        UserError, match=r"points.csv: names no image as .*: it has 'a', which .*jpg"
    ):
        read(table, images, "csv", **more)
    second_table.write_text(f"Bild,{POINTS_HEADER}\na.jpg,{points_row(box)}\n")
    with pytest.raises(UserError, match=r"points.csv: .* path\? Name it 'Photo' as in the table"):
        read(table, images, "csv", **more)


@pytest.mark.parametrize("name", ["coco", "yolo-pose", "labelme", "cvat", "via", "csv"])
def test_landmark_names_that_never_occur(tmp_path: Path, images: Path, name: str) -> None:
    labels = WRITERS[name](tmp_path)
    wanted = ("l_eye", "right_eye", "nose", "left_mouth", "right_mouth")
    with pytest.raises(UserError, match=r"landmark_names asks for l_eye") as caught:
        read(labels, images, landmark_names=wanted)
    told = "the keypoints have no names" if name == "yolo-pose" else "left_eye"
    assert told in str(caught.value)
    if name != "yolo-pose":
        check(read(labels, images, landmark_names=tuple(NAMES)), landmarks=True)
    without = read(labels, images, landmark_names=wanted, use_landmarks=False)
    assert all(np.isnan(one.landmarks).all() for one in without.annotations)


DAMAGES: list[tuple[str, str, str, str]] = [
    # format, text of the file, its name, what the sentence must hold
    ("voc", "<annotation><object><name>face</name></object></annotation>", "a.xml", "object 1"),
    ("voc", "<annotation><filename>a.jpg</filename>", "a.xml", "damaged XML"),
    ("voc", "<annotation><object><bndbox><xmin>x</xmin></bndbox></object></annotation>", "a.xml", "bndbox"),
    ("cvat", "<annotations><image id='0'/></annotations>", "a.xml", "with a name"),
    ("cvat", "<annotations><image id='0' name='a.jpg'><box xtl='1'/></image></annotations>", "a.xml", "box"),
    ("cvat", "<annotations><image id='0' name='a.jpg'><polygon points='1;2'/></image></annotations>", "a.xml", "points as x,y"),
    ("cvat", "<annotations><track task_id='1'/><track task_id='2'/></annotations>", "a.xml", "of 2 tasks"),
    ("coco", '{"images": [{"id": 1, "file_name": "a.jpg"}], "annotations": [{"image_id": 1, "segmentation": [[1, 2, 3, 4, 5, 6], 7]}]}', "a.json", "a polygon of x y"),
    ("labelme", '{"version": "5", "shapes": [{"points": 3}], "imagePath": "a.jpg"}', "a.json", "shapes[0]"),
    ("labelme", '{"version": "5", "shapes": [{"points": []}], "imagePath": "a.jpg"}', "a.json", "there are none"),
    ("via", '{"_via_img_metadata": {"a": {"size": 3}}}', "a.json", "'filename'"),
    ("via", '{"_via_img_metadata": {"a": {"filename": "a.jpg", "regions": [{}]}}}', "a.json", "region 0"),
    ("via", '{"_via_img_metadata": {"a": {"filename": "a.jpg", "regions": [{"shape_attributes": {"name": "rect", "x": 1}}]}}}', "a.json", "numbers x, y"),
    ("via", '{"_via_img_metadata": {"a": {"filename": "a.jpg", "regions": 5}}}', "a.json", "a list of regions"),
    ("via", '{"_via_img_metadata": {"a": {"filename": "a.jpg", "regions": [{"shape_attributes": {"name": "ellipse", "cx": 1, "cy": 2, "rx": 3, "ry": 4, "theta": "q"}, "region_attributes": 3}]}}}', "a.json", "an angle theta"),
    ("voc", "<annotation><object><polygon><x1>1</x1><y1>2</y1></polygon></object></annotation>", "a.xml", "at least 3 points"),
    ("cvat", "<annotations><image id='0' name='a.jpg'><cuboid/></image></annotations>", "a.xml", "a cuboid with"),
    ("cvat", "<annotations><image id='0' name='a.jpg'><points points='' label='x'/></image></annotations>", "a.xml", "points as x,y"),
    ("yolo", "train: 5\nval: {a: 1}\nnames: 3\n", "data.yaml", "the folder 5 is not there"),
    ("coco", '{"images": [null], "annotations": []}', "a.json", "images[0]"),
    ("coco", '{"images": [], "annotations": [], "categories": [null]}', "a.json", "categories[0]"),
    ("yolo", "0 0.5 0.5 0.2\n", "a.txt", "a.txt:1: expected class cx cy w h"),
    ("yolo", "0 0.5 0.5 0.2 0.2\n0 100 200 30 40\n", "a.txt", "a.txt:2: "),
    ("yolo", "0 0.5 0.5 0.2 zwei\n", "a.txt", "a.txt:1: "),
    ("csv", "path,x1,y1,x2\na.jpg,1,2,3\n", "a.csv", "which columns are the box"),
    ("csv", "bild,x1,y1,x2,y2\na.jpg,1,2,3,4\n", "a.csv", "which column is the image's path"),
    ("csv", "path,x1,y1,x2,y2\na.jpg,1,2,3,4\na.jpg,1,2,drei,4\n", "a.csv", "a.csv:3: expected four"),
    ("csv", "path,x1,y1,x2,y2\n,1,2,3,4\n", "a.csv", "a.csv:2: the cell"),
    ("csv", 'path,x1,y1,x2,y2,note\na.jpg,1,2,3,4,"5"" wide"\na.jpg,1,2,3,4,"big\nb.jpg,1,2,3,4,\n', "a.csv", "a.csv:3: damaged table: a quote is not closed"),
    ("csv", 'path,x1,y1,x2,y2,note\na.jpg,1,2,3,4,"big\n' + 9000 * "b.jpg,1,2,3,4,small\n", "a.csv", "a.csv:2: damaged table: a quote is not closed"),
    ("via", 'filename,file_size,file_attributes,region_count,region_id,region_shape_attributes,region_attributes\na.jpg,1,"{},0,0,{},{}\nb.jpg,1,{},0,0,{},{}\n', "a.csv", "a.csv:2: damaged table: a quote is not closed"),
    ("coco", '{"images": [], "annotations": [{"image_id": 1}]}', "a.json", "not among the images"),
    ("coco", '{"images": [{"id": 1, "file_name": "a.jpg"}], "annotations": [{"image_id": 1, "bbox": []}]}', "a.json", "bbox"),
    ("auto", '[{"image_id": 1, "bbox": [1, 2, 3, 4], "score": 1}]', "a.json", "list of COCO results"),
    ("auto", '[{"data": {}, "annotations": []}]', "a.json", "Label Studio"),
    ("auto", '[{"image": "/data/upload/a.jpg", "label": [], "annotation_id": 3}]', "a.json", "Label Studio"),
    ("auto", '[{"image": "a.jpg", "annotations": []}]', "a.json", "Create ML"),
    ("auto", "<dataset><images/></dataset>", "a.xml", "dlib"),
    ("auto", "hello\n", "a.txt", "no known annotation format"),
]  # fmt: skip


@pytest.mark.parametrize(("format", "text", "name", "sentence"), DAMAGES)
def test_damage_is_named_with_its_place(
    tmp_path: Path, images: Path, format: str, text: str, name: str, sentence: str
) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(UserError) as caught:
        read(tmp_path / name, images, format)
    assert sentence in str(caught.value)
    assert name in str(caught.value)
    assert "\n" not in str(caught.value)


def test_other_encodings(tmp_path: Path) -> None:
    scene = SCENES[0]._replace(name="Zoë.jpg")
    write_images(tmp_path / "images", [scene])
    table = "image_id,x1,y1,x2,y2\nZoë.jpg,20,30,60,80\n"
    for encoding in ("utf-8", "utf-8-sig", "utf-16", "cp1252"):
        (tmp_path / "labels.csv").write_bytes(table.encode(encoding))
        assert read(tmp_path / "labels.csv", tmp_path / "images").annotations[0].image.is_file()
    xml = "<?xml version='1.0' encoding='ISO-8859-1'?><annotation><filename>Zoë.jpg</filename>"
    (tmp_path / "a.xml").write_bytes((xml + "</annotation>").encode("latin-1"))
    assert read(tmp_path / "a.xml", tmp_path / "images").annotations[0].image.is_file()


def test_files_that_are_not_read_are_counted(tmp_path: Path, images: Path) -> None:
    labels = WRITERS["yolo"](tmp_path)
    for name in ("x.heic", "y.HEIC", "z.gif"):
        (images / name).write_bytes(b"?")
    notes = " ".join(read(labels, images).notes)
    assert "3 files are skipped (.gif, .heic): convert them to JPEG." in notes


@pytest.mark.parametrize("name", ["voc", "yolo", "labelme"])
def test_companions_that_macos_puts_beside_files_are_no_labels(
    tmp_path: Path, images: Path, name: str
) -> None:
    WRITERS[name](tmp_path / "labels")
    for file in [*(tmp_path / "labels").rglob("*.*")]:
        file.with_name(f"._{file.name}").write_bytes(b"\0\5\x16\7\0\2\0\0Mac OS X")
    check(read(tmp_path / "labels", images), name not in WITHOUT_LANDMARKS)


def test_categories_in_any_letter_case(tmp_path: Path, images: Path) -> None:
    content = coco_of()
    content["categories"].append({"id": 2, "name": "Face"})
    content["annotations"][0]["category_id"] = 2
    (tmp_path / "labels.json").write_text(json.dumps(content))
    with pytest.raises(UserError, match=r"face 3, Face 1: name those to train on"):
        read(tmp_path / "labels.json", images)
    found = read(tmp_path / "labels.json", images, categories=("face",))
    assert sum(len(one.boxes) for one in found.annotations) == 4


def lenient(labels: Path, images: Path, format: str = "auto") -> LabelSet:
    return read_labels(LabelRequest(format, (labels,), images, source="own"))


def test_damage_costs_its_image_alone(tmp_path: Path, images: Path) -> None:
    content = coco_of()
    content["annotations"][0]["bbox"] = [1, 2, 3]
    (tmp_path / "labels.json").write_text(json.dumps(content))
    found = lenient(tmp_path / "labels.json", images)
    first, *others = found.annotations
    assert first.problem is not None and "annotations[0] (id 1): expected a bbox" in first.problem
    assert first.load() is None and not len(first.boxes)
    assert [len(one.boxes) for one in others] == [1, 0, 1]
    assert found.damages == (first.problem,) and found.of_no_image == []
    with pytest.raises(UserError, match="expected a bbox"):
        found.require_whole()


def test_half_of_all_damaged_is_another_format(tmp_path: Path, images: Path) -> None:
    content = coco_of()
    for label in content["annotations"][1:3]:
        label["bbox"] = [1, 2, 3]
    (tmp_path / "labels.json").write_text(json.dumps(content))
    with pytest.raises(UserError, match=r"annotations\[1\] .*expected a bbox"):
        lenient(tmp_path / "labels.json", images)


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


def test_polygons_of_the_labelme_web_tool(tmp_path: Path, images: Path) -> None:
    corners = [(20, 30), (60, 30), (60, 80), (20, 80)]
    polygon = "".join(f"<pt><x>{x}</x><y>{y}</y></pt>" for x, y in corners)
    (tmp_path / "a.xml").write_text(
        "<annotation><filename>a.jpg</filename><object><name>face</name><polygon>"
        f"<username>admin</username>{polygon}</polygon><deleted>0</deleted></object>"
        f"<object><name>face</name><deleted>1</deleted><polygon>{polygon}</polygon></object>"
        "</annotation>"
    )
    assert read(tmp_path / "a.xml", images).annotations[0].boxes.tolist() == [[20, 30, 60, 80]]


def test_points_of_a_group_belong_to_its_box(tmp_path: Path, images: Path) -> None:
    """In CVAT, of two faces of which one lies in the other's box."""
    boxes = {1: (20, 30, 80, 100), 2: (30, 40, 50, 65)}
    shapes = ""
    for group, (x1, y1, x2, y2) in boxes.items():
        shapes += f'<box label="face" xtl="{x1}" ytl="{y1}" xbr="{x2}" ybr="{y2}" '
        shapes += f'group_id="{group}"/><points label="nose" points="40,50" group_id="{group}"/>'
    (tmp_path / "a.xml").write_text(
        f'<annotations><image id="0" name="a.jpg" width="200" height="140">{shapes}</image>'
        "</annotations>"
    )
    noses = read(tmp_path / "a.xml", images).annotations[0].landmarks[:, 2]
    assert noses.tolist() == [[40, 50], [40, 50]]


def test_labels_in_folders_like_those_of_the_images(tmp_path: Path) -> None:
    """Two images of one name: the label file below train/ is that of the image in train/."""
    for part in ("train", "extra"):
        scene = SCENES[0]._replace(boxes=SCENES[0].boxes[: 1 + (part == "train")])
        write_images(tmp_path / "images" / part, [scene])
        labels = tmp_path / "labels" / part
        labels.mkdir(parents=True)
        (WRITERS["voc"](labels, [scene]) / "a.xml").rename(labels / "a.xml")
    found = by_name(read(tmp_path / "labels", tmp_path / "images"))
    assert {key: len(one.boxes) for key, one in found.items()} == {
        "extra/a.jpg": 1,
        "train/a.jpg": 2,
    }
