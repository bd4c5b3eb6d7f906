"""Alignment of a face by its five landmarks, as face recognition nets expect it."""

from collections.abc import Mapping
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from .arguments import as_rgb
from .boxes import FloatArray
from .detector import LANDMARKS
from .pixels import Image

# Where ArcFace (Deng et al., CVPR 2019) and most recognition nets after it have the landmarks of
# an aligned face of 112 x 112 pixels: eyes, nose, corners of the mouth, left to right in the image.
TEMPLATE_SIZE = 112
TEMPLATE = np.array(
    [
        (38.2946, 51.6963),
        (73.5318, 51.5014),
        (56.0252, 71.7366),
        (41.5493, 92.3655),
        (70.7299, 92.2041),
    ]
)


def align(image: NDArray[Any], face: Mapping[str, Any] | NDArray[Any], size: int = 112) -> Image:
    """A face moved, turned and scaled so that its landmarks lie on ArcFace's template.

    Args:
        image: The image that the face was detected on, of any kind that `MTCNN` takes.
        face: A face as `MTCNN.detect_faces` returns it, or its landmarks as an array (5, 2) of
            x, y in pixels: left eye, right eye, nose, left and right corner of the mouth.
        size: Side of the result in pixels; the template is scaled with it.

    Returns:
        (size, size, 3) uint8 RGB, black where it reaches over the border of the image.

    Raises:
        ValueError: the image is of another kind, or has no pixel; `size` is no positive whole
            number; or the face has no landmarks, unknown ones, or all at one point.
    """
    if isinstance(size, bool) or not isinstance(size, int | np.integer) or size < 1:
        raise ValueError(f"size must be a positive whole number of pixels; got {size!r}.")
    transform = similarity(_landmarks(face), TEMPLATE * (size / TEMPLATE_SIZE))
    rgb = as_rgb(image)
    if not rgb.size:
        raise ValueError(f"the image has no pixel to align: its shape is {rgb.shape}.")
    aligned = cv2.warpAffine(rgb, transform, (int(size), int(size)))
    return np.asarray(aligned, np.uint8)


def similarity(points: FloatArray, targets: FloatArray) -> FloatArray:
    """The similarity transform that moves points (N, 2) nearest to targets (N, 2), as (2, 3).

    Rotation, uniform scale and translation of least squared distance (Umeyama 1991), without
    reflection. As complex numbers it is z -> a z + b.

    Raises:
        ValueError: all points are one.
    """
    source, target = (xy[:, 0] + 1j * xy[:, 1] for xy in (points, targets))
    centred = source - source.mean()
    spread = float((np.abs(centred) ** 2).sum())
    if spread < 1e-12:
        raise ValueError("the landmarks of the face all lie at one point; it cannot be aligned.")
    a = (centred.conj() * (target - target.mean())).sum() / spread
    b = target.mean() - a * source.mean()
    return np.array([[a.real, -a.imag, b.real], [a.imag, a.real, b.imag]])


def _landmarks(face: Mapping[str, Any] | NDArray[Any]) -> FloatArray:
    if isinstance(face, Mapping):
        named = face.get("keypoints") or {}
        face = np.array([named[name] for name in LANDMARKS if name in named])
    landmarks = np.asarray(face, np.float64)
    if landmarks.shape != (5, 2) or not np.isfinite(landmarks).all():
        raise ValueError(
            "align needs a face with five known landmarks, as MTCNN.detect_faces returns it or as "
            "an array (5, 2); nets trained without landmarks give none."
        )
    return landmarks
