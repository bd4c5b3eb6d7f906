"""Crop extraction: windows of an image to crops with their regression targets."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from data_prep.sampling import Windows
from mtcnn_detector import boxes, pixels


class Crops(NamedTuple):
    """N crops of one kind; NaN where a crop has no box or no landmarks."""

    images: NDArray[np.uint8]  # (N, size, size, 3) RGB
    boxes: NDArray[np.float32]  # (N, 4) offsets of the face, in sides of the window
    landmarks: NDArray[np.float32]  # (N, 10) fractions of the crop
    sides: NDArray[np.float32]  # (N, 1) sides of the windows, pixels of the image

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


def cut_crops(image: pixels.Image, windows: Windows, size: int) -> Crops:
    """Cut N windows from an image (H, W, 3); their faces are encoded relative to the windows.

    Windows may reach over the border, where crops are black.
    """
    places = windows.places
    upright = windows.degrees == 0
    images = np.empty((len(places), size, size, 3), np.uint8)
    images[upright] = pixels.cut(image, places[upright], size)
    for i in np.flatnonzero(~upright):
        images[i] = pixels.cut_rotated(image, places[i], float(windows.degrees[i]), size)
    exact = places.astype(np.float64)
    targets = (
        boxes.encode_offsets(windows.faces, exact),
        boxes.encode_landmarks(windows.landmarks, exact),
        exact[:, 2:3] - exact[:, :1],
    )
    return Crops(images, *(target.astype(np.float32) for target in targets))
