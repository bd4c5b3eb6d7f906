"""Reading, cropping, padding, resizing and normalising of pixels, for detection and training.

Both use these functions, so that a net is trained on the pixels that it will see: zeros outside of
the image and `cv2.INTER_AREA`, as in the mtcnn package.
"""

from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

from .boxes import FloatArray, IntArray
from .errors import UserError

Image = NDArray[np.uint8]
JFIF = ".jfif"  # Windows' ending of JPEG files, which OpenCV reads, but does not know
SUFFIXES = {".jpg", ".jpeg", ".jpe", JFIF, ".png", ".bmp", ".webp", ".tif", ".tiff"}  # of images
Pixels = TypeVar("Pixels", bound=Any)
Rows = Callable[[int, int], Image]  # (first, last) -> rows [first, last) of an image
PIXEL_MEAN, PIXEL_SCALE = 127.5, 128.0
MAX_SUMMED_PIXELS = 16_000_000  # of an image with running sums, which take 12 bytes a pixel
MAX_EXACT_ROWS = 2**24 // 255  # of pixels whose sums float32 holds exactly
MAX_FINE_ROWS = 1024  # whose sums leave float32 a 60th of a grey level; below, sums start anew
MIN_REDUCTION = 4  # of a window to its crop, from which on running sums are faster


def use_threads(count: int) -> None:
    """Let OpenCV use this many threads in this process."""
    cv2.setNumThreads(count)


def read_image(path: Path, upright: bool = False) -> Image | None:
    """(H, W, 3) RGB of an image file, or None when it is missing or does not decode.

    The pixels come as stored, which is how annotations count them; with `upright` they are rotated
    by the EXIF orientation.
    """
    flags = cv2.IMREAD_COLOR | (0 if upright else cv2.IMREAD_IGNORE_ORIENTATION)
    try:
        coded = np.fromfile(path, np.uint8)
        image = cv2.imdecode(coded, flags) if len(coded) else None
    except (OSError, cv2.error):  # OpenCV raises at implausible sizes
        return None
    return None if image is None else cv2.cvtColor(image, cv2.COLOR_BGR2RGB)  # type: ignore[return-value]


def write_image(path: Path, image: Image) -> None:
    """Write an RGB image in the format of the suffix.

    Raises:
        OSError: it could not be written, for the reason of its `errno`.
        UserError: the format cannot hold it, such as a JPEG file of more than 65,500 pixels.
    """
    suffix = ".jpg" if path.suffix.lower() == JFIF else path.suffix
    done, coded = cv2.imencode(suffix, image[:, :, ::-1])
    if not done:
        height, width = image.shape[:2]
        raise UserError(f"{path}: an image of {width} x {height} pixels does not fit its format.")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(coded.tobytes())  # `imwrite` does not tell why it failed


def normalise(pixels: Pixels) -> Pixels:
    """Float pixels 0..255 (an array or a tensor) -> about -1..1, as the nets expect them."""
    normalised: Pixels = (pixels - PIXEL_MEAN) / PIXEL_SCALE
    return normalised


def cut(image: Image, windows: IntArray, size: int, dtype: type = np.uint8) -> NDArray[Any]:
    """(N, 4) whole-pixel windows of an (H, W, 3) image -> (N, size, size, 3) crops.

    As float32 they keep fractions of grey levels, as the package's do: of two windows of one face
    with nearly equal scores, such fractions decide which has the higher one.
    """
    crops: NDArray[Any] = np.empty((len(windows), size, size, 3), dtype)
    for crop, window in zip(crops, windows.tolist(), strict=True):
        resize(padded(image, window).astype(dtype, copy=False), size, size, crop)
    return crops


def padded(image: Image, window: IntArray | Sequence[int]) -> Image:
    """The pixels of one whole-pixel window; black outside of the image."""
    x1, y1, x2, y2 = window
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


class ImagePyramid:
    """An image and its smaller versions, whole or in part, from running sums down its columns.

    The versions are those of `resize` up to float32 rounding: a mean halfway between two grey
    levels may be rounded to the other. OpenCV reads all pixels of the image for every version; with
    running sums, a version costs as much as it has rows. For one thread at a time.
    """

    def __init__(self, image: Image) -> None:
        self.image = image
        self._flat = image.reshape(len(image), 3 * image.shape[1])
        self._sums: NDArray[np.float32] | None = None
        self._summed = 0  # the last row of the sums that is filled

    def level(self, width: int, height: int) -> Rows:
        """A function that gives rows of the image in another size."""
        real_height, real_width = self.image.shape[:2]
        larger = height > real_height or width > real_width
        halved = real_height % height == 0 and real_width % width == 0  # OpenCV is fast here
        if (
            larger
            or halved
            or real_height * real_width > MAX_SUMMED_PIXELS
            or real_height >= MAX_EXACT_ROWS
        ):
            whole = resize(self.image, width, height)
            return lambda first, last: whole[first:last]
        scale = real_height / height

        def rows(first: int, last: int) -> Image:
            sums = self._shrunk(np.arange(first, last + 1) * scale, 0, real_width, width)
            return cv2.convertScaleAbs(sums, alpha=1 / scale)  # type: ignore[return-value]

        return rows

    def cut(self, windows: IntArray, size: int) -> NDArray[np.float32]:
        """(N, 4) whole-pixel windows -> (N, size, size, 3) crops: `cut` with fractions."""
        large = (windows[:, 2:] - windows[:, :2]).min(axis=1) >= MIN_REDUCTION * size
        large &= (windows[:, :2] >= 0).all(axis=1)
        large &= (windows[:, 2:] <= self.image.shape[1::-1]).all(axis=1)
        if self._sums is None or not large.any():  # sums for a few crops do not pay
            return cut(self.image, windows, size, np.float32)
        crops = np.empty((len(windows), size, size, 3), np.float32)
        crops[~large] = cut(self.image, windows[~large], size, np.float32)
        scales = (windows[:, 3] - windows[:, 1]) / size
        edges = windows[:, 1, None] + np.arange(size + 1) * scales[:, None]
        for i in np.flatnonzero(large).tolist():
            left, right = windows[i, ::2].tolist()
            crops[i] = self._shrunk(edges[i], left, right, size) / np.float32(scales[i])
        return crops

    def _shrunk(self, edges: FloatArray, left: int, right: int, width: int) -> NDArray[np.float32]:
        """(N + 1,) row boundaries -> (N, width, 3): between two, sums of rows, means of columns."""
        above = np.minimum(edges.astype(int), len(self.image) - 1)
        columns = slice(3 * left, 3 * right)
        until = self._sums_until(above[-1])[above, columns]
        if above[0] > MAX_FINE_ROWS:
            until -= until[0].copy()
        part = self._flat[above, columns].astype(np.float32)
        part *= (edges - above).astype(np.float32)[:, None]
        until += part
        wide = until.reshape(len(edges), right - left, 3)
        narrow: NDArray[Any] = resize(wide, width, len(edges))
        sums: NDArray[np.float32] = narrow[1:] - narrow[:-1]
        return sums

    def _sums_until(self, row: int) -> NDArray[np.float32]:
        """(H, 3 W): sums of the rows above each row, filled up to this row; exact in float32."""
        if self._sums is None:
            self._sums = np.empty(self._flat.shape, np.float32)
            self._sums[0] = 0
        if row > self._summed:
            part = self._sums[self._summed : row + 1]
            part[1:] = self._flat[self._summed : row]
            for above, below in pairwise(part):
                below += above  # row by row: many times faster than `cumsum`
            self._summed = row
        return self._sums


def cut_rotated(image: Image, window: IntArray, degrees: float, size: int) -> Image:
    """(size, size, 3): one window, rotated about its centre by `degrees` counter-clockwise."""
    matrix = rotation(window, degrees)
    matrix[:, 2] -= window[:2]
    side = (int(window[2] - window[0]), int(window[3] - window[1]))
    turned = cv2.warpAffine(image, matrix, side, flags=cv2.INTER_LINEAR)
    return resize(turned, size, size)


def rotation(window: IntArray, degrees: float) -> FloatArray:
    """(2, 3) affine map of points of the image, the rotation that `cut_rotated` applies.

    Pixel centres are whole numbers to OpenCV, so the centre of [0, 12) is 5.5.
    """
    centre = (window[:2] + window[2:] - 1) / 2
    turn: FloatArray = cv2.getRotationMatrix2D((centre[0], centre[1]), degrees, 1.0)  # type: ignore[assignment]
    return turn


def level_size(height: int, width: int, scale: float) -> tuple[int, int]:
    """Height and width of an image's level at one of its `pyramid_scales`."""
    return int(np.ceil(height * scale)), int(np.ceil(width * scale))


def pyramid_scales(height: int, width: int, min_face: int, factor: float, size: int) -> list[float]:
    """Scales at which faces of `min_face` pixels and more look `size` pixels large.

    The shorter side of the smallest level is still at least `size` pixels.
    """
    first = size / min_face
    side = min(height, width) * first  # in this order, or the smallest image has a level more
    scales: list[float] = []
    while side >= size:
        scales.append(first * factor ** len(scales))
        side *= factor
    return scales
