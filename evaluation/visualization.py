"""Annotated images of a report: a sheet of detections, tiles of errors and of landmarks."""

from pathlib import Path

import cv2
import numpy as np

from data_prep.annotations import Annotation
from evaluation.error_analysis import DetectionError
from evaluation.metrics import LabelledLandmarks, Score
from evaluation.protocol import Match
from mtcnn_detector import pixels
from mtcnn_detector.boxes import FloatArray
from mtcnn_detector.cascade import Faces
from mtcnn_detector.drawing import GREEN, RED, WHITE, draw_boxes, draw_faces

SHEET_HEIGHT, SHEET_COLUMNS, SHEET_IMAGES = 360, 4, 12  # px of each image; images
MAX_WIDTH = 16_000  # px of each image, four of which a JPEG file can hold
TILE = 176  # px, side of an error's tile
CONTEXT, MIN_CONTEXT = 2.4, 72  # region around an error: sides of its box, at least so many px
LANDMARK_CONTEXT = 1.6  # the same around a face with landmarks


def draw_sheet(result: Score, target: Path) -> bool:
    """Write one image of several labelled ones: found faces green, missed ones red.

    Returns:
        False, and nothing is written, where no boxes are evaluated.
    """
    tiles = []
    for boxes in result.boxes.values():
        step = max(len(boxes.annotations) // SHEET_IMAGES, 1)
        rows = zip(boxes.annotations, boxes.detections, boxes.matches, strict=True)
        chosen = list(rows)[::step][:SHEET_IMAGES]
        tiles += [
            _sheet_tile(annotation, found.faces, match) for annotation, found, match in chosen
        ]
    rows_of_tiles = [
        np.hstack(tiles[i : i + SHEET_COLUMNS]) for i in range(0, len(tiles), SHEET_COLUMNS)
    ]
    if rows_of_tiles:
        width = max(row.shape[1] for row in rows_of_tiles)
        padded = [np.pad(r, ((0, 0), (0, width - r.shape[1]), (0, 0))) for r in rows_of_tiles]
        pixels.write_image(target, np.vstack(padded))
    return bool(rows_of_tiles)


def _sheet_tile(annotation: Annotation, detected: Faces, match: Match) -> pixels.Image:
    canvas = draw_faces(_read(annotation), detected)
    missed = ~match.hit(len(annotation.boxes)) & ~annotation.ignored
    draw_boxes(canvas, annotation.boxes[missed], RED)
    width = round(canvas.shape[1] * SHEET_HEIGHT / canvas.shape[0])
    width = min(max(width, 1), MAX_WIDTH)  # of strips
    return pixels.resize(canvas, width, SHEET_HEIGHT)


def error_tile(error: DetectionError) -> pixels.Image:
    """(TILE, TILE, 3) the error's region: its box red, other detections green, labels white."""
    side = int(max(CONTEXT * error.side, MIN_CONTEXT))
    tile, corner = _region(error.annotation, error.box, side)
    for boxes, colour in (
        (error.annotation.boxes, WHITE),
        (error.detected.boxes, GREEN),
        (error.box[None], RED),
    ):
        draw_boxes(tile, _to_tile(boxes, corner, side), colour)
    return tile


def landmarks_tile(face: LabelledLandmarks) -> pixels.Image:
    """(TILE, TILE, 3) a labelled face: detected landmarks green, labelled ones white rings."""
    annotation, detected = face.annotation, face.detections.faces
    box, labelled = annotation.boxes[face.face], annotation.landmarks[face.face]
    side = int(LANDMARK_CONTEXT * (box[2:] - box[:2]).max())
    tile, corner = _region(annotation, box, side)
    draw_boxes(tile, _to_tile(detected.boxes, corner, side), GREEN)
    _draw_points(tile, (labelled - corner) * TILE / side, WHITE, 4, 1)
    _draw_points(tile, (detected.landmarks.reshape(-1, 2) - corner) * TILE / side, GREEN, 2, -1)
    return tile


def _region(annotation: Annotation, box: FloatArray, side: int) -> tuple[pixels.Image, FloatArray]:
    """The square of `side` pixels around a box, resized to a tile; and its upper left corner."""
    corner = np.floor((box[:2] + box[2:] - side) / 2).astype(int)
    region = pixels.padded(_read(annotation), np.concatenate([corner, corner + side]))
    return pixels.resize(region, TILE, TILE), corner


def _to_tile(boxes: FloatArray, corner: FloatArray, side: int) -> FloatArray:
    moved: FloatArray = (boxes - np.tile(corner, 2)) * (TILE / side)
    return moved


def _draw_points(
    canvas: pixels.Image,
    points: FloatArray,
    colour: tuple[int, int, int],
    radius: int,
    thickness: int,
) -> None:
    """Draw points (N, 2); unknown ones, which are NaN, are left out."""
    known = points[np.isfinite(points).all(axis=1)]
    for x, y in known.astype(int).tolist():
        cv2.circle(canvas, (x, y), radius, colour, thickness)


def _read(annotation: Annotation) -> pixels.Image:
    image = annotation.load()
    assert image is not None, "it was readable when the detector ran"
    return image


def as_jpeg(image: pixels.Image, quality: int = 85) -> bytes:
    """An RGB image as the bytes of a JPEG file."""
    _, coded = cv2.imencode(".jpg", image[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])
    return coded.tobytes()
