"""CSV tables of boxes, and of landmarks beside them."""

from pathlib import Path

import numpy as np
import pytest

from data_prep.annotations import read_labels
from data_prep.label_request import LabelRequest
from mtcnn_detector.errors import UserError
from tests.label_files import NAMES, SCENES, Box, points
from tests.reading import by_name, read

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
    ("sep=;\nfile;x1;y1;x2;y2\na.jpg;20;30;60;80\n", {}),  # Excel's
    ('"sep=,"\nfile;no,x1,y1,x2,y2\na.jpg,20,30,60,80\n', {"path": "file;no"}),
    ("id,filename,x1,y1,x2,y2\n0,a.jpg,20,30,60,80\n", {}),  # the row's own number or name
    ("name,image,x1,y1,x2,y2\nface,a.jpg,20,30,60,80\n", {}),
    ("a.jpg,,,,,\na.jpg,20,30,60,80,face\n", {}),  # RetinaNet's: the first image has no face
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


def test_the_separator_line_is_counted(tmp_path: Path, images: Path) -> None:
    (tmp_path / "labels.csv").write_text("sep=;\npath;x1;y1;x2;y2\na.jpg;20;30;sechzig;80\n")
    with pytest.raises(UserError, match=r"labels.csv:3: expected four numbers"):
        read(tmp_path / "labels.csv", images)


def test_a_column_that_stands_twice_is_refused(tmp_path: Path, images: Path) -> None:
    table = tmp_path / "labels.csv"
    table.write_text("path,x1,y1,x2,y2,x1\na.jpg,20,30,60,80,21\n")
    with pytest.raises(UserError, match=r"labels.csv: the column 'x1' stands twice"):
        read(table, images, "csv")
    table.write_text("path,note,x1,y1,x2,y2,note,,\na.jpg,1,20,30,60,80,2,,\n")
    np.testing.assert_array_equal(read(table, images, "csv").annotations[0].boxes[0, 0], 20)


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
    tables.append(tmp_path / "none.csv")
    tables[-1].write_text("image,x,y,w,h\ne.jpg,0,0,30,40\n")
    found = read_labels(LabelRequest("csv", tuple(tables), images, landmarks, "own"))
    (warning,) = [note for note in found.notes if "names no image as" in note]
    assert warning.startswith(f"warning: {landmarks}") and "none.csv" in warning
    assert np.isnan(by_name(found)["e.jpg"].landmarks).all()
    assert found.damages == (f"{landmarks}:2: the cell of the image's path is empty.",)
    for name, boxes in rows.items():
        wanted = [points(box) for box in boxes]
        np.testing.assert_allclose(by_name(found)[name].landmarks, wanted, atol=1e-3)


@pytest.mark.parametrize("cell", ["", "nan", "NA", "-1", "0", "-1.0"])
def test_landmarks_that_are_not_labelled(tmp_path: Path, images: Path, cell: str) -> None:
    first, second = SCENES[0].boxes
    rows = [f"a.jpg,{','.join(map(str, box))}," for box in (first, second)]
    flat = points_row(second).split(",")
    flat[2:4] = [cell, cell]  # the right eye
    rows = [rows[0] + ",".join([cell] * 10), rows[1] + ",".join(flat)]
    (tmp_path / "labels.csv").write_text("\n".join([f"image,x,y,w,h,{POINTS_HEADER}", *rows]))
    found = read(tmp_path / "labels.csv", images)
    wanted = np.array(points(second), np.float32)
    wanted[1] = np.nan
    assert np.isnan(found.annotations[0].landmarks[0]).all()
    np.testing.assert_allclose(found.annotations[0].landmarks[1], wanted, atol=1e-3)
    assert any("are not labelled" in note for note in found.notes) == (cell[-1:] in tuple("01"))


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
