"""Drawing of boxes, scores and landmarks on images."""

import cv2
import numpy as np

from .boxes import FloatArray
from .cascade import Faces
from .pixels import Image

GREEN, RED, WHITE = (60, 220, 60), (255, 60, 60), (255, 255, 255)  # RGB


def draw_faces(image: Image, faces: Faces) -> Image:
    """A copy of an (H, W, 3) RGB image with boxes, scores and landmarks."""
    canvas = image.copy()
    thick = _thickness(canvas)
    draw_boxes(canvas, faces.boxes, GREEN)
    for box, score, landmarks in zip(*faces, strict=True):
        for x, y in landmarks[np.isfinite(landmarks).all(axis=1)]:  # unknown ones are NaN
            cv2.circle(canvas, (int(x), int(y)), thick, WHITE, -1)
        corner = (int(box[0]), int(box[1]) - 3)
        cv2.putText(canvas, f"{score:.2f}", corner, cv2.FONT_HERSHEY_SIMPLEX, thick / 2, GREEN)
    return canvas


def draw_boxes(canvas: Image, boxes: FloatArray, colour: tuple[int, int, int]) -> None:
    """Draw (N, 4) boxes on the image itself, in an RGB colour."""
    for x1, y1, x2, y2 in np.asarray(boxes, int).tolist():
        cv2.rectangle(canvas, (x1, y1), (x2, y2), colour, _thickness(canvas))


def _thickness(canvas: Image) -> int:
    return max(1, int(canvas.shape[0]) // 240)
