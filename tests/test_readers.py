"""Readers of tools' formats: the same scenes from each, their variants, and errors with places."""
# ruff: noqa: E501 (one damage a line)

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from data_prep.annotations import read_labels
from data_prep.label_request import LabelRequest
from data_prep.readers.detection import likely_format
from mtcnn_detector.errors import UserError
from tests.label_files import NAMES, SCENES, WITHOUT_LANDMARKS, WRITERS, coco_of, write_images
from tests.reading import by_name, check, lenient, read


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


VIA_ROWS = "filename,file_size,file_attributes,region_count,region_id,region_shape_attributes,"
VIA_ROWS += "region_attributes\n"
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
    ("coco", '{"images": [], "annotations": [], "version": ' + 5000 * "1" + "}", "a.json", "damaged JSON: a number of thousands"),
    ("via", VIA_ROWS + 'a.jpg,1,{},1,0,"{""x"": ' + 5000 * "1" + '}",{}\n', "a.csv", "a.csv:2: expected a JSON object"),
    ("via", '{"project": {}, "file": {"1": {"fname": "a.jpg"}}, "view": {"1": {"fid_list": [1]}}, "metadata": {"1": {"vid": 1, "xy": [[2], 3, 4]}}}', "a.json", "region 0"),
    ("yolo", "train: train\nval: 2024-31-12\n", "data.yaml", "is not a YAML file: month must"),
    ("wider", "a.jpg\n" + 5000 * "9" + "\n1 2 3 4 0 0 0 0 0 0\n", "a.txt", "a.txt:2: expected the number of boxes"),
    ("celeba", 5000 * "9" + "\nimage_id x_1 y_1 width height\na.jpg 1 2 3 4\n", "a.txt", "a.txt:1: expected the number of images"),
    ("cvat", "<annotations><track><box frame='" + 5000 * "9" + "'/></track></annotations>", "a.xml", "lists no image"),
    ("yolo", "train: " + 400 * "z" + "\nnames: [face]\n", "data.yaml", "zzz is not there"),
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
    with pytest.raises(UserError, match=r"face 3, Face 1: name those that are meant"):
        read(tmp_path / "labels.json", images)
    found = read(tmp_path / "labels.json", images, categories=("face",))
    assert sum(len(one.boxes) for one in found.annotations) == 4


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
