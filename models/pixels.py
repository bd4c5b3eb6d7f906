"""The one place where pixels are cut, padded, resized and normalised, as the detector does it.

Training crops and detection share these functions, so a net is trained on what it will see:
zeros outside the picture and `cv2.INTER_AREA`, as in the mtcnn package.
"""

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

from models.boxes import FloatArray, IntArray

Image = NDArray[np.uint8]
SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff"}  # of picture files
Pixels = TypeVar("Pixels", bound=Any)
Rows = Callable[[int, int], Image]  # (first, last) -> rows [first, last) of a picture
SUMMED = 16_000_000  # pixels of a picture whose running sums are held: 12 bytes for each


def use_threads(count: int) -> None:
    """Let OpenCV use this many threads in this process."""
    cv2.setNumThreads(count)


def read_image(path: Path, upright: bool = False) -> Image | None:
    """(H, W, 3) RGB of a picture file, or None when it is missing or does not decode.

    The pixels come as stored, which is how annotations count them; `upright` turns a photograph
    as its EXIF says.
    """
    flags = cv2.IMREAD_COLOR | (0 if upright else cv2.IMREAD_IGNORE_ORIENTATION)
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


def cut(image: Image, windows: IntArray, size: int, dtype: type = np.uint8) -> NDArray[Any]:
    """(N, 4) whole-pixel windows of an (H, W, 3) image -> (N, size, size, 3) crops.

    As float32 they keep fractions of grey levels, as the package's do: of two windows on a face
    that are nearly equally good it depends on such fractions which one wins.
    """
    crops: NDArray[Any] = np.empty((len(windows), size, size, 3), dtype)
    for crop, window in zip(crops, windows, strict=True):
        resize(padded(image, window).astype(dtype, copy=False), size, size, crop)
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


def resize(image: NDArray[Any], width: int, height: int, out: NDArray[Any] | None = None) -> Image:
    """An image in another size, by `cv2.INTER_AREA`."""
    resized = cv2.resize(image, (width, height), dst=out, interpolation=cv2.INTER_AREA)
    return resized  # type: ignore[return-value]


class Pyramid:
    """A picture of which many smaller versions are wanted, a few rows at a time.

    They are those of `resize`, up to a grey level where a mean lies between two: sums of float32
    move one value in a thousand to the other side. OpenCV reads the whole picture for every level;
    here what lies above a row is taken from running sums down the columns, so that a level costs
    what it measures itself.
    """

    def __init__(self, image: Image) -> None:
        self._image = image
        self._flat = image.reshape(len(image), 3 * image.shape[1])
        self._sums: NDArray[np.float32] | None = None  # whole numbers, exact in float32

    def level(self, width: int, height: int) -> Rows:
        """Rows of the picture in another size."""
        real_height, real_width = self._image.shape[:2]
        larger = height > real_height or width > real_width
        halved = real_height % height == 0 and real_width % width == 0  # OpenCV is fast here
        if larger or halved or real_height * real_width > SUMMED:
            whole = resize(self._image, width, height)
            return lambda first, last: whole[first:last]
        if self._sums is None:
            self._sums = _running_sums(self._flat)
        return lambda first, last: self._shrunk(width, height, first, last)

    def _shrunk(self, width: int, height: int, first: int, last: int) -> Image:
        assert self._sums is not None
        real_height, real_width = self._image.shape[:2]
        edges = np.arange(first, last + 1) * (real_height / height)
        above = np.minimum(edges.astype(int), real_height - 1)
        until = self._flat[above] * (edges - above).astype(np.float32)[:, None]
        until += self._sums[above]
        narrow: NDArray[Any] = resize(until.reshape(len(edges), real_width, 3), width, len(edges))
        rounded: Image = cv2.convertScaleAbs(narrow[1:] - narrow[:-1], alpha=height / real_height)
        return rounded


def _running_sums(flat: Image) -> NDArray[np.float32]:
    """(H, N) -> (H + 1, N): what lies above each row."""
    sums = np.empty((len(flat) + 1, flat.shape[1]), np.float32)
    sums[0], sums[1:] = 0, flat
    for above, below in pairwise(sums):
        below += above  # row by row: many times faster than `cumsum`
    return sums


def cut_rotated(image: Image, window: IntArray, degrees: float, size: int) -> Image:
    """One window, turned about its centre by `degrees` (counter-clockwise on the screen)."""
    matrix = rotation(window, degrees)
    matrix[:, 2] -= window[:2]
    side = (int(window[2] - window[0]), int(window[3] - window[1]))
    turned = cv2.warpAffine(image, matrix, side, flags=cv2.INTER_LINEAR)
    return resize(turned, size, size)


def rotation(window: IntArray, degrees: float) -> FloatArray:
    """(2, 3) affine map of image points about the window's centre, for `cut_rotated`.

    Pixel centres are whole numbers to OpenCV, so the centre of [0, 12) is 5.5.
    """
    centre = (window[:2] + window[2:] - 1) / 2
    turn: FloatArray = cv2.getRotationMatrix2D((centre[0], centre[1]), degrees, 1.0)  # type: ignore[assignment]
    return turn


def level_size(height: int, width: int, scale: float) -> tuple[int, int]:
    """Height and width of a picture's level at one of its `pyramid_scales`."""
    return int(np.ceil(height * scale)), int(np.ceil(width * scale))


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
