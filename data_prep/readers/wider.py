"""WIDER FACE's `wider_face_*_bbx_gt.txt`: a path, a count, a line for each box."""

from functools import partial
from itertools import repeat
from pathlib import Path

from data_prep.readers.entries import (
    UNKNOWN,
    Entry,
    FaceLabel,
    Line,
    ReadOptions,
    is_count,
    numbers,
    read_lines,
    unexpected,
)
from data_prep.readers.retinaface import read_retinaface
from mtcnn_detector.errors import UserError

COLUMNS = 10  # of a box: x y w h and six attributes


def read_wider(labels: Path, options: ReadOptions) -> list[Entry]:
    """All entries; a line of zeros may follow a count of 0.

    Args:
        labels: the list.
        options: `landmarks` is a RetinaFace list with the landmarks of the same boxes.
    """
    lines, entries, at = read_lines(labels), [], 0
    while at < len(lines):
        where, path = lines[at]
        count = _wider_count(*lines[at : at + 2])
        at += 2
        rows = lines[at : at + count]
        if len(rows) < count:
            raise UserError(f"{where}: the file ends before the {count} boxes of {path}.")
        for row in rows:
            # A line of another length is no box: where the next image begins is not known.
            if len(row.text.split()) != COLUMNS:
                _wider_face(row, path, count)
        read = partial(map, _wider_face, rows, repeat(path), repeat(count))
        entries.append(options.with_faces(Entry(where, path, []), read))
        at += count
        if not count and at < len(lines) and set(lines[at].text) == {"0", " "}:
            at += 1
    return _with_landmarks(entries, options.landmarks) if options.landmarks else entries


def _wider_count(header: Line, count: Line | None = None) -> int:
    if not header.text.strip("-.0123456789 "):
        wanted = "the path of an image (is the count before it too small?)"
        raise unexpected(header.where, wanted, header.text)
    if count is None:
        raise UserError(f"{header.where}: the file ends before the count of {header.text}.")
    if not is_count(count.text):
        raise unexpected(count.where, f"the number of boxes of {header.text}", count.text)
    return int(count.text)


def _wider_face(line: Line, path: str, count: int) -> FaceLabel:
    wanted = f"{COLUMNS} numbers (x y w h and six attributes; {path} announces {count} such lines)"
    row = numbers(line.where, line.text.split(), COLUMNS, wanted)
    return FaceLabel(row[:4], ignored=row[7] != 0)  # blur expression illumination INVALID ...


def _with_landmarks(entries: list[Entry], landmarks: Path) -> list[Entry]:
    """Give each box the landmarks that the RetinaFace list `landmarks` has for the same box."""
    options = ReadOptions()
    listed = read_retinaface(landmarks, options)
    if options.damages:
        raise UserError(options.damages[0])
    known = {_identity(entry, face): face.landmarks for entry in listed for face in entry.faces}
    wanted = [_identity(entry, face) for entry in entries for face in entry.faces]
    if wanted and known.keys().isdisjoint(wanted):
        raise UserError(f"{landmarks} has none of the boxes that it should give landmarks to.")
    for entry in entries:
        entry.faces[:] = [
            face._replace(landmarks=known.get(_identity(entry, face), UNKNOWN))
            for face in entry.faces
        ]
    return entries


def _identity(entry: Entry, face: FaceLabel) -> tuple[str, ...]:
    return entry.path, *(f"{number:.0f}" for number in face.box)
