"""COCO's JSON: `images`, `annotations` with `bbox`, `keypoints` or `segmentation`, `categories`."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from data_prep.readers import keypoints, shapes
from data_prep.readers.entries import (
    TEN_LANDMARKS,
    UNKNOWN,
    Entry,
    FaceLabel,
    ReadOptions,
    member,
    numbers,
    positive_size,
    read_json,
    unexpected,
)
from mtcnn_detector.errors import UserError


class _Category(NamedTuple):
    name: str
    keypoints: list[str] | None


def read_coco(labels: Path, options: ReadOptions) -> list[Entry]:
    """All images of a file with their objects.

    Raises:
        UserError: an id is missing, double or dangling, or an object cannot be read; names the
            place in the file, such as `annotations[7] (id 8)`.
    """
    whole = read_json(labels)
    entries: dict[str, Entry] = {}
    for number, image in enumerate(member(whole, "images", list, f"{labels}")):
        where = f"{labels}: images[{number}]"
        name = _id(member(image, "id", object, where))
        if name in entries:
            raise UserError(f"{where}: id {name} is taken by {entries[name].where}.")
        size = positive_size(image.get("width"), image.get("height"))
        entries[name] = Entry(where, member(image, "file_name", str, where), [], size)
    categories = _categories(whole, labels)
    scores: list[float] = []
    for number, label in enumerate(member(whole, "annotations", list, f"{labels}")):
        where = f"{labels}: annotations[{number}]"
        name = _id(member(label, "image_id", object, where))
        if name not in entries:
            raise UserError(f"{where}: image_id {name} is not among the images.")
        entries[name].faces.append(_face(label, where, categories, options))
        if isinstance(label.get("score"), int | float):
            scores.append(label["score"])
    if scores:
        options.note(
            f"{len(scores)} of the boxes carry a score ({min(scores):g} to {max(scores):g}), as a "
            "detector's do: all of them are taken for labels."
        )
    return list(entries.values())


def _id(value: Any) -> str:
    """An id as text; tools that pass through tables write 7 as 7.0."""
    whole = isinstance(value, float) and value.is_integer()
    text = str(int(value)) if whole else str(value)
    return text.removesuffix(".0") if text.removesuffix(".0").isdecimal() else text


def _categories(whole: dict[str, Any], labels: Path) -> dict[str, _Category]:
    found: dict[str, _Category] = {}
    listed = whole.get("categories") or []
    if not isinstance(listed, list):
        raise UserError(f"{labels}: categories: expected a list of objects with 'id' and 'name'.")
    for number, category in enumerate(listed):
        where = f"{labels}: categories[{number}]"
        names = category.get("keypoints") if isinstance(category, dict) else None
        valid = isinstance(names, list) and all(isinstance(name, str) for name in names)
        name = str(category.get("name", "")) if isinstance(category, dict) else ""
        key = _id(member(category, "id", object, where))
        found[key] = _Category(name or key, names if valid and names else None)
    return found


def _face(
    label: dict[str, Any], where: str, categories: Mapping[str, _Category], options: ReadOptions
) -> FaceLabel:
    where = f"{where} (id {label.get('id')})"
    key = label.get("category_id")
    unnamed = _Category("" if key is None else _id(key), None)
    category = unnamed if key is None else categories.get(_id(key), unnamed)
    attributes = label.get("attributes")
    rotation = attributes.get("rotation", 0) if isinstance(attributes, dict) else 0
    degrees = numbers(where, [rotation or 0], 1, "a rotation in degrees")[0]
    return FaceLabel(
        shapes.rotated(_box(label, where), degrees),
        _landmarks(label, where, category.keypoints, options),
        ignored=bool(label.get("iscrowd") or label.get("ignore")),
        category=category.name or None,
    )


def _box(label: dict[str, Any], where: str) -> list[float]:
    """The four numbers of `bbox`; without one, the bounds of the polygons."""
    polygons = label.get("segmentation")
    if not label.get("bbox") and polygons:
        if not isinstance(polygons, list):
            raise UserError(f"{where}: expected 'bbox', got a mask: only polygons have bounds.")
        nested = polygons if isinstance(polygons[0], list) else [polygons]
        flat = [value for polygon in nested for value in polygon]
        wanted = "a polygon of x y x y ..."
        values = numbers(where, flat, len(flat), wanted)
        if len(values) < 6 or len(values) % 2:
            raise unexpected(where, wanted, " ".join(map(str, flat)))
        return shapes.bounds_of_flat(values)
    return numbers(where, member(label, "bbox", list, where), 4, "a bbox [x, y, w, h]")


def _landmarks(
    label: dict[str, Any], where: str, names: list[str] | None, options: ReadOptions
) -> Any:
    if not options.use_landmarks or not label.get("keypoints"):
        return UNKNOWN
    values = member(label, "keypoints", list, where)
    wanted = f"{len(names) if names else 5} keypoints x y v ({TEN_LANDMARKS})"
    count = len(names) if names else len(values) // 3 if len(values) % 3 == 0 else 5
    points = keypoints.triples(numbers(where, values, 3 * count, wanted))
    if not any(point.known for point in points):
        return UNKNOWN
    return keypoints.gather(points, keypoints.choose(names, count, options, where))
