"""Recognition of an annotation format from the beginning of its files."""

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from data_prep.readers import via3
from data_prep.readers.entries import (
    paths_below,
    read_json,
    read_text,
    read_xml,
    split_separator,
)
from mtcnn_detector.errors import UserError

NAMES = {
    "wider": "WIDER FACE's list",
    "retinaface": "RetinaFace's list",
    "mtfl": "MTFL's list",
    "celeba": "CelebA's list",
    "coco": "COCO",
    "voc": "Pascal VOC",
    "yolo": "YOLO",
    "labelme": "labelme",
    "cvat": "CVAT",
    "via": "VGG Image Annotator",
    "csv": "a CSV table",
}
# Formats that are recognised but not read, and the way out.
EXPORT_COCO = "export it as COCO"
LOOKED_AT = 20  # files of a folder


def likely_format(path: Path) -> str | None:
    """The format that a file or a folder's files look like; None if like no known one.

    Raises:
        UserError: the file cannot be read, or is of a format that is known but not read.
    """
    if path.is_dir():
        return _of_folder(path)
    suffix = path.suffix.lower()
    if suffix in (".yaml", ".yml"):
        return "yolo"
    if suffix == ".xml":
        return _of_xml(path)
    text = split_separator(read_text(path))[1].lstrip()
    if text.startswith(("{", "[")):
        return _of_json(path)
    if text.startswith("<"):
        return _of_xml(path)
    return _of_lines(text)


def _of_folder(folder: Path) -> str | None:
    for name in ("data.yaml", "data.yml", "classes.txt", "obj.names"):
        if (folder / name).is_file():
            return "yolo"
    errors: list[UserError] = []
    for files in _label_files(folder):
        found: Counter[str] = Counter()
        for path in files:
            try:
                found.update(filter(None, [likely_format(path)]))
            except UserError as error:  # one damaged file says nothing about the others
                errors.append(error)
        if found:
            return found.most_common(1)[0][0]
    if errors:
        raise errors[0]
    return None


def _label_files(folder: Path) -> Iterator[list[Path]]:
    """A few files of each kind that labels have, those of XML and JSON first."""
    files = paths_below(folder)
    for suffix in (".xml", ".json", ".csv", ".txt"):
        yield [path for path in files if path.suffix.lower() == suffix][:LOOKED_AT]


def _of_json(path: Path) -> str | None:
    whole = read_json(path)
    if isinstance(whole, list):
        _refuse_lists(path, whole)
        return None
    if not isinstance(whole, dict):
        return None
    if "shapes" in whole and ("imagePath" in whole or "imageWidth" in whole or "version" in whole):
        return "labelme"
    if "images" in whole or "annotations" in whole:
        return "coco"
    if "_via_img_metadata" in whole:
        return "via"
    if whole.keys() >= via3.KEYS:
        return "via"
    first = next(iter(whole.values()), None)
    return "via" if isinstance(first, dict) and {"filename", "regions"} <= first.keys() else "coco"


def _refuse_lists(path: Path, whole: list[Any]) -> None:
    first = whole[0] if whole and isinstance(whole[0], dict) else {}
    if "bbox" in first and "image_id" in first:
        raise UserError(
            f"{path} is a list of COCO results, which names no images: give the annotations "
            "(an object with images, annotations and categories)."
        )
    if ("annotations" in first and "data" in first) or "annotation_id" in first:
        raise UserError(f"{path} is Label Studio's own JSON: {EXPORT_COCO}.")
    if "annotations" in first and ("image" in first or "imagefilename" in first):
        raise UserError(f"{path} is Create ML's JSON: {EXPORT_COCO}.")
    if "External ID" in first or "data_row" in first:
        raise UserError(f"{path} is Labelbox's JSON: {EXPORT_COCO}.")


def _of_xml(path: Path) -> str | None:
    root = read_xml(path)
    if root.tag == "dataset" and root.find("images") is not None:
        raise UserError(f"{path} is dlib's XML: convert it to COCO.")
    return {"annotation": "voc", "annotations": "cvat"}.get(root.tag)


def _of_lines(text: str) -> str | None:
    first, second = (text[:65536] + "\n\n").splitlines()[:2]
    if text.startswith("#") and not re.match(r"#?filename,file_size", text):
        return "retinaface"
    if first.lstrip("#").startswith("filename,file_size,file_attributes"):
        return "via"
    if first.strip().isdecimal() and second[:1].isalpha():
        return "celeba"
    if second.strip().isdecimal():
        return "wider"
    words = first.split()
    if _is_yolo(words):
        return "yolo"
    if max(first.count(mark) for mark in ",;\t") >= 3:
        return "csv"
    return "mtfl" if len(words) >= 15 and any(map(str.isalpha, words[0])) else None


def _is_yolo(words: list[str]) -> bool:
    if len(words) < 5 or not words[0].isdecimal():
        return False
    try:
        values = [float(word) for word in words[1:]]
    except ValueError:
        return False
    # Five numbers are no other format's, even if they are pixels, which the reader refuses.
    return len(words) == 5 or all(-1 <= value <= 1.5 for value in values[:4])
