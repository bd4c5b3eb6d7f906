"""RetinaFace's `label.txt`: `# path`, then a line for each box, with or without landmarks."""

import re
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

from data_prep.readers.entries import (
    UNKNOWN,
    Entry,
    FaceLabel,
    Line,
    ReadOptions,
    numbers,
    read_lines,
    unexpected,
)


def read_retinaface(labels: Path, options: ReadOptions) -> list[Entry]:
    """All entries; the landmarks of a face are unknown or five."""
    lines = read_lines(labels)
    boxes = [line for line in lines if not line.text.startswith("#")]
    # One length for the whole file, so that a row that was cut off is never one without landmarks.
    length = 4 if boxes and len(boxes[0].text.split()) == 4 else 20
    entries: list[Entry] = []
    rows: list[list[Line]] = []
    for line in lines:
        if line.text.startswith("#"):
            entries.append(Entry(line.where, _retinaface_path(line), []))
            rows.append([])
        elif entries:
            rows[-1].append(line)
        else:
            raise unexpected(line.where, "'# path'", line.text)
    return [
        options.with_faces(entry, partial(_retinaface_faces, own, length))
        for entry, own in zip(entries, rows, strict=True)
    ]


def _retinaface_path(line: Line) -> str:
    path = line.text[1:].strip()
    if re.search(r"\.\w+ \d+ \d+$", path):  # SCRFD's labelv2.txt: its boxes are x1 y1 x2 y2
        raise unexpected(line.where, "'# path' without width and height", line.text)
    return path


def _retinaface_faces(lines: Sequence[Line], length: int) -> Iterator[FaceLabel]:
    wanted = "x y w h" if length == 4 else "20 numbers (x y w h, five times x y flag, blur)"
    for line in lines:
        row = numbers(line.where, line.text.split(), length, wanted)
        yield FaceLabel(row[:4], landmarks=_flagged(row[4:19]))


def _flagged(triples: Sequence[float]) -> Sequence[float]:
    """Five times x y flag -> ten numbers; a point whose flag is negative becomes NaN."""
    # The flag decides, not the coordinates: those of a face cut by the border may be negative.
    if not triples:
        return UNKNOWN
    rows = [triples[at : at + 3] for at in range(0, 15, 3)]
    return [number for x, y, flag in rows for number in ((x, y) if flag >= 0 else UNKNOWN[:2])]
