"""Readers of annotation formats: one module each, and their table."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from data_prep.readers.celeba import read_celeba
from data_prep.readers.coco import read_coco
from data_prep.readers.csv_table import read_csv
from data_prep.readers.cvat import read_cvat
from data_prep.readers.entries import Entry, ReadOptions, first_names, paths_below
from data_prep.readers.labelme import read_labelme
from data_prep.readers.mtfl import read_mtfl
from data_prep.readers.retinaface import read_retinaface
from data_prep.readers.via import read_via
from data_prep.readers.voc import read_voc
from data_prep.readers.wider import read_wider
from data_prep.readers.yolo import read_yolo
from mtcnn_detector.errors import UserError


class Reader(NamedTuple):
    """How the files of a format are read.

    Attributes:
        read: (file, options) -> entries.
        suffixes: of its files in a folder.
        units: whether `boxes` may say what the numbers of a box mean.
        landmarks: whether a second file may hold the landmarks.
        of_tools: whether tools write it that show images upright; else numbers are taken for
            those of the pixels as they are stored, as in research sets.
        whole_folder: whether `read` takes a folder itself.
        one_image: whether each file describes one image, by whose name it is called.
        face_rows: whether an image has an entry for each face.
    """

    read: Callable[[Path, ReadOptions], list[Entry]]
    suffixes: tuple[str, ...]
    units: bool = False
    landmarks: bool = False
    of_tools: bool = True
    whole_folder: bool = False
    one_image: bool = False
    face_rows: bool = False


LABEL_SUFFIXES = (".xml", ".json", ".csv", ".tsv")  # .txt is of notes as often

READERS: dict[str, Reader] = {
    "wider": Reader(read_wider, (".txt",), units=True, landmarks=True, of_tools=False),
    "retinaface": Reader(read_retinaface, (".txt",), units=True, of_tools=False),
    "mtfl": Reader(read_mtfl, (".txt",), of_tools=False, face_rows=True),
    "celeba": Reader(read_celeba, (".txt",), units=True, landmarks=True, of_tools=False),
    "coco": Reader(read_coco, (".json",), units=True),
    "voc": Reader(read_voc, (".xml",), one_image=True),
    "yolo": Reader(read_yolo, (".txt",), whole_folder=True),
    "labelme": Reader(read_labelme, (".json",), one_image=True),
    "cvat": Reader(read_cvat, (".xml",)),
    "via": Reader(read_via, (".json", ".csv")),
    "csv": Reader(read_csv, (".csv", ".tsv", ".txt"), units=True, landmarks=True, face_rows=True),
}


def read_entries(format: str, labels: Sequence[Path], options: ReadOptions) -> list[Entry]:
    """The entries of files or folders of a format, in their order.

    Raises:
        UserError: a file is missing or damaged, or a folder holds none of the format.
    """
    reader = READERS[format]
    entries: list[Entry] = []
    count = 0
    for path in labels:
        if path.is_dir() and not reader.whole_folder:
            for file in files_in(path, format, options):
                found = _read(reader, file, options)
                entries += [_near(entry, file.parent) for entry in found]
                count += 1
        else:
            entries += _read(reader, path, options)
            count += 1
    if options.unmatched and len(options.unmatched) == count:
        raise UserError(options.unmatched[0])
    for sentence in options.unmatched:
        options.note(f"warning: {sentence}")
    return entries


def _read(reader: Reader, file: Path, options: ReadOptions) -> list[Entry]:
    """The entries of a file; of one that describes one image, also where it is damaged."""
    try:
        return reader.read(file, options)
    except UserError as error:
        if not reader.one_image:
            raise
        return [options.damaged(Entry(str(file), file.stem, [], near=file.parent), error)]


def _near(entry: Entry, folder: Path) -> Entry:
    return entry if entry.near else entry._replace(near=folder)


def files_in(folder: Path, format: str, options: ReadOptions) -> list[Path]:
    """The label files of a format in a folder and below, sorted; raises UserError for none."""
    suffixes = READERS[format].suffixes
    found = [path for path in paths_below(folder) if path.suffix.lower() in LABEL_SUFFIXES]
    files = [path for path in found if path.suffix.lower() in suffixes]
    if others := [path.name for path in found if path not in set(files)]:
        options.note(
            f"{len(others)} files below {folder} are not read ({first_names(others)}): labels of "
            f"the format {format} end in {' or '.join(suffixes)}."
        )
    if not files:
        wanted = " or ".join(suffixes)
        raise UserError(
            f"annotation file {folder} cannot be read: Is a directory without {wanted} files, "
            f"which labels of the format {format} would be."
        )
    return files
