"""YOLO's text files: `class cx cy w h` as fractions, also with keypoints or as polygons."""

from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import yaml

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
    read_text,
)
from data_prep.readers.keypoints import Point
from mtcnn_detector.errors import UserError
from mtcnn_detector.pixels import SUFFIXES

NOT_LABELS = ("classes.txt", "obj.names", "readme.txt", "train.txt", "val.txt", "test.txt")
SPLITS: dict[str, Split] = {"train": "train", "val": "validation"}
SKIPPED = (".heic", ".heif", ".avif", ".gif")  # images that are not read
MARGIN = 0.5  # of an image by which a box may reach over its border before the numbers are refused


class _DataSet(NamedTuple):
    """What `data.yaml` or `classes.txt` say about the labels."""

    names: dict[str, str]
    keypoint_shape: tuple[int, int] | None = None


def read_yolo(labels: Path, options: ReadOptions) -> list[Entry]:
    """The images of a `data.yaml`, of a folder of text files, or of one text file.

    An image without a text file is left out: an empty file says that an image shows no face.

    Raises:
        UserError: a line cannot be read, or a number is no fraction; names file and line.
    """
    if labels.is_file() and labels.suffix.lower() in (".yaml", ".yml"):
        return _of_data_yaml(labels, options)
    if labels.is_file():
        return [_entry(labels, labels.parent, _description(labels.parent), None, options)]
    files = sorted(path for path in labels.rglob("*.txt") if path.name.lower() not in NOT_LABELS)
    if not files:
        raise UserError(f"{labels} holds no text file with labels.")
    if options.images is not None and options.images.is_dir():
        _note_unlabelled(files, _images_below(options.images), options)
    described = _description(labels)
    return [_entry(path, labels, described, None, options) for path in files]


def _of_data_yaml(file: Path, options: ReadOptions) -> list[Entry]:
    whole = _yaml(file)
    described = _described(whole)
    entries: list[Entry] = []
    for key, split in SPLITS.items():
        listed = whole.get(key) or []
        for folder in listed if isinstance(listed, list) else [listed]:
            images = _folder(file, whole.get("path"), str(folder))
            labels = _labels_beside(images)
            files = sorted(labels.rglob("*.txt"))
            _note_unlabelled(files, _images_below(images), options)
            for path in files:
                entry = _entry(path, labels, described, split, options)
                near = images / path.parent.relative_to(labels)
                entries.append(entry._replace(path=path.stem, near=near))
    if not entries:
        raise UserError(f"{file}: expected train: and val: with folders of images; found no label.")
    if whole.get("test"):
        options.note(f"{file}: the images of test: are left out.")
    return entries


def _folder(file: Path, root: Any, listed: str) -> Path:
    """A folder of images; exports write paths that are right on the machine of the tool only."""
    below = file.parent
    tries = [below / str(root or "") / listed, below / listed]
    parts = [part for part in Path(listed).parts if part not in ("..", ".", "/")]
    tries += [below.joinpath(*parts[i:]) for i in range(len(parts))]
    found = next((path for path in tries if path.is_dir()), None)
    if found is None:
        raise UserError(f"{file}: the folder {listed} is not there.")
    return found


def _labels_beside(images: Path) -> Path:
    """The folder of labels: `labels` in place of the last `images` of the path."""
    parts = list(images.parts)
    if "images" in parts:
        last = len(parts) - 1 - parts[::-1].index("images")
        return Path(*parts[:last], "labels", *parts[last + 1 :])
    return images


def _note_unlabelled(files: list[Path], images: list[Path], options: ReadOptions) -> None:
    stems = {path.stem for path in files}
    without = [path.name for path in images if path.stem not in stems]
    if skipped := _skipped(options.images):
        options.note(skipped)
    if without:
        options.note(
            f"{len(without)} images have no label file and are left out ({', '.join(without[:3])}"
            f"{', ...' if len(without) > 3 else ''}): an empty file would say that one shows no "
            "face."
        )


def _skipped(folder: Path | None) -> str | None:
    """A sentence about files of formats that are not read; None where there are none."""
    files = [] if folder is None else [p for p in folder.rglob("*") if p.suffix.lower() in SKIPPED]
    suffixes = ", ".join(sorted({path.suffix.lower() for path in files}))
    return f"{len(files)} files are skipped ({suffixes}): convert them to JPEG." if files else None


def _images_below(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)


def _yaml(file: Path) -> dict[str, Any]:
    try:
        whole = yaml.safe_load(read_text(file))
    except yaml.YAMLError as error:
        raise UserError(f"{file} is not a YAML file: {' '.join(str(error).split())}") from None
    if not isinstance(whole, dict):
        raise UserError(f"{file}: expected a mapping with train, val and names.")
    return whole


def _described(whole: dict[str, Any]) -> _DataSet:
    names = whole.get("names") or {}
    listed = names if isinstance(names, list) else []
    pairs = names.items() if isinstance(names, dict) else enumerate(listed)
    shape = whole.get("kpt_shape")
    valid = isinstance(shape, list) and len(shape) == 2 and all(isinstance(n, int) for n in shape)
    named = {str(key): str(name) for key, name in pairs}
    return _DataSet(named, (shape[0], shape[1]) if valid and shape else None)


def _description(labels: Path) -> _DataSet:
    """Names of the classes and shape of the keypoints, from the files that tools put beside."""
    for folder in (labels, labels.parent, labels.parent.parent):
        for file in chain(folder.glob("data.y*ml"), folder.glob("dataset.y*ml")):
            return _described(_yaml(file))
        for file in chain(folder.glob("classes.txt"), folder.glob("obj.names")):
            return _DataSet({str(i): line.text for i, line in enumerate(read_lines(file))})
    return _DataSet({})


def _entry(
    file: Path, labels: Path, described: _DataSet, split: Split | None, options: ReadOptions
) -> Entry:
    faces = [_face(line, described, options) for line in read_lines(file)]
    path = file.relative_to(labels).with_suffix("").as_posix()
    near = file.parent
    return Entry(str(file), path, faces, None, "fractions", split, near, other_path=file.stem)


def _face(line: Line, described: _DataSet, options: ReadOptions) -> FaceLabel:
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
    line: Line, values: list[float], described: _DataSet, options: ReadOptions
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
            indices = keypoints.choose(None, count, options, line.where)
            return keypoints.gather(points, indices)
    return None


def _shapes_of(length: int, described: _DataSet) -> Iterator[tuple[int, int]]:
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
