"""YOLO's text files: `class cx cy w h` as fractions, also with keypoints or as polygons."""

from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import yaml

from data_prep.readers.entries import (
    Entry,
    ReadOptions,
    Split,
    images_below,
    is_there,
    paths_below,
    read_lines,
    read_text,
)
from data_prep.readers.yolo_lines import Description, read_file
from mtcnn_detector.errors import UserError

NOT_LABELS = ("classes.txt", "obj.names", "train.txt", "val.txt", "test.txt")
SPLITS: dict[str, Split] = {"train": "train", "val": "validation"}
SKIPPED = (".heic", ".heif", ".avif", ".gif")  # images that are not read


def read_yolo(labels: Path, options: ReadOptions) -> list[Entry]:
    """The images of a `data.yaml`, of a folder of text files, or of one text file.

    An image without a text file is left out: an empty file says that an image shows no face.

    Raises:
        UserError: a line cannot be read, or a number is no fraction; names file and line.
    """
    if labels.is_file() and labels.suffix.lower() in (".yaml", ".yml"):
        return _of_data_yaml(labels, options)
    if labels.is_file():
        return [read_file(labels, labels.parent, _description(labels.parent), None, options)]
    for name in ("data.yaml", "data.yml"):
        if (labels / name).is_file() and _yaml(labels / name).get("train"):
            return _of_data_yaml(labels / name, options)
    files = _label_files(labels)
    if not files:
        raise UserError(f"{labels} holds no text file with labels.")
    if options.images is not None and options.images.is_dir():
        _note_unlabelled(files, images_below(options.images), options)
    described = _description(labels)
    return [read_file(path, labels, described, None, options) for path in files]


def _of_data_yaml(file: Path, options: ReadOptions) -> list[Entry]:
    whole = _yaml(file)
    described = _described(whole)
    entries: list[Entry] = []
    read: set[Path] = set()
    for key, split in SPLITS.items():
        listed = whole.get(key) or []
        for one in listed if isinstance(listed, list) else [listed]:
            images = _existing(file, whole.get("path"), str(one))
            if images is None:
                raise UserError(f"{file}: the folder {one} is not there.")
            found = _of_folder(images, options) if images.is_dir() else _of_list(images, options)
            for label, below, near in found:
                if label in read:
                    options.note(
                        f"{file}: what val: shares with train:, or lists twice, is read once."
                    )
                    continue
                read.add(label)
                entry = read_file(label, below, described, split, options)
                entries.append(entry._replace(path=label.stem, near=near))
    if not entries:
        raise UserError(f"{file}: expected train: and val: with folders of images; found no label.")
    if whole.get("test"):
        options.note(f"{file}: the images of test: are left out.")
    return entries


Found = Iterator[tuple[Path, Path, Path]]  # label file, folder of labels, folder of the image


def _of_folder(images: Path, options: ReadOptions) -> Found:
    labels = _labels_beside(images)
    files = _label_files(labels)
    _note_unlabelled(files, images_below(images), options)
    for path in files:
        yield path, labels, images / path.parent.relative_to(labels)


def _of_list(listing: Path, options: ReadOptions) -> Found:
    """The labels of a text file that lists images."""
    without = []
    for line in read_lines(listing):
        image = _existing(listing, None, line.text.replace("\\", "/"))
        if image is None:
            options.damages.append(f"{line.where}: the image {line.text} is not there.")
            continue
        labels = _labels_beside(image.parent)
        label = labels / f"{image.stem}.txt"
        if label.is_file():
            yield label, labels, image.parent
        else:
            without.append(image.name)
    options.note_unlabelled(without, "an empty file")


def _existing(file: Path, root: Any, listed: str) -> Path | None:
    """A listed file or folder; exports write paths that are right on the tool's machine only."""
    below = file.parent
    tries = [below / str(root or "") / listed, below / listed]
    parts = [part for part in Path(listed).parts if part not in ("..", ".", "/")]
    tries += [below.joinpath(*parts[i:]) for i in range(len(parts))]
    return next((path for path in tries if is_there(path)), None)


def _label_files(labels: Path) -> list[Path]:
    return [
        path
        for path in paths_below(labels)
        if path.suffix.lower() == ".txt"
        and path.name.lower() not in NOT_LABELS
        and not path.name.lower().startswith("readme")
    ]


def _labels_beside(images: Path) -> Path:
    """The folder of labels: `labels` in place of the last `images` of the path, if it is there."""
    parts = list(images.parts)
    if "images" in parts:
        last = len(parts) - 1 - parts[::-1].index("images")
        labels = Path(*parts[:last], "labels", *parts[last + 1 :])
        return labels if labels.is_dir() else images
    return images


def _note_unlabelled(files: list[Path], images: list[Path], options: ReadOptions) -> None:
    stems = {path.stem for path in files}
    without = [path.name for path in images if path.stem not in stems]
    if skipped := _skipped(options.images):
        options.note(skipped)
    options.note_unlabelled(without, "an empty file")


def _skipped(folder: Path | None) -> str | None:
    """A sentence about files of formats that are not read; None where there are none."""
    files = [] if folder is None else [p for p in folder.rglob("*") if p.suffix.lower() in SKIPPED]
    suffixes = ", ".join(sorted({path.suffix.lower() for path in files}))
    return f"{len(files)} files are skipped ({suffixes}): convert them to JPEG." if files else None


def _yaml(file: Path) -> dict[str, Any]:
    try:
        whole = yaml.safe_load(read_text(file))
    except (yaml.YAMLError, ValueError) as error:
        raise UserError(f"{file} is not a YAML file: {' '.join(str(error).split())}") from None
    if not isinstance(whole, dict):
        raise UserError(f"{file}: expected a mapping with train, val and names.")
    return whole


def _described(whole: dict[str, Any]) -> Description:
    names = whole.get("names") or {}
    listed = names if isinstance(names, list) else []
    pairs = names.items() if isinstance(names, dict) else enumerate(listed)
    shape = whole.get("kpt_shape")
    valid = isinstance(shape, list) and len(shape) == 2 and all(isinstance(n, int) for n in shape)
    named = {str(key): str(name) for key, name in pairs}
    if not (valid and shape):
        return Description(named)
    return Description(
        named, (shape[0], shape[1]), _keypoint_names(whole.get("kpt_names"), shape[0])
    )


def _keypoint_names(listed: Any, count: int) -> list[str] | None:
    """Names of the keypoints, listed once or for each class; None where they do not fit."""
    names = next(iter(listed.values()), None) if isinstance(listed, dict) else listed
    if not isinstance(names, list) or len(names) != count:
        return None
    return [str(name) for name in names]


def _description(labels: Path) -> Description:
    """Names of the classes and shape of the keypoints, from the files that tools put beside."""
    for folder in (labels, labels.parent, labels.parent.parent):
        for file in chain(folder.glob("data.y*ml"), folder.glob("dataset.y*ml")):
            return _described(_yaml(file))
        for file in chain(folder.glob("classes.txt"), folder.glob("obj.names")):
            lines = enumerate(read_text(file).splitlines())  # a class is the number of its line
            return Description(
                {str(number): name.strip() for number, name in lines if name.strip()}
            )
    return Description({})
