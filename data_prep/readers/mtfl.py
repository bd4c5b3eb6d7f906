"""MTFL's `trainImageList.txt`: a face a line, path x1 x2 y1 y2, ten numbers of landmarks."""

from functools import partial
from pathlib import Path

from data_prep.readers.entries import Entry, FaceLabel, Line, ReadOptions, numbers, read_lines


def read_mtfl(labels: Path, options: ReadOptions) -> list[Entry]:
    """All entries; attributes may follow the numbers of a line."""
    entries = []
    for line in read_lines(labels):
        entry = Entry(line.where, line.text.split()[0].replace("\\", "/"), [])
        entries.append(options.with_faces(entry, partial(_faces, line)))
    return entries


def _faces(line: Line) -> list[FaceLabel]:
    words = line.text.split()[1:15]
    row = numbers(line.where, words, 14, "path x1 x2 y1 y2 and five times x y")
    x1, x2, y1, y2 = row[:4]
    return [FaceLabel((x1, y1, x2 - x1, y2 - y1), row[4:])]
