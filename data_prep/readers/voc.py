"""Pascal VOC's XML, a file for each image, as labelImg and many others write it."""

import math
import re
from pathlib import Path
from xml.etree.ElementTree import Element

from data_prep.readers import shapes
from data_prep.readers.entries import (
    Entry,
    FaceLabel,
    ReadOptions,
    numbers,
    positive_size,
    read_xml,
)
from mtcnn_detector.errors import UserError

CORNERS = ("xmin", "ymin", "xmax", "ymax")


def read_voc(labels: Path, _options: ReadOptions) -> list[Entry]:
    """The one image of a file with its objects; those that are `difficult` are ignored."""
    root = read_xml(labels)
    if root.tag != "annotation":
        raise UserError(f"{labels}: expected Pascal VOC's <annotation>, got <{root.tag}>.")
    size = root.find("size")
    declared = None if size is None else positive_size(text(size, "width"), text(size, "height"))
    listed = enumerate(root.iter("object"), 1)  # those that LabelMe's online tool deletes stay in
    faces = [_face(o, f"{labels}: object {i}") for i, o in listed if text(o, "deleted") != "1"]
    name = text(root, "filename") or text(root, "path") or labels.stem
    return [Entry(str(labels), name, faces, declared, near=labels.parent, other_path=labels.stem)]


def _face(element: Element, where: str) -> FaceLabel:
    return FaceLabel(
        _box(element, where),
        ignored=text(element, "difficult") == "1",
        category=text(element, "name") or None,
    )


def _box(element: Element, where: str) -> list[float]:
    box, polygon = element.find("bndbox"), element.find("polygon")
    rotated = element.find("robndbox")
    if box is not None:
        corners = [text(box, key) for key in CORNERS]
        x1, y1, x2, y2 = numbers(where, corners, 4, "a bndbox with xmin, ymin, xmax and ymax")
        return [x1, y1, x2 - x1, y2 - y1]
    if rotated is not None:
        return _rotated(rotated, where)
    if polygon is not None:
        # Beside its points, as <x> and <y> or <x1>, LabelMe's online tool names its author.
        places = [child for child in polygon.iter() if re.fullmatch(r"[xy]\d*", child.tag)]
        values = [child.text for child in places if child.text and child.text.strip()]
        wanted = "a polygon of at least 3 points x and y"
        return shapes.bounds_of_flat(numbers(where, values, max(len(values) // 2 * 2, 6), wanted))
    raise UserError(f"{where}: expected a <bndbox> or <polygon>; there is none.")


def _rotated(element: Element, where: str) -> list[float]:
    """roLabelImg's box: centre, size and an angle in radians."""
    words = [text(element, key) for key in ("cx", "cy", "w", "h", "angle")]
    cx, cy, width, height, angle = numbers(where, words, 5, "a robndbox with cx, cy, w, h, angle")
    return shapes.rotated([cx - width / 2, cy - height / 2, width, height], math.degrees(angle))


def text(element: Element, tag: str) -> str:
    """The text of a child, without the space around it; empty where there is none."""
    return (element.findtext(tag) or "").strip()
