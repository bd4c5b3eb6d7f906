"""CSV tables with a box in each row; columns by their usual names, or as the recipe names them."""

import csv
import re
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

from data_prep.readers import keypoints
from data_prep.readers.entries import (
    UNKNOWN,
    BoxUnits,
    Entry,
    FaceLabel,
    ReadOptions,
    numbers,
    positive_size,
    read_text,
    unexpected,
)
from mtcnn_detector.errors import UserError

USUAL = {
    "path": "path image image_id imageid image_name image_path img img_path img_name filename "
    "file_name file file_path id name",
    "x1": "x1 x_1 xmin x_min left xtl bbox_x1 bbox_left box_x1 x0 top_left_x",
    "y1": "y1 y_1 ymin y_min top ytl bbox_y1 bbox_top box_y1 y0 top_left_y",
    "x2": "x2 x_2 xmax x_max right xbr bbox_x2 bbox_right box_x2 bottom_right_x",
    "y2": "y2 y_2 ymax y_max bottom ybr bbox_y2 bbox_bottom box_y2 bottom_right_y",
    "x": "x bbox_x box_x bx face_x",
    "y": "y bbox_y box_y by face_y",
    "width": "w width bbox_w bbox_width box_width bw face_w face_width",
    "height": "h height bbox_h bbox_height box_height bh face_h face_height",
    "cx": "cx x_center xcenter center_x x_centre",
    "cy": "cy y_center ycenter center_y y_centre",
    "bbox": "bbox box bounding_box",
    "category": "class label category class_name labelname label_name category_name",
    "image_width": "image_width img_width imwidth image_w",
    "image_height": "image_height img_height imheight image_h",
}
MEANINGS = {name: meaning for meaning, names in USUAL.items() for name in names.split()}
LAYOUTS = (  # the columns of a box, best known first
    ("x1", "y1", "x2", "y2"),
    ("cx", "cy", "width", "height"),
    ("x", "y", "width", "height"),
    ("x1", "y1", "width", "height"),
)
Row = Mapping[str, str]


class _Table(NamedTuple):
    columns: dict[str, str]  # meaning -> name
    points: list[tuple[str, str]]  # names of the columns x and y of each of the five landmarks
    rows: Sequence[tuple[str, Row]]  # place and cells by name of the column


def read_csv(labels: Path, options: ReadOptions) -> list[Entry]:
    """A row is a box, or an image without a face where its cells are empty.

    Args:
        labels: the table; its first row names the columns, unless it is already a box.
        options: `columns` names those that are called otherwise; `landmarks` is a second table.

    Raises:
        UserError: a column is missing or a number cannot be read; names the line.
    """
    table = _table(labels, options)
    known = _landmarks_by_path(options.landmarks, options) if options.landmarks else {}
    layout = _layout(labels, table)
    units: BoxUnits = "xyxy" if layout == LAYOUTS[0] else "xywh"
    entries = []
    for where, row in table.rows:
        path = row.get(table.columns["path"], "").strip()
        entry = Entry(where, path, [], _size(row, table, layout), units)
        if path:
            read = partial(_faces, table, layout, where, row, known.get(path))
            entries.append(options.with_faces(entry, read))
        else:
            options.damages.append(f"{where}: the cell of the image's path is empty.")
    return entries


def _faces(
    table: _Table, layout: tuple[str, ...], where: str, row: Row, known: Sequence[float] | None
) -> list[FaceLabel]:
    """The face of a row, with the landmarks of another file if it has them; or none."""
    cells = _cells(row, table, layout, where)
    if not any(cells):
        return []
    category = row.get(table.columns.get("category", ""), "").strip() or None
    ten = known or _ten(row, table.points, where)
    return [FaceLabel(_numbers(cells, layout, where), ten, category=category)]


def _table(file: Path, options: ReadOptions) -> _Table:
    lines = read_text(file).splitlines()
    first = next((line for line in lines if line.strip()), "")
    delimiter = max(",;\t|", key=first.count)
    records = [row for row in enumerate(csv.reader(lines, delimiter=delimiter), 1) if any(row[1])]
    if not records:
        raise UserError(f"{file} is empty: expected a table of boxes.")
    header = [cell.strip() for cell in records[0][1]]
    if len(header) >= 5 and all(map(_is_number, header[1:5])):  # path,x1,y1,x2,y2[,class]
        header = ["path", "x1", "y1", "x2", "y2", "class", *map(str, range(6, len(header)))]
    else:
        records = records[1:]
    rows = [(f"{file}:{number}", dict(zip(header, row, strict=False))) for number, row in records]
    return _Table(_columns(file, header, options), _point_columns(header, options), rows)


def _is_number(cell: str) -> bool:
    return bool(re.fullmatch(r"-?\d+(\.\d*)?", cell.strip()))


def _columns(file: Path, header: Sequence[str], options: ReadOptions) -> dict[str, str]:
    """Names of the columns by their meaning; the recipe's first, then the usual ones."""
    columns: dict[str, str] = {}
    for name in header:
        meaning = MEANINGS.get(re.sub(r"[\s\-.]+", "_", name.lower()))
        if meaning:
            columns.setdefault(meaning, name)
    for meaning, name in options.columns.items():
        if name not in header:
            raise UserError(f"{file}: there is no column {name!r}; columns: {', '.join(header)}.")
        columns[meaning] = name
    if "path" not in columns:
        raise UserError(
            f"{file}: which column is the image's path? Set columns: {{path: ...}}; columns: "
            f"{', '.join(header)}."
        )
    return columns


def _point_columns(header: Sequence[str], options: ReadOptions) -> list[tuple[str, str]]:
    """The columns of the five landmarks, by names such as `left_eye_x`; none unless all are."""
    pairs: dict[int, dict[str, str]] = {}
    for name in header:
        match = re.fullmatch(
            r"(.+?)[\s_.\-]*([xy])|([xy])[\s_.\-]+(.+)", name.strip(), re.IGNORECASE
        )
        if match:
            stem, axis = (match[1], match[2]) if match[1] else (match[4], match[3])
            wanted = list(options.landmark_names)
            place = wanted.index(stem) if stem in wanted else keypoints.which(stem)
            if place is not None:
                pairs.setdefault(place, {}).setdefault(axis.lower(), name)
    complete = [pairs.get(place, {}) for place in range(5)]
    if not all(len(pair) == 2 for pair in complete):
        return []
    return [(pair["x"], pair["y"]) for pair in complete]


def _layout(file: Path, table: _Table) -> tuple[str, ...]:
    if "bbox" in table.columns:
        return ("bbox",)
    for layout in LAYOUTS:
        if all(meaning in table.columns for meaning in layout):
            return layout
    raise UserError(
        f"{file}: which columns are the box? Set columns: {{x1: ..., y1: ..., x2: ..., y2: ...}}, "
        "or {x: ..., y: ..., width: ..., height: ...}."
    )


def _cells(row: Row, table: _Table, layout: tuple[str, ...], where: str) -> list[str]:
    """The four cells of a box, empty for an image without one."""
    cells = [(row.get(table.columns[meaning]) or "").strip() for meaning in layout]
    if layout == ("bbox",):
        cells = re.findall(r"[^\s,\[\]()]+", cells[0])
        if cells and len(cells) != 4:
            raise unexpected(where, "a box [x, y, w, h]", " ".join(cells))
    return cells


def _numbers(cells: list[str], layout: tuple[str, ...], where: str) -> list[float]:
    wanted = f"four numbers {', '.join(layout)}"
    first, second, third, fourth = numbers(where, cells, 4, wanted)
    if layout[0] == "cx":
        return [first - third / 2, second - fourth / 2, third, fourth]
    return [first, second, third, fourth]


def _size(row: Row, table: _Table, layout: tuple[str, ...]) -> tuple[float, float] | None:
    """The image's size: `width` and `height`, too, where they are not the box's."""
    keys = ["image_width", "image_height"]
    if "image_width" not in table.columns and "width" not in layout:
        keys = ["width", "height"]
    return positive_size(*(row.get(table.columns.get(key, "")) for key in keys))


def _ten(row: Row, columns: list[tuple[str, str]], where: str) -> Sequence[float]:
    cells = [(row.get(name) or "").strip() for pair in columns for name in pair]
    if not any(cells):
        return UNKNOWN
    known = numbers(where, [c for c in cells if c], sum(map(bool, cells)), "numbers of landmarks")
    left = iter(known)
    return [next(left) if cell else float("nan") for cell in cells]


def _landmarks_by_path(file: Path, options: ReadOptions) -> dict[str, Sequence[float]]:
    table = _table(file, ReadOptions(landmark_names=options.landmark_names))
    if not table.points:
        raise UserError(
            f"{file}: expected columns such as left_eye_x and left_eye_y for the five landmarks; "
            f"set landmark_names."
        )
    path = table.columns["path"]
    return {row[path].strip(): _ten(row, table.points, where) for where, row in table.rows}
