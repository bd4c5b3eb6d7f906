"""Labels as annotation files list them, and the parsing that all readers share."""

import contextlib
import csv
import errno
import json
import os
import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple

from mtcnn_detector.errors import UserError
from mtcnn_detector.pixels import SUFFIXES

UNKNOWN = (float("nan"),) * 10
LARGEST = 1e6  # pixels; no image is larger, and nan and inf fail the comparison too
MAX_NAMED, MAX_SENTENCES = 3, 5
# Excel's own first line, which is no row: it names the character between the cells.
SEPARATOR = re.compile(r'\s*"?sep=(.)"?[ \t;,]*(?=[\r\n])', re.IGNORECASE)
TEN_LANDMARKS = "left eye, right eye, nose, left and right mouth corner"
BoxUnits = Literal["xywh", "xyxy", "fractions", "fractions_xyxy"]
Split = Literal["train", "validation"]
Size = tuple[float, float]  # width and height of an image, pixels


class FaceLabel(NamedTuple):
    """A face as it is listed; `landmarks` are x y x y ..., NaN where unknown."""

    box: Sequence[float]  # four numbers in the units of its entry
    landmarks: Sequence[float] = UNKNOWN
    ignored: bool = False
    category: str | None = None  # None where the format has no categories


class Entry(NamedTuple):
    """The labels of one image at one place of a file."""

    where: str
    path: str  # of the image, as the file has it
    faces: list[FaceLabel]
    size: Size | None = None  # of the image, if the file has it
    units: BoxUnits = "xywh"  # of boxes; of fractions, of landmarks too
    split: Split | None = None  # if the set brings its own
    near: Path | None = None  # folder in which the image is looked for first
    other_path: str | None = None  # for an image that is not found at `path`
    problem: str | None = None  # why its labels cannot be used; it has no faces then


@dataclass(frozen=True)
class ReadOptions:
    """What a recipe says about the content of annotation files.

    Args:
        landmarks: a second file, with the landmarks.
        landmark_names: the names of the five landmarks in the file, in the order of
            `TEN_LANDMARKS`.
        columns: names of a CSV file's columns, by their meaning (`path`, `x1`, ...).
        images: the folder of the images.
        use_landmarks: false: landmarks are not looked at, so that any scheme of points will do.
        notes: sentences for the user, filled by the readers.
        damages: sentences about labels that cannot be used, in their order, filled likewise.
        names_seen: the names of single points, filled likewise.
        unmatched: sentences on files none of whose images has landmarks in the second one, filled
            likewise.
    """

    landmarks: Path | None = None
    landmark_names: Sequence[str] = ()
    columns: Mapping[str, str] = field(default_factory=dict)
    images: Path | None = None
    use_landmarks: bool = True
    notes: list[str] = field(default_factory=list)
    damages: list[str] = field(default_factory=list)
    names_seen: set[str] = field(default_factory=set)
    unmatched: list[str] = field(default_factory=list)

    def with_faces(self, entry: Entry, read: Callable[[], Iterable[FaceLabel]]) -> Entry:
        """The entry with the faces that `read` gives.

        Where their labels are damaged it gets a `problem` instead: what is shown at the damaged
        place is not known, so nothing of the image can be used, but all other images can.
        """
        try:
            return entry._replace(faces=list(read()))
        except UserError as error:
            return self.damaged(entry, error)

    def damaged(self, entry: Entry, error: UserError) -> Entry:
        """The entry of an image whose labels cannot be used."""
        self.damages.append(str(error))
        return entry._replace(faces=[], problem=str(error))

    def note_unlabelled(self, names: Sequence[str], means: str) -> None:
        """Note images without a label file; `means` says what states that one shows no face."""
        if names:
            self.note(
                f"{len(names)} images have no label file and are left out ({first_names(names)}): "
                f"{means} would say that one shows no face."
            )

    def note(self, sentence: str) -> None:
        """Keep a sentence for the user, once."""
        if sentence not in self.notes:
            self.notes.append(sentence)


class Line(NamedTuple):
    """A line that is not blank, without the space around it."""

    where: str
    text: str


def read_lines(file: Path) -> list[Line]:
    """The lines of a text file that are not blank, each with `<file>:<number>`."""
    numbered = enumerate(read_text(file).splitlines(), start=1)
    return [Line(f"{file}:{number}", text.strip()) for number, text in numbered if text.strip()]


def read_text(file: Path) -> str:
    """A whole text file; raises UserError when it cannot be read."""
    content = _read_bytes(file)
    # Windows' Notepad and PowerShell write UTF-16, Excel the code page of Western Europe.
    utf16 = content.startswith((b"\xff\xfe", b"\xfe\xff"))
    for encoding in ("utf-16",) if utf16 else ("utf-8-sig", "cp1252"):
        with contextlib.suppress(UnicodeDecodeError):
            text = content.decode(encoding)
            if "\0" not in text:
                return text
    raise UserError(f"{file} is not a text file: expected annotations.")


def split_separator(text: str) -> tuple[str | None, str]:
    """The character that Excel's first line `sep=;` names, or None, and the text after it."""
    found = SEPARATOR.match(text)
    return (found[1], text[found.end() :]) if found else (None, text)


def read_rows(file: Path, delimiters: str) -> list[tuple[int, list[str]]]:
    """The rows of a table, each with the number of its first line; Excel's `sep=;` is none.

    Raises:
        UserError: a quote is not closed, which makes one cell of all that follows.
    """
    separator, text = split_separator(read_text(file))
    lines = text.splitlines()
    first = next((line for line in lines if line.strip()), "")
    delimiter = separator or max(delimiters, key=first.count)
    # A quote more closes the last cell if it is open; else it begins a row of its own.
    reader = csv.reader([*lines, '"'], delimiter=delimiter)
    rows, number = [], 1
    with contextlib.suppress(csv.Error):  # of a cell without an end
        for row in reader:
            rows.append((number, row))
            number = reader.line_num + 1
    if not rows or rows[-1] != (len(lines) + 1, [""]):
        number = rows[-1][0] if number > len(lines) else number
        raise UserError(f"{file}:{number}: damaged table: a quote is not closed.")
    return rows[:-1]


def _read_bytes(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise UserError(f"annotation file {file} cannot be read: {error.strerror}.") from None


def read_json(file: Path) -> Any:
    """The content of a JSON file; raises UserError with the line of damage."""
    try:
        return json.loads(read_text(file))
    except json.JSONDecodeError as error:
        raise UserError(f"{file}:{error.lineno}: damaged JSON: {error.msg}.") from None
    except RecursionError:
        raise UserError(f"{file}: damaged JSON: nested too deeply.") from None
    except ValueError:  # Python reads no longer ones
        raise UserError(f"{file}: damaged JSON: a number of thousands of digits.") from None


def read_xml(file: Path) -> ElementTree.Element:
    """The root of an XML file; raises UserError with the line of damage."""
    try:
        return ElementTree.fromstring(_read_bytes(file))
    except (ElementTree.ParseError, LookupError, ValueError) as error:
        if not isinstance(error, ElementTree.ParseError):
            raise UserError(f"{file}: damaged XML: {error}.") from None
        line = error.position[0]
        raise UserError(f"{file}:{line}: damaged XML: {error.msg.split(':')[0]}.") from None


def member(record: Any, key: str, kind: type, where: str) -> Any:
    """The value of an object's key, of the type `kind`; raises UserError otherwise."""
    if not isinstance(record, dict) or not isinstance(record.get(key), kind):
        raise UserError(f"{where}: expected an object with {key!r} ({kind.__name__}).")
    return record[key]


def numbers(where: str, words: Sequence[Any], length: int, wanted: str) -> list[float]:
    """`length` finite numbers below a million; raises UserError otherwise."""
    try:
        values = [float(word) for word in words]
    except (TypeError, ValueError, OverflowError):
        values = []
    if len(values) != length or not all(abs(value) < LARGEST for value in values):
        raise unexpected(where, wanted, " ".join(map(str, words)))
    return values


def is_count(text: str) -> bool:
    """Whether a text is a whole number that a file can count to; Python reads no longer ones."""
    return text.isdecimal() and len(text) < 10


def is_set(flag: Any) -> bool:
    """Whether a flag is set; tools that pass through tables write 0 as "0"."""
    return bool(flag) and str(flag).strip().lower() not in ("", "0", "0.0", "false")


def unexpected(where: str, wanted: str, got: str) -> UserError:
    """The error for a line or object with other content than wanted."""
    return UserError(f"{where}: expected {wanted}, got {got[:80]!r}.")


def paths_below(folder: Path) -> list[Path]:
    """The files in a folder and below, sorted, without macOS's companions of files (`._a.jpg`).

    Links to folders are followed, as those of the images are; a folder is looked into once.
    """
    found, seen = [], set()
    for parent, folders, names in os.walk(folder, followlinks=True):
        if (real := os.path.realpath(parent)) in seen:
            folders.clear()
            continue
        seen.add(real)
        folders.sort()
        found += [Path(parent, name) for name in names if not name.startswith("._")]
    return sorted(found)


def is_there(path: Path, test: Callable[[Path], bool] = Path.exists) -> bool:
    """Whether a path passes a test; one that is too long for any disk does not.

    Raises:
        OSError: its folder may not be looked into.
    """
    try:
        return test(path)
    except OSError as error:
        if error.errno != errno.ENAMETOOLONG:
            raise
        return False


def images_below(folder: Path) -> list[Path]:
    """The image files of a folder and below, by their suffixes."""
    return [path for path in paths_below(folder) if path.suffix.lower() in SUFFIXES]


def first_names(names: Sequence[str]) -> str:
    """The first names of a list, for a message."""
    return ", ".join(names[:MAX_NAMED]) + (", ..." if len(names) > MAX_NAMED else "")


def first_sentences(sentences: Sequence[str]) -> str:
    """The first sentences of a list, and how many follow, for a message."""
    left = len(sentences) - MAX_SENTENCES
    return "; ".join(sentences[:MAX_SENTENCES]) + (f"; and {left} more" if left > 0 else "")


def positive_size(width: Any, height: Any) -> Size | None:
    """Width and height as numbers; None where a file has none, or zeros."""
    try:
        size = float(width), float(height)
    except (TypeError, ValueError, OverflowError):
        return None
    return size if min(size) > 0 and max(size) < LARGEST else None
