"""CelebA's `list_bbox_celeba.txt` and `list_landmarks_celeba.txt`: a count, a header, rows."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from data_prep.readers.entries import (
    TEN_LANDMARKS,
    Entry,
    FaceLabel,
    Line,
    ReadOptions,
    is_count,
    numbers,
    read_lines,
    unexpected,
)
from mtcnn_detector.errors import UserError


def read_celeba(labels: Path, options: ReadOptions) -> list[Entry]:
    """All entries, one face each; `options.landmarks` is the list of landmarks."""
    landmarks = options.landmarks
    boxes = _celeba_rows(labels)
    known = _celeba_rows(landmarks) if landmarks else {}
    missing = next((path for path in boxes if landmarks and path not in known), None)
    if missing is not None:
        raise UserError(f"{landmarks} lacks {missing}, which {boxes[missing].where} lists.")
    return [
        options.with_faces(Entry(line.where, path, []), partial(_faces, line, known.get(path)))
        for path, line in boxes.items()
    ]


def _faces(box: Line, landmarks: Line | None) -> list[FaceLabel]:
    face = FaceLabel(_numbers(box, 4, "path x y w h"))
    if landmarks is None:
        return [face]
    wanted = f"path and x y of {TEN_LANDMARKS}"
    return [face._replace(landmarks=_numbers(landmarks, 10, wanted))]


def _numbers(line: Line, length: int, wanted: str) -> Sequence[float]:
    return numbers(line.where, line.text.split()[1:], length, wanted)


def _celeba_rows(file: Path) -> dict[str, Line]:
    """Path -> row from a file of a count, a header and that many rows."""
    count, *rest = read_lines(file) or [Line(f"{file}:1", "")]
    if not is_count(count.text):
        raise unexpected(count.where, "the number of images", count.text)
    rows: dict[str, Line] = {}
    for line in rest[1:]:
        path = line.text.split()[0]
        if path in rows:
            raise UserError(f"{line.where}: {path} stands at {rows[path].where} already.")
        rows[path] = line
    if len(rows) != int(count.text):
        raise UserError(f"{count.where}: announces {count.text} images, but {len(rows)} follow.")
    return rows
