"""Contact sheets: images with their labels, and crops as the nets get them."""

import math
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from data_prep.annotations import Annotation
from mtcnn_detector import pixels
from mtcnn_detector.boxes import FloatArray

TILE, FACE_TILE = 240, 120  # px
ACROSS, FACES_ACROSS = 6, 12
MAX_IMAGES, MAX_FACES = 24, 36
CONTEXT = 1.8  # sides of a face that its tile shows
GREEN, GREY, WHITE = (60, 220, 60), (150, 150, 150), (255, 255, 255)  # RGB
# Left eye, right eye, nose, mouth corners: the colours of the eyes show a mirrored set at once.
POINTS = ((255, 230, 0), (60, 120, 255), WHITE, (255, 140, 0), (0, 190, 255))


def write(target: Path, annotations: Sequence[Annotation]) -> bool:
    """Write a sheet of images and of single faces with their labels.

    The images are evenly spread over the list, those with faces first. False, and no file, where
    no image can be read.
    """
    with_faces = [one for one in annotations if len(one.boxes)]
    chosen = _spread(with_faces or annotations, MAX_IMAGES)
    images, faces = [], []
    per_image = math.ceil(MAX_FACES / max(len(chosen), 1))
    for annotation in chosen:
        image = annotation.load()
        if image is not None:
            images.append(_image_tile(image, annotation))
            faces += [_face_tile(image, annotation, i) for i in _largest(annotation)[:per_image]]
    if not images:
        return False
    rows = [_grid(images, ACROSS, TILE)]
    if faces:
        rows.append(_grid(faces[:MAX_FACES], FACES_ACROSS, FACE_TILE))
    width = max(row.shape[1] for row in rows)
    padded = [np.pad(row, ((0, 8), (0, width - row.shape[1]), (0, 0))) for row in rows]
    pixels.write_image(target, np.vstack(padded))
    return True


def _spread(annotations: Sequence[Annotation], count: int) -> list[Annotation]:
    step = max(len(annotations) / count, 1)
    return [annotations[int(i * step)] for i in range(min(count, len(annotations)))]


def _largest(annotation: Annotation) -> list[int]:
    sides = (annotation.boxes[:, 2:] - annotation.boxes[:, :2]).max(axis=1, initial=0)
    order: list[int] = np.argsort(-sides, kind="stable").tolist()
    return order


def _image_tile(image: pixels.Image, annotation: Annotation) -> pixels.Image:
    """The whole image in a square tile, its labels drawn after the scaling, so that they show."""
    height, width = image.shape[:2]
    scale = TILE / max(height, width)
    small = pixels.resize(image, max(round(width * scale), 1), max(round(height * scale), 1))
    tile = np.zeros((TILE, TILE, 3), np.uint8)
    tile[: small.shape[0], : small.shape[1]] = small
    for box, points, ignored in _labels(annotation):
        draw_label(tile, box * scale, points * scale, GREY if ignored else GREEN)
    return tile


def _face_tile(image: pixels.Image, annotation: Annotation, index: int) -> pixels.Image:
    box = annotation.boxes[index].astype(np.float64)
    # Boxes far beyond the image are shown as far as a tile goes.
    side = int(np.clip(CONTEXT * (box[2:] - box[:2]).max(), 8, 2 * max(image.shape)))
    corner = np.floor((box[:2] + box[2:] - side) / 2).astype(int)
    window = np.concatenate([corner, corner + side])
    tile = pixels.resize(pixels.padded(image, window), FACE_TILE, FACE_TILE).copy()
    scale = FACE_TILE / side
    points = (annotation.landmarks[index] - corner) * scale
    draw_label(tile, (box - np.tile(corner, 2)) * scale, points, GREEN)
    return tile


def _labels(annotation: Annotation) -> list[tuple[FloatArray, FloatArray, bool]]:
    ignored = annotation.ignored.tolist()
    return list(zip(annotation.boxes, annotation.landmarks, ignored, strict=True))


def draw_label(
    tile: pixels.Image, box: FloatArray, points: FloatArray, colour: tuple[int, int, int]
) -> None:
    """Draw one face into a tile: a box (4,) and five landmarks (5, 2) in its pixels, or NaN."""
    if np.isfinite(box).all():
        x1, y1, x2, y2 = np.clip(box, -1e4, 1e4).round().astype(int).tolist()
        cv2.rectangle(tile, (x1, y1), (x2, y2), colour, 1)
    radius = max(1, tile.shape[0] // 60)
    for (x, y), own in zip(points.tolist(), POINTS, strict=True):
        if math.isfinite(x) and math.isfinite(y) and max(abs(x), abs(y)) < 1e4:
            cv2.circle(tile, (round(x), round(y)), radius, own, -1)


def _grid(tiles: Sequence[pixels.Image], across: int, side: int) -> pixels.Image:
    """Square tiles in rows with a line between them."""
    cells = [np.pad(tile, ((0, 2), (0, 2), (0, 0)), constant_values=40) for tile in tiles]
    empty = np.zeros((side + 2, side + 2, 3), np.uint8)
    count = -(-len(cells) // across) * across if len(cells) > across else len(cells)
    cells += [empty] * (count - len(cells))
    rows = [np.hstack(cells[i : i + across]) for i in range(0, len(cells), across)]
    return np.vstack(rows)
