"""The lines of YOLO's text files: boxes, keypoints or polygons as fractions of the image."""

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from data_prep.readers import keypoints, shapes
from data_prep.readers.entries import (
    UNKNOWN,
    Entry,
    FaceLabel,
    Line,
    ReadOptions,
    Split,
    numbers,
    read_lines,
)
from data_prep.readers.keypoints import Point
from mtcnn_detector.errors import UserError

MARGIN = 0.5  # of an image by which a box may reach over its border before the numbers are refused


class Description(NamedTuple):
    """What `data.yaml` or `classes.txt` say about the labels."""

    names: dict[str, str]  # of the classes, by number
    keypoint_shape: tuple[int, int] | None = None  # number of keypoints, and of numbers of each
    keypoints: Sequence[str] | None = None  # their names


def read_file(
    file: Path, labels: Path, described: Description, split: Split | None, options: ReadOptions
) -> Entry:
    """The labels of one image, whose path below the images is that of `file` below `labels`."""
    path = file.relative_to(labels).with_suffix("").as_posix()
    near = file.parent
    entry = Entry(str(file), path, [], None, "fractions", split, near, other_path=file.stem)
    return options.with_faces(entry, partial(_faces, file, described, options))


def _faces(file: Path, described: Description, options: ReadOptions) -> Iterator[FaceLabel]:
    for line in read_lines(file):
        yield _face(line, described, options)


def _face(line: Line, described: Description, options: ReadOptions) -> FaceLabel:
    wanted = "class cx cy w h as fractions of the image, then keypoints x y or x y v"
    number, *words = line.text.split()
    values = numbers(line.where, words, max(len(words), 4), wanted)
    numbers(line.where, [number], 1, wanted)
    category = str(int(float(number)))
    points = _points(line, values, described, options)
    is_box = len(values) in (4, 5) or points is not None
    box = _centred(values) if is_box else _polygon(line, values)
    if min(box[:2]) < -MARGIN or max(box[0] + box[2], box[1] + box[3]) > 1 + MARGIN:
        raise UserError(
            f"{line.where}: the box reaches far beyond the image: expected {wanted}, got "
            f"{line.text[:80]!r}."
        )
    return FaceLabel(box, points or UNKNOWN, category=described.names.get(category, category))


def _centred(values: list[float]) -> list[float]:
    cx, cy, width, height = values[:4]
    return [cx - width / 2, cy - height / 2, width, height]


def _polygon(line: Line, values: list[float]) -> list[float]:
    if len(values) < 6 or len(values) % 2:
        raise UserError(f"{line.where}: expected class cx cy w h, or a polygon x y x y ...")
    return shapes.bounds_of_flat(values)


def _points(
    line: Line, values: list[float], described: Description, options: ReadOptions
) -> Any | None:
    """The ten numbers of a pose line; None where the line is a box alone, or a polygon."""
    rest = values[4:]
    for count, width in _shapes_of(len(rest), described):
        rows = [rest[i : i + width] for i in range(0, count * width, width)]
        # x y v with v 0: not placed; without v, or in files of face detectors: -1 -1.
        points = [
            Point(row[0], row[1], row[2] > 0 if width == 3 else min(row) >= 0) for row in rows
        ]
        if described.keypoint_shape or _near(points, _centred(values)):
            indices = keypoints.choose(described.keypoints, count, options, line.where)
            return keypoints.gather(points, indices)
    return None


def _shapes_of(length: int, described: Description) -> Iterator[tuple[int, int]]:
    if described.keypoint_shape:
        count, width = described.keypoint_shape
        if width in (2, 3) and length in (count * width, count * width + 1):
            yield count, width
        return
    for count in keypoints.BY_COUNT:
        yield from ((count, width) for width in (3, 2) if length == count * width)


def _near(points: list[Point], box: list[float]) -> bool:
    """Whether the known points lie in the box or close to it: else the numbers are a polygon."""
    x, y, width, height = box
    return all(
        x - width / 2 <= p.x <= x + 1.5 * width and y - height / 2 <= p.y <= y + 1.5 * height
        for p in points
        if p.known
    )
