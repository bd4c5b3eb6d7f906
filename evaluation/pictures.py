"""What was found, as pictures to look at."""

from pathlib import Path

import cv2
import numpy as np

from configs.settings import Settings
from data_prep.annotations import Annotation
from data_prep.sources import read_sources
from evaluation.detect import Found, read_log
from models import pixels
from models.boxes import iou

GREEN, RED, WHITE = (60, 220, 60), (60, 60, 255), (255, 255, 255)  # BGR
TILE_HEIGHT, ACROSS, SHOWN = 360, 4, 12


def draw_sheet(settings: Settings, folder: Path, target: Path) -> None:
    """Some validation pictures with what was found (green) and missed (red), as one picture."""
    tiles = []
    for name, pictures in read_sources(
        Path(settings.data.folder), settings.data.validation
    ).items():
        if settings.data.validation[name].kinds == ("landmark",):
            continue
        found = read_log(folder / f"{name}.jsonl")
        chosen = pictures[:: max(len(pictures) // SHOWN, 1)][:SHOWN]
        tiles += [_tile(picture, found[picture.key]) for picture in chosen]
    rows = [tiles[i : i + ACROSS] for i in range(0, len(tiles), ACROSS)]
    if rows:
        cv2.imwrite(str(target), np.vstack([_row(row) for row in rows]))


def _tile(picture: Annotation, found: Found) -> pixels.Image:
    image = pixels.read_image(picture.image)
    assert image is not None, "it was readable when it was looked at"
    canvas = np.ascontiguousarray(image[:, :, ::-1])
    thick = max(1, canvas.shape[0] // 240)
    missed = iou(picture.boxes, found.boxes).max(axis=1, initial=0) < 0.5
    for box in picture.boxes[missed & ~picture.ignored]:
        _rectangle(canvas, box, RED, thick)
    for box, score, points in zip(*found, strict=True):
        _rectangle(canvas, box, GREEN, thick)
        for x, y in points:
            cv2.circle(canvas, (int(x), int(y)), thick, WHITE, -1)
        corner = (int(box[0]), int(box[1]) - 3)
        cv2.putText(canvas, f"{score:.2f}", corner, cv2.FONT_HERSHEY_SIMPLEX, thick / 2, GREEN)
    width = round(canvas.shape[1] * TILE_HEIGHT / canvas.shape[0])
    return pixels.resize(canvas, width, TILE_HEIGHT)


def _rectangle(
    canvas: pixels.Image, box: np.ndarray, colour: tuple[int, int, int], thick: int
) -> None:
    x1, y1, x2, y2 = (int(v) for v in box)
    cv2.rectangle(canvas, (x1, y1), (x2, y2), colour, thick)


def _row(tiles: list[pixels.Image]) -> pixels.Image:
    row = np.hstack(tiles)
    wide = np.zeros((TILE_HEIGHT, ACROSS * TILE_HEIGHT * 16 // 9, 3), np.uint8)
    width = min(row.shape[1], wide.shape[1])
    wide[:, :width] = row[:, :width]
    return wide
