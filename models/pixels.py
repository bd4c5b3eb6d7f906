"""The one place where pixels are cut, padded, resized and normalised, as the detector does it.

Training crops and detection share these functions, so a net is trained on what it will see:
zeros outside the picture and `cv2.INTER_AREA`, as in the mtcnn package.
"""

from pathlib import Path
from typing import Any, TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

from models.boxes import FloatArray, IntArray

Image = NDArray[np.uint8]
SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff"}  # of picture files
Pixels = TypeVar("Pixels", bound=Any)


def use_threads(count: int) -> None:
    """Let OpenCV use this many threads in this process."""
    cv2.setNumThreads(count)


def read_image(path: Path) -> Image | None:
    """(H, W, 3) RGB of a picture file, or None when it is missing or does not decode."""
    # Annotations count the pixels as stored: an EXIF rotation would move them.
    flags = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
    try:
        coded = np.fromfile(path, np.uint8)
        picture = cv2.imdecode(coded, flags) if len(coded) else None
    except (OSError, cv2.error):  # OpenCV raises at sizes that it does not believe
        return None
    return None if picture is None else cv2.cvtColor(picture, cv2.COLOR_BGR2RGB)  # type: ignore[return-value]


def write_image(path: Path, image: Image) -> None:
    """Write an RGB picture; the suffix says how."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if not cv2.imwrite(str(path), image[:, :, ::-1]):
        raise OSError(f"{path} could not be written")


def normalise(pixels: Pixels) -> Pixels:
    """Float pixels 0..255 (an array or a tensor) -> about -1..1, as the nets expect them."""
    normalised: Pixels = (pixels - 127.5) / 128.0
    return normalised


def cut(image: Image, windows: IntArray, size: int) -> Image:
    """(N, 4) whole-pixel windows of an (H, W, 3) image -> (N, size, size, 3) crops."""
    crops = np.empty((len(windows), size, size, 3), np.uint8)
    for crop, window in zip(crops, windows, strict=True):
        resize(padded(image, window), size, size, crop)
    return crops


def padded(image: Image, window: IntArray) -> Image:
    """The pixels of one window; black where it reaches over the border."""
    x1, y1, x2, y2 = (int(v) for v in window)
    height, width = image.shape[:2]
    if x1 >= 0 and y1 >= 0 and x2 <= width and y2 <= height:
        return image[y1:y2, x1:x2]
    patch = np.zeros((y2 - y1, x2 - x1, 3), np.uint8)
    left, top = max(x1, 0), max(y1, 0)
    inside = image[top : max(y2, 0), left : max(x2, 0)]
    patch[top - y1 : top - y1 + inside.shape[0], left - x1 : left - x1 + inside.shape[1]] = inside
    return patch


def resize(image: Image, width: int, height: int, out: Image | None = None) -> Image:
    """An image in another size, by `cv2.INTER_AREA`."""
    resized = cv2.resize(image, (width, height), dst=out, interpolation=cv2.INTER_AREA)
    return resized  # type: ignore[return-value]


def cut_rotated(image: Image, window: IntArray, degrees: float, size: int) -> Image:
    """One window, turned about its centre by `degrees` (counter-clockwise on the screen)."""
    matrix = rotation(window, degrees)
    matrix[:, 2] -= window[:2]
    side = (int(window[2] - window[0]), int(window[3] - window[1]))
    turned = cv2.warpAffine(image, matrix, side, flags=cv2.INTER_LINEAR)
    return resize(turned, size, size)  # type: ignore[arg-type]


def rotation(window: IntArray, degrees: float) -> FloatArray:
    """(2, 3) affine map of image points about the window's centre, for `cut_rotated`.

    Pixel centres are whole numbers to OpenCV, so the centre of [0, 12) is 5.5.
    """
    centre = (window[:2] + window[2:] - 1) / 2
    turn: FloatArray = cv2.getRotationMatrix2D((centre[0], centre[1]), degrees, 1.0)  # type: ignore[assignment]
    return turn


def pyramid_scales(height: int, width: int, min_face: int, factor: float, size: int) -> list[float]:
    """Scales at which faces of `min_face` pixels and more look `size` pixels large.

    The shorter side of the smallest level is still at least `size` pixels.
    """
    first = size / min_face
    side = min(height, width) * first  # in this order, or the smallest picture has a level more
    scales: list[float] = []
    while side >= size:
        scales.append(first * factor ** len(scales))
        side *= factor
    return scales
