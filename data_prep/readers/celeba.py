"""CelebA's `list_bbox_celeba.txt` and `list_landmarks_celeba.txt`: a count, a header, rows."""

from pathlib import Path

from data_prep.readers.entries import (
    TEN_LANDMARKS,
    UNKNOWN,
    Entry,
    FaceLabel,
    Line,
    ReadOptions,
    numbers,
    read_lines,
    unexpected,
)
from mtcnn_detector.errors import UserError


def read_celeba(labels: Path, options: ReadOptions) -> list[Entry]:
    """All entries, one face each; `options.landmarks` is the list of landmarks."""
    landmarks = options.landmarks
    boxes = _celeba_rows(labels, 4, "path x y w h")
    known = _celeba_rows(landmarks, 10, f"path and x y of {TEN_LANDMARKS}") if landmarks else {}
    missing = next((path for path in boxes if landmarks and path not in known), None)
    if missing is not None:
        raise UserError(f"{landmarks} lacks {missing}, which {boxes[missing][0]} lists.")
    return [
        Entry(where, path, [FaceLabel(box, landmarks=known[path][1] if landmarks else UNKNOWN)])
        for path, (where, box) in boxes.items()
    ]


def _celeba_rows(file: Path, length: int, wanted: str) -> dict[str, tuple[str, list[float]]]:
    """Path -> (place, numbers) from a file of a count, a header and that many rows."""
    count, *rest = read_lines(file) or [Line(f"{file}:1", "")]
    if not count.text.isdecimal():
        raise unexpected(count.where, "the number of images", count.text)
    rows: dict[str, tuple[str, list[float]]] = {}
    for line in rest[1:]:
        path, *words = line.text.split()
        if path in rows:
            raise UserError(f"{line.where}: {path} stands at {rows[path][0]} already.")
        rows[path] = line.where, numbers(line.where, words, length, wanted)
    if len(rows) != int(count.text):
        raise UserError(f"{count.where}: announces {count.text} images, but {len(rows)} follow.")
    return rows
