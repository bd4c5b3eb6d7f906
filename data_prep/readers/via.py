"""VGG Image Annotator's projects, its JSON and its CSV exports (versions 1 to 3)."""

import json
import math
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from data_prep.readers import keypoints, shapes, via3
from data_prep.readers.entries import (
    Entry,
    FaceLabel,
    ReadOptions,
    member,
    numbers,
    read_json,
    read_rows,
    unexpected,
)
from data_prep.readers.keypoints import Point
from mtcnn_detector.errors import UserError

CATEGORY_KEYS = ("class", "label", "name", "category", "type", "object")
Region = tuple[str, dict[str, Any], dict[str, Any]]  # place, shape and region attributes
# Place, name of the file and its regions.
ImageRegions = tuple[str, str, Callable[[], Iterator[Region]]]
Row = tuple[str, dict[str, str]]  # place and cells by name of the column


def read_via(labels: Path, options: ReadOptions) -> list[Entry]:
    """All images of a file with their regions; points give landmarks to the region about them."""
    is_csv = labels.suffix.lower() == ".csv"
    images = _csv_images(labels) if is_csv else _json_images(labels)
    return [
        options.with_faces(
            Entry(where, name, [], near=labels.parent), partial(_faces, regions, options)
        )
        for where, name, regions in images
    ]


def _json_images(labels: Path) -> Iterator[ImageRegions]:
    whole = read_json(labels)
    if isinstance(whole, dict) and whole.keys() >= via3.KEYS:
        for where, name, listed in via3.images(whole, labels):
            yield where, name, partial(_regions, where, listed)
        return
    if isinstance(whole, dict) and "_via_img_metadata" in whole:
        whole = member(whole, "_via_img_metadata", dict, str(labels))
    if not isinstance(whole, dict):
        raise UserError(f"{labels}: expected an object with an entry for each image.")
    for key, image in whole.items():
        where = f"{labels}: {key}"
        name = member(image, "filename", str, where)
        yield where, name, partial(_regions, where, image.get("regions", []))


def _regions(where: str, listed: Any) -> Iterator[Region]:
    regions = list(listed.values()) if isinstance(listed, dict) else listed
    if not isinstance(regions, list):
        raise unexpected(where, "a list of regions", str(regions))
    for number, region in enumerate(regions):
        place = f"{where}: region {number}"
        shape = member(region, "shape_attributes", dict, place)
        yield place, shape, _dictionary(region.get("region_attributes"))


def _dictionary(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _csv_images(labels: Path) -> Iterator[ImageRegions]:
    images: dict[str, tuple[str, list[Row]]] = {}
    header, *rows = read_rows(labels, ",") or [(1, [])]
    names = [name.strip().lstrip("#") for name in header[1]]
    for number, row in rows:
        where = f"{labels}:{number}"
        record = dict(zip(names, row, strict=False))
        if row and record.get("filename"):
            images.setdefault(record["filename"], (where, []))[1].append((where, record))
    for name, (where, listed) in images.items():
        yield where, name, partial(_regions_of_rows, listed)


def _regions_of_rows(rows: list[Row]) -> Iterator[Region]:
    for where, record in rows:
        shape = _object(record.get("region_shape_attributes"), where)
        if shape:
            yield where, shape, _object(record.get("region_attributes"), where)


def _object(text: str | None, where: str) -> dict[str, Any]:
    try:
        content = json.loads(text or "{}")
    except (ValueError, RecursionError):
        raise unexpected(where, "a JSON object of attributes", text or "") from None
    return content if isinstance(content, dict) else {}


def _faces(regions: Callable[[], Iterator[Region]], options: ReadOptions) -> list[FaceLabel]:
    areas, points = [], []
    for place, shape, attributes in regions():
        if shape.get("name") == "point":
            x, y = _values(shape, ("cx", "cy"), place)
            points.append((_category(attributes) or "", Point(x, y), None))
        else:
            areas.append((_box(shape, place), _category(attributes)))
    landmarks = keypoints.attach([box for box, _ in areas], points, options)
    return [
        FaceLabel(box, ten, category=category)
        for (box, category), ten in zip(areas, landmarks, strict=True)
    ]


def _box(shape: dict[str, Any], where: str) -> list[float]:
    kind = shape.get("name")
    if kind == "rect":
        return _values(shape, ("x", "y", "width", "height"), where)
    if kind == "circle":
        cx, cy, radius = _values(shape, ("cx", "cy", "r"), where)
        return shapes.ellipse([cx, cy, radius, radius])
    if kind == "ellipse":
        radians = numbers(where, [shape.get("theta") or 0], 1, "an angle theta")[0]
        theta = math.degrees(radians)
        return shapes.ellipse(_values(shape, ("cx", "cy", "rx", "ry"), where), theta)
    if kind in ("polygon", "polyline"):
        xs = member(shape, "all_points_x", list, where)
        ys = member(shape, "all_points_y", list, where)
        values = numbers(where, [*xs, *ys], 2 * max(len(xs), 1), "as many points x as y")
        return shapes.bounds(values[: len(xs)], values[len(xs) :])
    raise unexpected(where, "a rect, circle, ellipse, polygon, polyline or point", str(kind))


def _values(shape: dict[str, Any], keys: tuple[str, ...], where: str) -> list[float]:
    return numbers(where, [shape.get(key) for key in keys], len(keys), f"numbers {', '.join(keys)}")


def _category(attributes: dict[str, Any]) -> str | None:
    """The value of the attribute that names the class; of the only one, if none does."""
    keys = [key for key in attributes if key.lower() in CATEGORY_KEYS] or list(attributes)
    value = attributes[keys[0]] if len(keys) == 1 or keys[:1] != list(attributes)[:1] else None
    if value is None and keys and keys[0].lower() in CATEGORY_KEYS:
        value = attributes[keys[0]]
    if isinstance(value, dict):  # of check boxes: the names of those that are set
        value = ", ".join(name for name, on in value.items() if on)
    return str(value).strip() or None if value is not None else None
