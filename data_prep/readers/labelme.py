"""labelme's JSON, a file for each image; also X-AnyLabeling's and ISAT-like files of its layout."""

import math
from pathlib import Path
from typing import Any

from data_prep.readers import keypoints, shapes
from data_prep.readers.entries import (
    Entry,
    FaceLabel,
    ReadOptions,
    is_set,
    member,
    numbers,
    positive_size,
    read_json,
)
from data_prep.readers.keypoints import Point
from mtcnn_detector.errors import UserError


def read_labelme(labels: Path, options: ReadOptions) -> list[Entry]:
    """The one image of a file: shapes with an area are faces, named points their landmarks."""
    whole = read_json(labels)
    listed = member(whole, "shapes", list, str(labels))
    size = positive_size(whole.get("imageWidth"), whole.get("imageHeight"))
    path = whole.get("imagePath") or labels.stem
    areas, points = [], []
    for number, shape in enumerate(listed):
        where = f"{labels}: shapes[{number}]"
        corners = _corners(shape, where)
        if shape.get("shape_type") == "point":
            points.append(
                (
                    str(shape.get("label", "")),
                    Point(corners[0][0], corners[0][1]),
                    shape.get("group_id"),
                )
            )
        else:
            areas.append((shape, _box(shape.get("shape_type"), corners, where)))
    faces = _faces(areas, points, options)
    entry = Entry(str(labels), str(path), faces, size, near=labels.parent, other_path=labels.stem)
    return [entry]


def _corners(shape: Any, where: str) -> list[list[float]]:
    pairs = member(shape, "points", list, where)
    valid = [pair if isinstance(pair, list) else [pair] for pair in pairs]
    corners = [numbers(where, pair, 2, "points [x, y]") for pair in valid]
    if not corners:
        raise UserError(f"{where}: expected points [x, y]; there are none.")
    return corners


def _box(kind: str | None, corners: list[list[float]], where: str) -> list[float]:
    if kind == "circle":
        if len(corners) != 2:
            raise UserError(f"{where}: expected a circle's centre and a point of its edge.")
        radius = math.dist(*corners)
        return shapes.ellipse([*corners[0], radius, radius])
    return shapes.bounds([x for x, _ in corners], [y for _, y in corners])


def _faces(
    areas: list[tuple[dict[str, Any], list[float]]],
    points: list[tuple[str, Point, Any]],
    options: ReadOptions,
) -> list[FaceLabel]:
    boxes, groups = [box for _, box in areas], [shape.get("group_id") for shape, _ in areas]
    landmarks = keypoints.attach(boxes, points, options, groups)
    return [
        FaceLabel(
            box,
            ten,
            ignored=_flag(shape, "difficult") or _flag(shape, "ignore"),
            category=str(shape.get("label") or "") or None,
        )
        for (shape, box), ten in zip(areas, landmarks, strict=True)
    ]


def _flag(shape: dict[str, Any], name: str) -> bool:
    flags = shape.get("flags")
    return is_set(shape.get(name)) or (isinstance(flags, dict) and is_set(flags.get(name)))
