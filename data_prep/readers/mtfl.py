"""MTFL's `trainImageList.txt`: a face a line, path x1 x2 y1 y2, ten numbers of landmarks."""

from pathlib import Path

from data_prep.readers.entries import Entry, FaceLabel, ReadOptions, numbers, read_lines


def read_mtfl(labels: Path, _options: ReadOptions) -> list[Entry]:
    """All entries; attributes may follow the numbers of a line."""
    entries, wanted = [], "path x1 x2 y1 y2 and five times x y"
    for line in read_lines(labels):
        path, *words = line.text.split()
        row = numbers(line.where, words[:14], 14, wanted)
        x1, x2, y1, y2 = row[:4]
        face = FaceLabel((x1, y1, x2 - x1, y2 - y1), row[4:])
        entries.append(Entry(line.where, path.replace("\\", "/"), [face]))
    return entries
