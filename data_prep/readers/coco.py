"""COCO's JSON: `images`, `annotations` with `bbox`, `keypoints` or `segmentation`, `categories`."""

from collections import defaultdict
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from data_prep.readers import keypoints, shapes
from data_prep.readers.entries import (
    TEN_LANDMARKS,
    UNKNOWN,
    Entry,
    FaceLabel,
    ReadOptions,
    is_set,
    member,
    numbers,
    positive_size,
    read_json,
    unexpected,
)
from mtcnn_detector.errors import UserError

_Label = tuple[str, dict[str, Any]]  # place and annotation


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
    entries = _images(whole, labels, options)
    by_image = _labels(whole, labels, entries, options)
    categories = _categories(whole, labels)
    for category in categories.values():
        options.names_seen.update(category.keypoints or ())  # also where no label has points
    _note_scores(member(whole, "annotations", list, f"{labels}"), options)
    return [
        entry
        if entry.problem
        else options.with_faces(entry, partial(_faces, by_image[name], categories, options))
        for name, entry in entries.items()
    ]


def _images(whole: Any, labels: Path, options: ReadOptions) -> dict[str, Entry]:
    """The images by their ids; two of one id cannot be used."""
    entries: dict[str, Entry] = {}
    for number, image in enumerate(member(whole, "images", list, f"{labels}")):
        where = f"{labels}: images[{number}]"
        try:
            name = _id(member(image, "id", object, where))
            size = positive_size(image.get("width"), image.get("height"))
            entry = Entry(where, member(image, "file_name", str, where), [], size)
        except UserError as error:
            options.damages.append(str(error))
            continue
        if name in entries:
            other = entries[name]
            taken = f"{where}: id {name} of {entry.path} is taken by {other.where} ({other.path})."
            entry = options.damaged(other, UserError(taken))
        entries[name] = entry
    return entries


def _labels(
    whole: Any, labels: Path, entries: Mapping[str, Entry], options: ReadOptions
) -> dict[str, list[_Label]]:
    """The annotations by the ids of their images; those of no image are noted as damaged."""
    by_image: dict[str, list[_Label]] = defaultdict(list)
    for number, label in enumerate(member(whole, "annotations", list, f"{labels}")):
        where = f"{labels}: annotations[{number}]"
        try:
            name = _id(member(label, "image_id", object, where))
            if name not in entries:
                raise UserError(f"{where}: image_id {name} is not among the images.")
            by_image[name].append((where, label))
        except UserError as error:
            options.damages.append(str(error))
    return by_image


def _note_scores(annotations: list[Any], options: ReadOptions) -> None:
    values = [label.get("score") for label in annotations if isinstance(label, dict)]
    scores = [value for value in values if isinstance(value, int | float)]
    if scores:
        options.note(
            f"{len(scores)} of the boxes carry a score ({min(scores):g} to {max(scores):g}), as a "
            "detector's do: all of them are taken for labels."
        )


def _faces(
    labels: list[_Label], categories: Mapping[str, _Category], options: ReadOptions
) -> list[FaceLabel]:
    return [_face(label, where, categories, options) for where, label in labels]


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
    category = _category(label.get("category_id"), where, categories)
    attributes = label.get("attributes")
    rotation = attributes.get("rotation", 0) if isinstance(attributes, dict) else 0
    degrees = numbers(where, [rotation or 0], 1, "a rotation in degrees")[0]
    return FaceLabel(
        shapes.rotated(_box(label, where), degrees),
        _landmarks(label, where, category.keypoints, options),
        ignored=is_set(label.get("iscrowd")) or is_set(label.get("ignore")),
        category=category.name or None,
    )


def _category(key: Any, where: str, categories: Mapping[str, _Category]) -> _Category:
    """The category of an id; by its id alone in a file that describes no categories."""
    if key is None or not categories:
        return _Category("" if key is None else _id(key), None)
    if _id(key) not in categories:
        known = ", ".join(f"{key} {category.name}" for key, category in categories.items())
        raise UserError(f"{where}: category_id {key} is not among the categories ({known[:200]}).")
    return categories[_id(key)]


def _box(label: dict[str, Any], where: str) -> list[float]:
    """The four numbers of `bbox`; without one, the bounds of the polygons."""
    polygons = label.get("segmentation")
    if not label.get("bbox") and polygons:
        if not isinstance(polygons, list):
            raise UserError(f"{where}: expected 'bbox', got a mask: only polygons have bounds.")
        nested = polygons if isinstance(polygons[0], list) else [polygons]
        flat = [value for one in nested for value in (one if isinstance(one, list) else [one])]
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
        if any(point.x or point.y for point in points):
            options.note(
                "some keypoints have coordinates, but a visibility of 0, which says that they are "
                "not labelled: faces with such alone are taken for faces without landmarks."
            )
        return UNKNOWN
    return keypoints.gather(points, keypoints.choose(names, count, options, where))
