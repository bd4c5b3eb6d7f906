"""The one record that annotations are read into, whatever the format of their file."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np

from data_prep.formats import READERS, Entry, FaceLabel, read_text
from mtcnn_detector.boxes import BoolArray, FloatArray
from mtcnn_detector.errors import UserError

NOSE = slice(4, 6)  # where its x y stand in FaceLabel.landmarks


@dataclass(frozen=True)
class Annotation:
    """One image and its N faces, in pixels of the image file; N may be 0 (all background)."""

    image: Path
    key: str  # "<source>/<path below the images folder>": the same on every machine
    boxes: FloatArray  # (N, 4) float32 windows x1 y1 x2 y2, half-open, 0-based
    ignored: BoolArray  # (N,) neither a positive nor background
    landmarks: FloatArray  # (N, 5, 2) float32 x y, NaN where unknown; order as in `TEN_LANDMARKS`
    where: str  # the place in the file that lists it, for messages


def read(
    format: str, labels: Path, images: Path, landmarks: Path | None = None, source: str = ""
) -> list[Annotation]:
    """Read an annotation file; the images, in the file's order, are neither opened nor sought.

    An image that is listed twice gets the faces of both places. Boxes without a positive width
    and height are dropped, images without boxes are kept.

    Args:
        format: One of `READERS`.
        labels: The annotation file.
        images: The folder that the listed paths are relative to.
        landmarks: The file with the landmarks: a RetinaFace list for `wider`, the landmarks for
            `celeba`; the other formats have them in `labels`.
        source: The name of the data set; begins every key.

    Raises:
        UserError: A file is missing, damaged or of another format; names the line.
    """
    if format not in READERS:
        raise UserError(f"unknown annotation format {format!r}: use one of {', '.join(READERS)}.")
    if landmarks is not None and format not in ("wider", "celeba"):
        raise UserError(f"format {format} takes no landmarks file, but {landmarks} is given.")
    likely = likely_format(labels)
    if likely not in (None, format):
        raise UserError(f"{labels} looks like a {likely} file: set format: {likely}.")
    entries = READERS[format](labels, landmarks)
    if not entries:
        raise UserError(f"{labels} lists no image: expected a {format} file.")
    _check_noses([face for entry in entries for face in entry.faces], landmarks or labels)
    return _merged(entries, images, source)


def likely_format(file: Path) -> str | None:
    """The format that the first lines of `file` look like; None if like no known one."""
    text = read_text(file).lstrip()
    first, second = (text[:4096] + "\n\n").splitlines()[:2]
    if text.startswith(("{", "#")):
        return "coco" if text.startswith("{") else "retinaface"
    if first.strip().isdecimal() and second[:1].isalpha():
        return "celeba"
    if second.strip().isdecimal():
        return "wider"
    words = first.split()
    return "mtfl" if len(words) >= 15 and any(map(str.isalpha, words[0])) else None


def _check_noses(faces: Sequence[FaceLabel], file: Path) -> None:
    """Refuse columns of another meaning: with them most noses lie outside their boxes."""
    noses = np.array([face.landmarks[NOSE] for face in faces], np.float64).reshape(-1, 2)
    known = np.isfinite(noses).all(axis=1)
    noses, boxes = noses[known], _boxes(faces)[known]
    inside = (noses >= boxes[:, :2]) & (noses <= boxes[:, 2:])
    if inside.all(axis=1).sum() < len(boxes) / 2:
        raise UserError(
            f"{file}: most noses lie outside the boxes of their faces: are the landmarks those of "
            "these images (not of aligned ones), and the columns those of the format?"
        )


def _merged(entries: Sequence[Entry], images: Path, source: str) -> list[Annotation]:
    by_path: dict[PurePosixPath, list[Entry]] = defaultdict(list)
    for entry in entries:
        by_path[_relative(entry)].append(entry)
    return [
        _annotation(images / path, PurePosixPath(source, path).as_posix(), same)
        for path, same in by_path.items()
    ]


def _relative(entry: Entry) -> PurePosixPath:
    path = PurePosixPath(entry.path)
    if path.is_absolute() or ".." in path.parts or not path.parts:
        raise UserError(
            f"{entry.where}: {entry.path!r} must be a path relative to the images folder, below it."
        )
    return path


def _annotation(image: Path, key: str, entries: Sequence[Entry]) -> Annotation:
    faces = [face for entry in entries for face in entry.faces]
    boxes = _boxes(faces)
    kept = (boxes[:, 2:] > boxes[:, :2]).all(axis=1)
    ignored = np.array([face.ignored for face in faces], np.bool_)
    landmarks = np.array([face.landmarks for face in faces], np.float32).reshape(-1, 5, 2)
    return Annotation(image, key, boxes[kept], ignored[kept], landmarks[kept], entries[0].where)


def _boxes(faces: Sequence[FaceLabel]) -> FloatArray:
    """Faces of x y w h -> (N, 4) float32 windows."""
    xywh = np.array([face.box for face in faces], np.float64).reshape(-1, 4)
    return np.hstack([xywh[:, :2], xywh[:, :2] + xywh[:, 2:]]).astype(np.float32)
