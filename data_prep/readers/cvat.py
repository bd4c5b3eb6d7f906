"""CVAT's XML 1.1, for images and for videos: boxes, polygons, ellipses, points, skeletons."""

import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple
from xml.etree.ElementTree import Element

from data_prep.readers import keypoints, shapes
from data_prep.readers.entries import (
    Entry,
    FaceLabel,
    ReadOptions,
    is_count,
    numbers,
    positive_size,
    read_xml,
)
from data_prep.readers.keypoints import Point
from mtcnn_detector.errors import UserError

WITH_AREA = ("box", "polygon", "polyline", "ellipse", "mask", "cuboid")


class _Named(NamedTuple):
    name: str
    point: Point


def read_cvat(labels: Path, options: ReadOptions) -> list[Entry]:
    """All images of a file, or all frames of its tracks that have a box.

    Raises:
        UserError: a shape has no numbers where they are expected; names image and shape.
    """
    root = read_xml(labels)
    if root.tag != "annotations":
        raise UserError(f"{labels}: expected CVAT's <annotations>, got <{root.tag}>.")
    entries = [_image(element, labels, options) for element in root.iter("image")]
    return entries or _frames(root, labels, options)


def _image(element: Element, labels: Path, options: ReadOptions) -> Entry:
    name = element.get("name", "")
    where = f"{labels}: image {element.get('id', '')} ({name})"
    if not name:
        raise UserError(f"{where}: expected an <image> with a name.")
    size = positive_size(element.get("width"), element.get("height"))
    entry = Entry(where, name, [], size, near=labels.parent)
    return options.with_faces(entry, partial(_faces, list(element), where, options))


def _frames(root: Element, labels: Path, options: ReadOptions) -> list[Entry]:
    """The frames of a video, by the names that CVAT gives them when it exports images."""
    tasks = {track.get("task_id") for track in root.iter("track")}
    if len(tasks) > 1:
        raise UserError(
            f"{labels}: its tracks are of {len(tasks)} tasks, each of which counts its frames from "
            "0: export every task by itself."
        )
    by_frame: dict[int, list[Element]] = {}
    for track in root.iter("track"):
        for shape in track:
            frame = shape.get("frame", "")
            if is_count(frame) and shape.get("outside") != "1":
                shape.set("label", shape.get("label") or track.get("label") or "")
                by_frame.setdefault(int(frame), []).append(shape)
    entries = []
    for number, elements in sorted(by_frame.items()):
        where = f"{labels}: frame {number}"
        entry = Entry(where, f"frame_{number:06}", [])
        entries.append(options.with_faces(entry, partial(_faces, elements, where, options)))
    return entries


def _faces(elements: list[Element], where: str, options: ReadOptions) -> list[FaceLabel]:
    """Faces of shapes with an area; single points and skeletons give them their landmarks."""
    with_area = [element for element in elements if element.tag in WITH_AREA]
    boxes = [_box(element, f"{where}, {element.tag}") for element in with_area]
    named = [
        (name, point, element.get("group_id"))
        for element in elements
        for name, point in _points(element, where)
    ]
    groups = [element.get("group_id") for element in with_area]
    landmarks = keypoints.attach(boxes, named, options, groups)
    return [
        FaceLabel(box, ten, category=element.get("label") or None)
        for element, box, ten in zip(with_area, boxes, landmarks, strict=True)
    ]


def _box(element: Element, where: str) -> list[float]:
    degrees = numbers(where, [element.get("rotation") or 0], 1, "a rotation in degrees")[0]
    if element.tag == "box":
        x1, y1, x2, y2 = _attributes(element, ("xtl", "ytl", "xbr", "ybr"), where)
        return shapes.rotated([x1, y1, x2 - x1, y2 - y1], degrees)
    if element.tag == "ellipse":
        return shapes.ellipse(_attributes(element, ("cx", "cy", "rx", "ry"), where), degrees)
    if element.tag == "mask":
        return _attributes(element, ("left", "top", "width", "height"), where)
    if element.tag == "cuboid":
        xs = {key: value for key, value in element.items() if re.fullmatch("x[tb][lr][12]", key)}
        keys = [*xs, *(key.replace("x", "y", 1) for key in xs)]
        if not xs:
            raise UserError(f"{where}: expected a cuboid with xtl1, ytl1 and so on.")
        values = _attributes(element, tuple(keys), where)
        return shapes.bounds(values[: len(xs)], values[len(xs) :])
    points = list(_pairs(element, where))
    return shapes.bounds([p.x for p in points], [p.y for p in points])


def _attributes(element: Element, keys: tuple[str, ...], where: str) -> list[float]:
    values = [element.get(key, "") for key in keys]
    return numbers(where, values, len(keys), f"numbers as {', '.join(keys)}")


def _pairs(element: Element, where: str) -> Iterator[Point]:
    listed = element.get("points", "")
    wanted = "points as x,y;x,y"
    for pair in listed.split(";"):
        x, y = numbers(where, pair.split(","), 2, wanted)
        yield Point(x, y)


def _points(element: Element, where: str) -> Iterator[_Named]:
    """Named points of a <points> or <skeleton>; five at once are in the usual order."""
    if element.tag == "skeleton":
        for child in element.iter("points"):
            if child.get("outside") != "1":
                yield from _points(child, where)
    if element.tag == "points":
        points = list(_pairs(element, f"{where}, points"))
        names = keypoints.NAMES if len(points) == 5 else [element.get("label", "")]
        yield from map(_Named, names, points)
