"""CSV tables with a box in each row; columns by their usual names, or as the recipe names them."""

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
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
    Size,
    numbers,
    positive_size,
    read_rows,
)
from mtcnn_detector.errors import UserError

USUAL = {  # names of columns by their meaning, best known first
    "path": "path filename file_name image_path img_path file_path image_name img_name image img "
    "file image_id imageid id name",
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
RANKS = {name: place for names in USUAL.values() for place, name in enumerate(names.split())}
LAYOUTS = (  # the columns of a box, best known first
    ("x1", "y1", "x2", "y2"),
    ("cx", "cy", "width", "height"),
    ("x", "y", "width", "height"),
    ("x1", "y1", "width", "height"),
)
EMPTY = ("", "nan", "na", "null", "none")  # cells without a number, as pandas and R write them
Row = Mapping[str, str]
Landmarks = Callable[[], Sequence[float]]  # the ten numbers of a row, which may be damaged


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
    layout = _layout(labels, table)
    units: BoxUnits = "xyxy" if layout == LAYOUTS[0] else "xywh"
    rows = list(_rows(table, options))
    known = _landmarks_by_path(table, options)
    boxes = Counter(path for _, path, row in rows if any(_cells(row, table, layout)))
    if known and not known.keys() & boxes.keys():
        options.unmatched.append(
            f"{options.landmarks}: names no image as {labels} does: it has {next(iter(known))!r}, "
            f"which has {next(iter(boxes), '')!r}."
        )
    unequal = {p: f for p, f in known.items() if boxes[p] and boxes[p] != len(f)}
    left = {path: iter(five) for path, five in known.items() if path not in unequal}
    entries = []
    for where, path, row in rows:
        entry = Entry(where, path, [], _size(row, table, layout), units)
        if path in unequal:  # said at its first row, which costs the image
            got = f"{options.landmarks}: number of rows for {path}: {len(unequal.pop(path))}"
            wanted = f"expected {boxes[path]}, one for each of its boxes in {labels}"
            entries.append(options.damaged(entry, UserError(f"{got}; {wanted}.")))
        else:
            read = partial(_faces, table, layout, where, row, left.get(path), options)
            entries.append(options.with_faces(entry, read))
    return entries


def _rows(table: _Table, options: ReadOptions) -> Iterator[tuple[str, str, Row]]:
    """Place, the image's path and cells of each row; those without a path are damages."""
    told = set(options.damages)  # a table of landmarks is read for each of several tables of boxes
    for where, row in table.rows:
        path = row.get(table.columns["path"], "").strip()
        if path:
            yield where, path, row
        elif (damage := f"{where}: the cell of the image's path is empty.") not in told:
            options.damages.append(damage)


def _faces(
    table: _Table,
    layout: tuple[str, ...],
    where: str,
    row: Row,
    others: Iterator[Landmarks] | None,
    options: ReadOptions,
) -> list[FaceLabel]:
    """The face of a row, with the next landmarks of another file if it has some; or none."""
    cells = _cells(row, table, layout)
    if not any(cells):
        return []
    category = row.get(table.columns.get("category", ""), "").strip() or None
    ten = next(others)() if others else _ten(row, table.points, where, options)
    return [FaceLabel(_numbers(cells, layout, where), ten, category=category)]


def _table(file: Path, options: ReadOptions) -> _Table:
    header, rows = _read(file)
    return _Table(_columns(file, header, options.columns), _point_columns(header, options), rows)


def _read(file: Path) -> tuple[list[str], list[tuple[str, Row]]]:
    """Names of the columns, and the rows that are not blank."""
    records = [(number, row) for number, row in read_rows(file, ",;\t|") if any(row)]
    if not records:
        raise UserError(f"{file} is empty: expected a table of boxes.")
    header = [cell.strip() for cell in records[0][1]]
    if len(header) >= 5 and all(not c or _is_number(c) for c in header[1:5]):  # path,x1,y1,x2,y2
        header = ["path", "x1", "y1", "x2", "y2", "class", *map(str, range(6, len(header)))]
    else:
        records = records[1:]
    return header, [(f"{file}:{n}", dict(zip(header, row, strict=False))) for n, row in records]


def _is_number(cell: str) -> bool:
    return bool(re.fullmatch(r"-?\d+(\.\d*)?", cell.strip()))


def _columns(
    file: Path,
    header: Sequence[str],
    named: Mapping[str, str],
    advice: str = "Set columns: {path: ...}",
) -> dict[str, str]:
    """Names of the columns by their meaning; the recipe's first, then the usual ones."""
    for name in named.values():
        if name not in header:
            raise UserError(f"{file}: there is no column {name!r}; columns: {', '.join(header)}.")
    columns = dict(named)
    usual = {name: _plain(name) for name in header}
    meanings = [MEANINGS.get(plain) for plain in usual.values()]
    for name in sorted(usual, key=lambda name: RANKS.get(usual[name], 0)):
        meaning = MEANINGS.get(usual[name])
        if name.lower() in ("width", "height") and meanings.count(meaning) > 1:
            meaning = f"image_{meaning}"  # `width` beside `w`, which is the box's
        if meaning and name not in named.values():
            columns.setdefault(meaning, name)
    if double := [name for name in columns.values() if header.count(name) > 1]:
        raise UserError(f"{file}: the column {double[0]!r} stands twice; rename or drop one.")
    if "path" not in columns:
        raise UserError(
            f"{file}: which column is the image's path? {advice}; columns: {', '.join(header)}."
        )
    return columns


def _plain(name: str) -> str:
    """A column's name as `USUAL` has it."""
    return re.sub(r"[\s\-.]+", "_", name.lower())


def _point_columns(header: Sequence[str], options: ReadOptions) -> list[tuple[str, str]]:
    """The columns of the five landmarks, by names such as `left_eye_x`; none unless all are."""
    pairs: dict[str, dict[str, str]] = {}
    for name in header:
        match = re.fullmatch(
            r"(.+?)[\s_.\-]*([xy])|([xy])[\s_.\-]+(.+)", name.strip(), re.IGNORECASE
        )
        if match:
            stem, axis = (match[1], match[2]) if match[1] else (match[4], match[3])
            pairs.setdefault(stem, {}).setdefault(axis.lower(), name)
    found: dict[int | None, tuple[str, str]] = {}
    for stem, pair in pairs.items():
        if len(pair) == 2:
            found.setdefault(keypoints.place(stem, options), (pair["x"], pair["y"]))
    return [found[place] for place in range(5)] if found.keys() >= set(range(5)) else []


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


def _cells(row: Row, table: _Table, layout: tuple[str, ...]) -> list[str]:
    """The cells of a box, empty for an image without one; they should be four."""
    cells = [(row.get(table.columns[meaning]) or "").strip() for meaning in layout]
    return re.findall(r"[^\s,\[\]()]+", cells[0]) if layout == ("bbox",) else cells


def _numbers(cells: list[str], layout: tuple[str, ...], where: str) -> list[float]:
    names = "a box [x, y, w, h]" if layout == ("bbox",) else f"four numbers {', '.join(layout)}"
    first, second, third, fourth = numbers(where, cells, 4, names)
    if layout[0] == "cx":
        return [first - third / 2, second - fourth / 2, third, fourth]
    return [first, second, third, fourth]


def _size(row: Row, table: _Table, layout: tuple[str, ...]) -> Size | None:
    """The image's size: `width` and `height`, too, where they are not the box's."""
    keys = ["image_width", "image_height"]
    if "image_width" not in table.columns and "width" not in layout:
        keys = ["width", "height"]
    return positive_size(*(row.get(table.columns.get(key, "")) for key in keys))


def _ten(
    row: Row, columns: list[tuple[str, str]], where: str, options: ReadOptions
) -> Sequence[float]:
    cells = [(row.get(name) or "").strip() for pair in columns for name in pair]
    known = [cell for cell in cells if cell.lower() not in EMPTY]
    left = iter(numbers(where, known, len(known), "numbers of landmarks"))
    ten = [float("nan") if cell.lower() in EMPTY else next(left) for cell in cells]
    for at in range(0, len(ten), 2):
        if ten[at : at + 2] in ([0, 0], [-1, -1]):
            options.note("landmarks at 0, 0 or at -1, -1 are taken for such as are not labelled.")
            ten[at : at + 2] = UNKNOWN[:2]
    return ten or UNKNOWN


def _landmarks_by_path(boxes: _Table, options: ReadOptions) -> dict[str, list[Landmarks]]:
    """The rows of a second table by image, in their order; none without such a table."""
    file, column = options.landmarks, boxes.columns["path"]
    if file is None:
        return {}
    header, rows = _read(file)
    named = {"path": column} if column in header else {}
    columns = _columns(file, header, named, f"Name it {column!r} as in the table of boxes")
    table = _Table(columns, _point_columns(header, options), rows)
    if not table.points:
        keypoints.require_names(options.names_seen, options.landmark_names, str(file))
        raise UserError(
            f"{file}: expected columns such as left_eye_x and left_eye_y for the five landmarks; "
            f"set landmark_names."
        )
    found: dict[str, list[Landmarks]] = defaultdict(list)
    for where, path, row in _rows(table, options):
        found[path].append(partial(_ten, row, table.points, where, options))
    return found
