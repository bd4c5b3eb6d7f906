"""The numbers of a box in pixels: x y w h, corners, or fractions of the image."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from data_prep.readers.entries import BoxUnits, Entry, FaceLabel, Size
from mtcnn_detector.boxes import FloatArray
from mtcnn_detector.errors import UserError

SLACK = 2.0  # pixels by which a box may reach over the border and still count as inside
ROUNDING = 0.01  # of an image by which centre and size may reach over its border
PERCENT = 100.5  # the last edge that a percentage can be, with rounding
MIN_SIDE, MIN_BOXES = 150, 10  # images and boxes from which edges of 100 pixels are no accident
SUSPICIOUS = 0.2  # share of boxes that fit the image in another reading only


def in_pixels(
    entries: Sequence[Entry],
    sizes: Sequence[Size | None],
    boxes: BoxUnits | None,
    file: Path,
    first_pixel: int = 0,
) -> list[Entry]:
    """Entries whose boxes are x y w h in pixels, and landmarks in pixels, both counted from 0.

    Args:
        entries: the labels as they are listed.
        sizes: width and height of each entry's image; None where it is not known.
        boxes: the meaning of the numbers from the recipe; None for each entry's own.
        file: for messages.
        first_pixel: what the labels call the first pixel's column and row.

    Raises:
        UserError: fractions are said to count pixels from 1; the numbers look like fractions or
            percentages, or like corners in place of sizes, or the other way round; the sentence
            says what to set.
    """
    units = [_units(entry.units, boxes) for entry in entries]
    _check_fractions(entries, units, file)
    _check_corners(entries, sizes, units, file)
    _check_percentages(entries, sizes, units, file)
    _check_centres(entries, file)
    if first_pixel and any(unit.startswith("fractions") for unit in units):
        raise UserError(f"{file}: its boxes are fractions of the image: leave out first_pixel.")
    scaled_points = _points_are_fractions(entries)
    return [
        entry._replace(
            faces=[
                _counted_from(first_pixel, _in_pixels(face, unit, size, scaled_points))
                for face in entry.faces
            ],
            units="xywh",
        )
        for entry, size, unit in zip(entries, sizes, units, strict=True)
    ]


def _counted_from(first_pixel: int, face: FaceLabel) -> FaceLabel:
    """A face whose pixels are counted from 0 in place of `first_pixel`."""
    if not first_pixel:
        return face
    x, y, width, height = face.box
    landmarks = [value - first_pixel for value in face.landmarks]
    return face._replace(box=(x - first_pixel, y - first_pixel, width, height), landmarks=landmarks)


def _units(own: BoxUnits, boxes: BoxUnits | None) -> BoxUnits:
    """The recipe's units; fractions of named corners stay corners."""
    if boxes == "fractions" and own == "xyxy":
        return "fractions_xyxy"
    return boxes or own


def _points_are_fractions(entries: Sequence[Entry]) -> bool:
    every = [value for entry in entries for face in entry.faces for value in face.landmarks]
    known = np.array(every, np.float64)
    return bool(np.nanmax(np.abs(known), initial=0) <= 1.5) if np.isfinite(known).any() else False


def _in_pixels(face: FaceLabel, unit: BoxUnits, size: Size | None, points: bool) -> FaceLabel:
    scale = size if size and unit.startswith("fractions") else (1.0, 1.0)
    x, y, third, fourth = (value * scale[i % 2] for i, value in enumerate(face.box))
    if unit.endswith("xyxy"):
        third, fourth = third - x, fourth - y
    landmarks = face.landmarks
    if points and unit.startswith("fractions"):
        landmarks = [value * scale[i % 2] for i, value in enumerate(landmarks)]
    return face._replace(box=(x, y, third, fourth), landmarks=landmarks)


def _check_fractions(entries: Sequence[Entry], units: Sequence[BoxUnits], file: Path) -> None:
    """Refuse numbers from 0 to 1 that are said to be pixels, and pixels said to be fractions."""
    pairs = list(zip(entries, units, strict=True))
    pixels = _array([f for e, unit in pairs if not unit.startswith("fractions") for f in e.faces])
    if len(pixels) and np.abs(pixels).max() <= 1.01 and (pixels[:, 2:] > 0).any():
        corners = bool((pixels[:, 2:] > pixels[:, :2]).all())
        beyond = (pixels[:, :2] + pixels[:, 2:] > 1.01).any()
        setting = "fractions_xyxy" if corners and beyond else "fractions"
        raise UserError(
            f"{file}: the boxes look like fractions of the image (their largest number is "
            f"{np.abs(pixels).max():.3g}): set boxes: {setting}."
        )
    fractions = _array([f for e, unit in pairs if unit.startswith("fractions") for f in e.faces])
    if len(fractions) and np.median(np.abs(fractions[:, 2:])) > 1.5:
        raise UserError(
            f"{file}: the boxes are no fractions of the image (their largest number is "
            f"{np.abs(fractions).max():g}): set boxes: xywh or boxes: xyxy."
        )


def _check_percentages(
    entries: Sequence[Entry], sizes: Sequence[Size | None], units: Sequence[BoxUnits], file: Path
) -> None:
    """Refuse pixels that never leave the upper left hundred of images that are larger."""
    listed = [
        (entry.faces, size, unit)
        for entry, size, unit in zip(entries, sizes, units, strict=True)
        if entry.faces and size
    ]
    if any(unit.startswith("fractions") or min(size) < MIN_SIDE for _, size, unit in listed):
        return
    corners = any(unit.endswith("xyxy") for _, _, unit in listed)
    boxes = _array([face for faces, _, _ in listed for face in faces])
    first = boxes[:, :2]
    last = boxes[:, 2:] if corners else first + boxes[:, 2:]
    if len(boxes) >= MIN_BOXES and (last > first).all() and last.max() <= PERCENT:
        raise UserError(
            f"{file}: no box reaches beyond pixel 100, and all images are larger: the numbers look "
            "like percentages of the image: divide them, and the landmarks, by 100 and set boxes: "
            f"{'fractions_xyxy' if corners else 'fractions'}."
        )


def _check_corners(
    entries: Sequence[Entry], sizes: Sequence[Size | None], units: Sequence[BoxUnits], file: Path
) -> None:
    """Refuse sizes that are corners, and corners that are sizes."""
    listed = [
        (face, size if not unit.startswith("fractions") else (1.0, 1.0), unit)
        for entry, size, unit in zip(entries, sizes, units, strict=True)
        if not entry.units.startswith("fractions")
        for face in entry.faces
    ]
    as_sizes = [(face, size) for face, size, unit in listed if not unit.endswith("xyxy") and size]
    room = np.array([size for _, size in as_sizes], np.float64).reshape(-1, 2)
    refuse_corners(_array([face for face, _ in as_sizes]), room, str(file))
    corners = _array([face for face, _, unit in listed if unit.endswith("xyxy")])
    inverted = (corners[:, 2:] <= corners[:, :2]).any(axis=1)
    if inverted.sum() > SUSPICIOUS * len(corners):
        raise UserError(
            f"{file}: read as x1 y1 x2 y2, {inverted.sum()} of {len(corners)} boxes end before "
            "they begin: set boxes: xywh."
        )


def _check_centres(entries: Sequence[Entry], file: Path) -> None:
    """Refuse YOLO's numbers where they are not centre and size."""
    boxes = _array([f for e in entries if e.units == "fractions" for f in e.faces])
    beyond = (boxes[:, :2] < -ROUNDING) | (boxes[:, :2] + boxes[:, 2:] > 1 + ROUNDING)
    count = beyond.any(axis=1).sum()
    if count <= SUSPICIOUS * len(boxes):
        return
    first, second = boxes[:, :2] + boxes[:, 2:] / 2, boxes[:, 2:]  # as they are listed
    readings = {
        "corners x1 y1 x2 y2": (second > first) & (second <= 1 + ROUNDING),
        "x y w h from the upper left corner": first + second <= 1 + ROUNDING,
    }
    for meaning, fits in readings.items():
        if fits.all():
            raise UserError(
                f"{file}: read as centre and size, {count} of {len(boxes)} boxes reach beyond "
                f"their images, read as {meaning} none: YOLO's lines are class cx cy w h."
            )


def refuse_corners(boxes: FloatArray, room: FloatArray, where: str) -> None:
    """Refuse (N, 4) boxes x y w h that fit their images as corners, or as centre and size, only.

    Args:
        boxes: as they were read.
        room: (N, 2) width and height of the image of each; 1 and 1 for fractions.
        where: the file, for the message.

    Raises:
        UserError: a fifth of the boxes reach beyond their images, none if read otherwise.
    """
    slack = SLACK * (room > 1)
    beyond = (boxes[:, :2] + boxes[:, 2:] > room + slack).any(axis=1)
    corners = (boxes[:, 2:] > boxes[:, :2]) & (boxes[:, 2:] <= room + slack)
    if beyond.sum() > SUSPICIOUS * len(boxes) and corners.all():
        setting = "fractions_xyxy" if room.max() <= 1 else "xyxy"
        raise UserError(
            f"{where}: read as x y w h, {beyond.sum()} of {len(boxes)} boxes reach beyond their "
            f"images, read as x1 y1 x2 y2 none: set boxes: {setting}."
        )
    halves = boxes[:, 2:] / 2
    centred = (boxes[:, :2] >= halves - slack) & (boxes[:, :2] + halves <= room + slack)
    if beyond.sum() > SUSPICIOUS * len(boxes) and centred.all():
        raise UserError(
            f"{where}: read as x y w h, {beyond.sum()} of {len(boxes)} boxes reach beyond their "
            "images, read as centre, width and height none: write their upper left corners (a "
            "table may have columns cx, cy, width and height)."
        )


def _array(faces: Sequence[FaceLabel]) -> FloatArray:
    return np.array([face.box for face in faces], np.float64).reshape(-1, 4)
