"""RetinaFace's `label.txt`: `# path`, then a line for each box, with or without landmarks."""

import re
from collections.abc import Sequence
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


def read_retinaface(labels: Path, _options: ReadOptions) -> list[Entry]:
    """All entries; the landmarks of a face are unknown or five."""
    lines = read_lines(labels)
    boxes = [line for line in lines if not line.text.startswith("#")]
    # One length for the whole file, so that a row that was cut off is never one without landmarks.
    length = 4 if boxes and len(boxes[0].text.split()) == 4 else 20
    entries: list[Entry] = []
    for line in lines:
        if line.text.startswith("#"):
            entries.append(Entry(line.where, _retinaface_path(line), []))
        elif entries:
            entries[-1].faces.append(_retinaface_face(line, length))
        else:
            raise unexpected(line.where, "'# path'", line.text)
    return entries


def _retinaface_path(line: Line) -> str:
    path = line.text[1:].strip()
    if re.search(r"\.\w+ \d+ \d+$", path):  # SCRFD's labelv2.txt: its boxes are x1 y1 x2 y2
        raise unexpected(line.where, "'# path' without width and height", line.text)
    return path


def _retinaface_face(line: Line, length: int) -> FaceLabel:
    wanted = "x y w h" if length == 4 else "20 numbers (x y w h, five times x y flag, blur)"
    row = numbers(line.where, line.text.split(), length, wanted)
    return FaceLabel(row[:4], landmarks=_flagged(row[4:19]))


def _flagged(triples: Sequence[float]) -> Sequence[float]:
    """Five times x y flag -> ten numbers; a point whose flag is negative becomes NaN."""
    # The flag decides, not the coordinates: those of a face cut by the border may be negative.
    if not triples:
        return UNKNOWN
    rows = [triples[at : at + 3] for at in range(0, 15, 3)]
    return [number for x, y, flag in rows for number in ((x, y) if flag >= 0 else UNKNOWN[:2])]
