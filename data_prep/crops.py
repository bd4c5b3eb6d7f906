"""Crop extraction: windows of an image to crops with their regression targets."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from data_prep.sampling import Windows
from mtcnn_detector import boxes, pixels
from mtcnn_detector.boxes import FloatArray


class Crops(NamedTuple):
    """N crops; NaN where one has no box or no landmarks.

    A crop shows its window, and a margin around it where the records have one.
    """

    images: NDArray[np.uint8]  # (N, size, size, 3) RGB
    boxes: NDArray[np.float32]  # (N, 4) offsets of the face, in sides of the window
    landmarks: NDArray[np.float32]  # (N, 10) x1..x5, y1..y5 in sides of the window
    sides: NDArray[np.float32]  # (N, 1) of the windows, pixels of the image

    @staticmethod
    def joined(parts: list["Crops"], size: int) -> "Crops":
        """Concatenate crops of `size` pixels; `parts` may be empty."""
        none = Crops(
            np.zeros((0, size, size, 3), np.uint8),
            np.zeros((0, 4), np.float32),
            np.zeros((0, 10), np.float32),
            np.zeros((0, 1), np.float32),
        )
        return Crops(*(np.concatenate(fields) for fields in zip(none, *parts, strict=True)))


def cut_crops(image: pixels.Image, windows: Windows, size: int, margin: int = 0) -> Crops:
    """Cut N windows from an image (H, W, 3); their faces are encoded relative to the windows.

    Windows may reach over the border, where crops are black. With a `margin`, in pixels of the
    crop, the crops show that much around the windows and are (N, size + 2 * margin, ..., 3).
    """
    around = np.round(margin / size * (windows.places[:, 2:3] - windows.places[:, :1])).astype(int)
    places = windows.places + around * np.array([-1, -1, 1, 1])
    exact = _middle(places.astype(np.float64), size / (size + 2 * margin))
    size += 2 * margin
    upright = windows.degrees == 0
    images = np.empty((len(places), size, size, 3), np.uint8)
    images[upright] = pixels.cut(image, places[upright], size)
    for i in np.flatnonzero(~upright):
        images[i] = pixels.cut_rotated(image, places[i], float(windows.degrees[i]), size)
    targets = (
        boxes.encode_offsets(windows.faces, exact),
        boxes.encode_landmarks(windows.landmarks, exact),
        exact[:, 2:3] - exact[:, :1],
    )
    return Crops(images, *(target.astype(np.float32) for target in targets))


def _middle(windows: FloatArray, fraction: float) -> FloatArray:
    """The squares in the middle of (N, 4) square windows, of this fraction of their sides.

    A margin is cut by whole pixels, so the middle of a crop is off from the window asked for by a
    fraction of a pixel; the targets are those of the pixels that the crop shows.
    """
    inset = (1 - fraction) / 2 * (windows[:, 2:3] - windows[:, :1])
    middle: FloatArray = windows + inset * np.array([1, 1, -1, -1])
    return middle
