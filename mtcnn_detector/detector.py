"""The detector with the face that users of ipazc's `mtcnn` know."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .cascade import Cascade, Faces
from .errors import UserError
from .net import NETS
from .pixels import Image
from .settings import DetectorSettings
from .threads import in_threads
from .weights import weight_files

LANDMARKS = ("left_eye", "right_eye", "nose", "mouth_left", "mouth_right")


class MTCNN:
    """Finds faces and their five landmarks.

    Args:
        weights_file: a file that holds all three nets, for example `mtcnn_weights.npy`, or a
            run's folder.
        min_face_size: smallest face to look for, pixels.
        steps_threshold: probability that P-Net, R-Net and O-Net must give a face.
        scale_factor: between two levels of the pyramid, below 1.

    Raises:
        UserError: the file is missing, of an unknown layout, or lacks a net.
    """

    def __init__(
        self,
        weights_file: str | Path,
        min_face_size: int = 20,
        steps_threshold: Sequence[float] = (0.6, 0.7, 0.7),
        scale_factor: float = 0.709,
    ) -> None:
        trained = weight_files.read(Path(weights_file))
        missing = [name for name in NETS if name not in trained]
        if missing:
            raise UserError(f"{weights_file} holds no {' and no '.join(missing)}.")
        first, second, third = steps_threshold
        settings = DetectorSettings(min_face_size, scale_factor, (first, second, third))
        self.cascade = Cascade(trained, settings)

    def detect_faces(self, image: NDArray[Any]) -> list[dict[str, Any]]:
        """The faces of one picture, as the package returns them.

        Args:
            image: RGB (H, W, 3), RGBA (H, W, 4; the last channel is not looked at) or grey
                (H, W) or (H, W, 1); uint8, or uint16 of which the upper byte is used.

        Returns:
            For each face `box` [x, y, width, height], `confidence` and `keypoints`; an empty
            list for a picture without faces, without pixels, or under 12 pixels.

        Raises:
            ValueError: the array is no picture of one of these kinds.
        """
        return as_dictionaries(self.cascade.detect(as_rgb(image)))

    def detect_faces_batch(self, images: Sequence[NDArray[Any]]) -> list[list[dict[str, Any]]]:
        """`detect_faces` of many pictures, of any sizes; one on each core at a time."""
        return in_threads(self.detect_faces, images, ahead=len(images))  # they are there already


def as_rgb(image: NDArray[Any]) -> Image:
    """A picture of any admitted kind as contiguous (H, W, 3) uint8."""
    if not isinstance(image, np.ndarray) or image.ndim not in (2, 3):
        raise ValueError(f"expected an array (H, W) or (H, W, C), got {_told(image)}")
    if image.dtype not in (np.uint8, np.uint16):
        raise ValueError(f"expected uint8 or uint16 pixels, got {_told(image)}")
    if image.dtype == np.uint16:
        image = image >> 8
    channels = 1 if image.ndim == 2 else image.shape[2]
    if channels not in (1, 3, 4):
        raise ValueError(f"expected 1, 3 or 4 channels, got {_told(image)}")
    if channels == 1:
        image = np.repeat(image.reshape(*image.shape[:2], 1), 3, axis=2)
    return np.ascontiguousarray(image[:, :, :3], np.uint8)


def _told(value: Any) -> str:
    shape = getattr(value, "shape", None)
    return type(value).__name__ if shape is None else f"{value.dtype} of shape {shape}"


def as_dictionaries(faces: Faces) -> list[dict[str, Any]]:
    """Faces in the package's form: whole pixels, towards zero."""
    found = []
    for box, score, landmarks in zip(*faces, strict=True):
        x, y = max(0, int(box[0])), max(0, int(box[1]))
        places = [(int(px), int(py)) for px, py in landmarks]
        found.append(
            {
                "box": [x, y, int(box[2] - x), int(box[3] - y)],
                "confidence": float(score),
                "keypoints": dict(zip(LANDMARKS, places, strict=True)),
            }
        )
    return found
