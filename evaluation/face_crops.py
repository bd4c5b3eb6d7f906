"""Files of faces cut out of images, as they are or aligned by their landmarks."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from mtcnn_detector import pixels
from mtcnn_detector.align import align
from mtcnn_detector.cascade import Faces
from mtcnn_detector.errors import UserError
from mtcnn_detector.pixels import Image


def write_crops(image: Image, faces: Faces, stem: Path, size: int | None) -> list[Path]:
    """Write each face of an image as `<stem>-<number>.png`, numbered from 1, best face first.

    Args:
        image: (H, W, 3) RGB.
        faces: Its faces.
        stem: Path of the files without the number; folders are made.
        size: Side of aligned faces in pixels; None for the box as it is.

    Returns:
        The paths, in the order of the faces.

    Raises:
        UserError: the faces are to be aligned, but have no landmarks.
    """
    crops = _boxes(image, faces) if size is None else _aligned(image, faces, size)
    paths = []
    for number, crop in enumerate(crops, start=1):
        paths.append(stem.with_name(f"{stem.name}-{number}.png"))
        pixels.write_image(paths[-1], crop)
    return paths


def _boxes(image: Image, faces: Faces) -> Iterator[Image]:
    """The boxes in whole pixels; black where one reaches over the border."""
    for x1, y1, x2, y2 in np.trunc(faces.boxes).astype(int).tolist():
        yield pixels.padded(image, (x1, y1, max(x2, x1 + 1), max(y2, y1 + 1)))


def _aligned(image: Image, faces: Faces, size: int) -> Iterator[Image]:
    for landmarks in faces.landmarks:
        if not np.isfinite(landmarks).all():
            raise UserError("these weights give no landmarks, so faces cannot be aligned (ALIGN=).")
        yield align(image, landmarks, size)
