"""What was found and what was not, as pictures to look at."""

from pathlib import Path

import cv2
import numpy as np

from data_prep.annotations import Annotation
from evaluation.error_analysis import DetectionError
from evaluation.metrics import Score
from evaluation.protocol import Match
from mtcnn_detector import pixels
from mtcnn_detector.boxes import FloatArray
from mtcnn_detector.cascade import Faces
from mtcnn_detector.drawing import GREEN, RED, WHITE, draw_boxes, draw_faces

TILE_HEIGHT, ACROSS, SHOWN = 360, 4, 12
MISTAKE_TILE, CONTEXT, LEAST = 176, 2.4, 72  # px; sides of the box; px of the picture


def draw_sheet(result: Score, target: Path) -> bool:
    """Some pictures with what was found (green) and missed (red), as one picture.

    False, and no picture, where no boxes are judged.
    """
    tiles = []
    for boxes in result.boxes.values():
        step = max(len(boxes.pictures) // SHOWN, 1)
        every = zip(boxes.pictures, boxes.seen, boxes.matches, strict=True)
        chosen = list(every)[::step][:SHOWN]
        tiles += [_tile(picture, seen.faces, match) for picture, seen, match in chosen]
    rows = [np.hstack(tiles[i : i + ACROSS]) for i in range(0, len(tiles), ACROSS)]
    if rows:
        width = max(row.shape[1] for row in rows)
        pad = [((0, 0), (0, width - row.shape[1]), (0, 0)) for row in rows]
        padded = [np.pad(row, edges) for row, edges in zip(rows, pad, strict=True)]
        pixels.write_image(target, np.vstack(padded))
    return bool(rows)


def _tile(picture: Annotation, found: Faces, match: Match) -> pixels.Image:
    canvas = draw_faces(_read(picture), found)
    missed = ~match.hit(len(picture.boxes)) & ~picture.ignored
    draw_boxes(canvas, picture.boxes[missed], RED)
    width = round(canvas.shape[1] * TILE_HEIGHT / canvas.shape[0])
    return pixels.resize(canvas, width, TILE_HEIGHT)


def mistake_tile(mistake: DetectionError) -> pixels.Image:
    """The place of a mistake, square: its box red, what else was reported green, labels white."""
    side = max(CONTEXT * mistake.side, LEAST)
    corner = np.floor((mistake.box[:2] + mistake.box[2:] - side) / 2).astype(int)
    window = np.concatenate([corner, corner + int(side)])
    place = pixels.padded(_read(mistake.picture), window)
    tile = pixels.resize(place, MISTAKE_TILE, MISTAKE_TILE)
    for boxes, colour in (
        (mistake.picture.boxes, WHITE),
        (mistake.found.boxes, GREEN),
        (mistake.box[None], RED),
    ):
        draw_boxes(tile, _moved(boxes, corner, MISTAKE_TILE / int(side)), colour)
    return tile


def landmarks_tile(picture: Annotation, found: Faces) -> pixels.Image:
    """The labelled face, square: reported landmarks green, labelled ones white rings."""
    side = int(1.6 * (picture.boxes[0, 2:] - picture.boxes[0, :2]).max())
    corner = np.floor((picture.boxes[0, :2] + picture.boxes[0, 2:] - side) / 2).astype(int)
    place = pixels.padded(_read(picture), np.concatenate([corner, corner + side]))
    tile = pixels.resize(place, MISTAKE_TILE, MISTAKE_TILE)
    scale = MISTAKE_TILE / side
    draw_boxes(tile, _moved(found.boxes, corner, scale), GREEN)
    for x, y in ((picture.landmarks[0] - corner) * scale).astype(int).tolist():
        cv2.circle(tile, (x, y), 4, WHITE, 1)
    for x, y in ((found.landmarks.reshape(-1, 2) - corner) * scale).astype(int).tolist():
        cv2.circle(tile, (x, y), 2, GREEN, -1)
    return tile


def _moved(boxes: FloatArray, corner: FloatArray, scale: float) -> FloatArray:
    moved: FloatArray = (boxes - np.tile(corner, 2)) * scale
    return moved


def _read(picture: Annotation) -> pixels.Image:
    image = pixels.read_image(picture.image)
    assert image is not None, "it was readable when it was looked at"
    return image


def as_jpeg(image: pixels.Image, quality: int = 85) -> bytes:
    """An RGB picture as the bytes of a JPEG file."""
    _, coded = cv2.imencode(".jpg", image[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])
    return coded.tobytes()
