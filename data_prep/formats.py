"""Annotation files as they are written: for each format, what it lists at which line."""

import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from mtcnn_detector.errors import UserError

UNKNOWN = (float("nan"),) * 10
LARGEST = 1e6  # pixels; no image is larger, and nan and inf fail the comparison too
TEN_LANDMARKS = "left eye, right eye, nose, left and right mouth corner"


class FaceLabel(NamedTuple):
    """A face as it is listed, in pixels; `landmarks` are x y x y ..., NaN where unknown."""

    box: Sequence[float]  # x y w h
    landmarks: Sequence[float] = UNKNOWN
    ignored: bool = False


class Entry(NamedTuple):
    """What one place of a file lists for an image."""

    where: str
    path: str
    faces: list[FaceLabel]


class Line(NamedTuple):
    """A line that is not blank, without the space around it."""

    where: str
    text: str


def read_wider(labels: Path, landmarks: Path | None) -> list[Entry]:
    """WIDER's bbx_gt.txt: a path, a count, a line for each box; zeros follow a count of 0."""
    lines, entries, at = _lines(labels), [], 0
    while at < len(lines):
        where, path = lines[at]
        count = _wider_count(*lines[at : at + 2])
        at += 2
        rows = lines[at : at + count]
        if len(rows) < count:
            raise UserError(f"{where}: the file ends before the {count} boxes of {path}.")
        entries.append(Entry(where, path, [_wider_face(row, path, count) for row in rows]))
        at += count
        if not count and at < len(lines) and set(lines[at].text) == {"0", " "}:
            at += 1
    return _with_landmarks(entries, landmarks) if landmarks else entries


def _wider_count(header: Line, count: Line | None = None) -> int:
    if not header.text.strip("-.0123456789 "):
        wanted = "the path of an image (is the count before it too small?)"
        raise _unexpected(header.where, wanted, header.text)
    if count is None:
        raise UserError(f"{header.where}: the file ends before the count of {header.text}.")
    if not count.text.isdecimal():
        raise _unexpected(count.where, f"the number of boxes of {header.text}", count.text)
    return int(count.text)


def _wider_face(line: Line, path: str, count: int) -> FaceLabel:
    wanted = f"10 numbers (x y w h and six attributes; {path} announces {count} such lines)"
    row = _numbers(line.where, line.text.split(), 10, wanted)
    return FaceLabel(row[:4], ignored=row[7] != 0)  # blur expression illumination INVALID ...


def _with_landmarks(entries: list[Entry], landmarks: Path) -> list[Entry]:
    """Give each box the landmarks that the RetinaFace list `landmarks` has for the same box."""
    known = {
        _identity(entry, face): face.landmarks
        for entry in read_retinaface(landmarks, None)
        for face in entry.faces
    }
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


def read_retinaface(labels: Path, _landmarks: Path | None) -> list[Entry]:
    """RetinaFace's label.txt: `# path`, then a line for each box, with or without landmarks."""
    lines = _lines(labels)
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
            raise _unexpected(line.where, "'# path'", line.text)
    return entries


def _retinaface_path(line: Line) -> str:
    path = line.text[1:].strip()
    if re.search(r"\.\w+ \d+ \d+$", path):  # SCRFD's labelv2.txt: its boxes are x1 y1 x2 y2
        raise _unexpected(line.where, "'# path' without width and height", line.text)
    return path


def _retinaface_face(line: Line, length: int) -> FaceLabel:
    wanted = "x y w h" if length == 4 else "20 numbers (x y w h, five times x y flag, blur)"
    row = _numbers(line.where, line.text.split(), length, wanted)
    return FaceLabel(row[:4], landmarks=_flagged(row[4:19], lambda flag: flag >= 0))


def _flagged(triples: Sequence[float], known: Callable[[float], bool]) -> Sequence[float]:
    """Five times x y flag -> ten numbers; a point whose flag is not `known` becomes NaN."""
    # Never told by the coordinates: those of a face cut by the border may be negative.
    if not triples:
        return UNKNOWN
    rows = [triples[at : at + 3] for at in range(0, 15, 3)]
    return [number for x, y, flag in rows for number in ((x, y) if known(flag) else UNKNOWN[:2])]


def read_mtfl(labels: Path, _landmarks: Path | None) -> list[Entry]:
    """MTFL's trainImageList.txt: a face a line, path x1 x2 y1 y2, ten numbers of landmarks."""
    entries, wanted = [], "path x1 x2 y1 y2 and five times x y"
    for line in _lines(labels):
        path, *words = line.text.split()
        row = _numbers(line.where, words[:14], 14, wanted)  # attributes may follow
        x1, x2, y1, y2 = row[:4]
        face = FaceLabel((x1, y1, x2 - x1, y2 - y1), row[4:])
        entries.append(Entry(line.where, path.replace("\\", "/"), [face]))
    return entries


def read_celeba(labels: Path, landmarks: Path | None) -> list[Entry]:
    """CelebA's list_bbox_celeba.txt and, as `landmarks`, list_landmarks_celeba.txt."""
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
    count, *rest = _lines(file) or [Line(f"{file}:1", "")]
    if not count.text.isdecimal():
        raise _unexpected(count.where, "the number of images", count.text)
    rows: dict[str, tuple[str, list[float]]] = {}
    for line in rest[1:]:
        path, *words = line.text.split()
        if path in rows:
            raise UserError(f"{line.where}: {path} stands at {rows[path][0]} already.")
        rows[path] = line.where, _numbers(line.where, words, length, wanted)
    if len(rows) != int(count.text):
        raise UserError(f"{count.where}: announces {count.text} images, but {len(rows)} follow.")
    return rows


def read_coco(labels: Path, _landmarks: Path | None) -> list[Entry]:
    """COCO's instances or keypoints JSON; every category counts as a face."""
    try:
        whole = json.loads(read_text(labels))
    except json.JSONDecodeError as error:
        raise UserError(f"{labels}:{error.lineno}: damaged JSON: {error.msg}.") from None
    entries: dict[str, Entry] = {}
    for number, image in enumerate(_member(whole, "images", list, f"{labels}")):
        where = f"{labels}: images[{number}]"
        name = str(_member(image, "id", object, where))
        if name in entries:
            raise UserError(f"{where}: id {name} is taken by {entries[name].where}.")
        entries[name] = Entry(where, _member(image, "file_name", str, where), [])
    for number, face in enumerate(_member(whole, "annotations", list, f"{labels}")):
        where = f"{labels}: annotations[{number}]"
        name = str(_member(face, "image_id", object, where))
        if name not in entries:
            raise UserError(f"{where}: image_id {name} is not among the images.")
        entries[name].faces.append(_coco_face(face, where))
    return list(entries.values())


def _coco_face(face: dict[str, Any], where: str) -> FaceLabel:
    where = f"{where} (id {face.get('id')})"
    box = _numbers(where, _member(face, "bbox", list, where), 4, "a bbox [x, y, w, h]")
    landmarks: list[float] = []
    if face.get("keypoints"):
        triples = _member(face, "keypoints", list, where)
        landmarks = _numbers(where, triples, 15, f"5 keypoints x y v ({TEN_LANDMARKS})")
    ignored = bool(face.get("iscrowd") or face.get("ignore"))
    return FaceLabel(box, landmarks=_flagged(landmarks, lambda flag: flag > 0), ignored=ignored)


def _member(record: Any, key: str, kind: type, where: str) -> Any:
    if not isinstance(record, dict) or not isinstance(record.get(key), kind):
        raise UserError(f"{where}: expected an object with {key!r} ({kind.__name__}).")
    return record[key]


READERS: dict[str, Callable[[Path, Path | None], list[Entry]]] = {
    "wider": read_wider,
    "retinaface": read_retinaface,
    "mtfl": read_mtfl,
    "celeba": read_celeba,
    "coco": read_coco,
}


def _lines(file: Path) -> list[Line]:
    numbered = enumerate(read_text(file).splitlines(), start=1)
    return [Line(f"{file}:{number}", text.strip()) for number, text in numbered if text.strip()]


def read_text(file: Path) -> str:
    """The whole of a text file; raises UserError when it cannot be read."""
    try:
        return file.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise UserError(f"annotation file {file} cannot be read: {error.strerror}.") from None
    except UnicodeDecodeError:
        raise UserError(f"{file} is not a text file: expected annotations.") from None


def _numbers(where: str, words: Sequence[Any], length: int, wanted: str) -> list[float]:
    try:
        numbers = [float(word) for word in words]
    except (TypeError, ValueError, OverflowError):
        numbers = []
    if len(numbers) != length or not all(abs(number) < LARGEST for number in numbers):
        raise _unexpected(where, wanted, " ".join(map(str, words)))
    return numbers


def _unexpected(where: str, wanted: str, got: str) -> UserError:
    return UserError(f"{where}: expected {wanted}, got {got[:80]!r}.")
