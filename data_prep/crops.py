"""From windows on one picture to crops with their targets."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from data_prep.sampling import Windows
from mtcnn_detector import boxes, pixels


class Crops(NamedTuple):
    """Crops of one kind; NaN stands for what a crop does not have."""

    images: NDArray[np.uint8]  # (N, size, size, 3) RGB
    boxes: NDArray[np.float32]  # (N, 4) offsets of the face, in sides of the window
    landmarks: NDArray[np.float32]  # (N, 10) fractions of the crop
    sides: NDArray[np.float32]  # (N, 1) of the windows in the picture, pixels

    @staticmethod
    def joined(parts: list["Crops"], size: int) -> "Crops":
        """One after the other; none at all is fine."""
        none = Crops(
            np.zeros((0, size, size, 3), np.uint8),
            np.zeros((0, 4), np.float32),
            np.zeros((0, 10), np.float32),
            np.zeros((0, 1), np.float32),
        )
        return Crops(*(np.concatenate(fields) for fields in zip(none, *parts, strict=True)))


def cut_crops(image: pixels.Image, windows: Windows, size: int) -> Crops:
    """Cut the windows from a picture and express their faces in terms of the windows."""
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
