"""Checks of what users hand to `MTCNN`; each refusal is one sentence that says what to do."""

import math
from collections.abc import Iterable, Sequence
from numbers import Real
from pathlib import Path
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

from .backend import Precision
from .errors import UserError
from .pixels import Image
from .settings import DetectorSettings

NEEDED = "expected an RGB or grey image as a NumPy array (H, W, 3) or (H, W) of uint8"


def check_path(weights_file: Any) -> Path:
    """A path, from text or a path.

    Raises:
        TypeError: it is neither.
        UserError: it is too long for a path, or leads through a folder that may not be read.
    """
    if not isinstance(weights_file, str | Path):
        raise TypeError(
            f"weights_file must be the path of a weights file or of a run's folder, "
            f"not {_description(weights_file)}."
        )
    path = Path(weights_file)
    try:
        path.exists()
    except OSError as error:
        raise UserError(f"weights_file {path} cannot be read: {error.strerror}.") from None
    return path


def check_settings(size: Any, thresholds: Any, factor: Any) -> DetectorSettings:
    """`min_face_size`, `steps_threshold` and `scale_factor` as the settings of the cascade.

    Raises:
        TypeError: one is no number, or `steps_threshold` no sequence of numbers.
        ValueError: one is out of its range, or there are not three thresholds.
    """
    sequence = isinstance(thresholds, Sequence | np.ndarray) and not isinstance(thresholds, str)
    if not sequence or getattr(thresholds, "ndim", 1) == 0:
        raise TypeError(
            "steps_threshold must be three numbers, for P-Net, R-Net and O-Net, such as "
            f"(0.6, 0.7, 0.7), not {_description(thresholds)}."
        )
    if len(thresholds) != 3:
        raise ValueError(
            "steps_threshold must be three numbers, for P-Net, R-Net and O-Net, such as "
            f"(0.6, 0.7, 0.7); got {len(thresholds)}."
        )
    size = _number(size, "min_face_size")
    if size < 1:
        raise ValueError(f"min_face_size must be at least 1 pixel; got {size}.")
    factor = _number(factor, "scale_factor")
    if not 0 < factor < 1:
        raise ValueError(f"scale_factor must lie between 0 and 1, both excluded; got {factor}.")
    first, second, third = (_number(value, "steps_threshold") for value in thresholds)
    for threshold in (first, second, third):
        if not 0 <= threshold < 1:
            raise ValueError(
                f"steps_threshold must lie between 0 and 1 (excluded); got {threshold}."
            )
    return DetectorSettings(size, factor, (first, second, third))


def _number(value: Any, name: str) -> Any:
    """The value, if it is a finite real number."""
    if isinstance(value, bool | np.bool_) or not isinstance(value, Real | np.number):
        raise TypeError(f"{name} must be a number, not {_description(value)}.")
    if not math.isfinite(float(value)):
        raise ValueError(f"{name} must be a finite number; got {value}.")
    return value.item() if isinstance(value, np.generic) else value


def check_precision(precision: Any) -> Precision:
    """Raises ValueError unless it is "exact" or "fast"."""
    for known in get_args(Precision):
        if precision == known:
            return known  # type: ignore[no-any-return]
    raise ValueError(f'precision must be "exact" or "fast"; got {precision!r}.')


def check_batch(images: Any) -> Iterable[Any]:
    """Several images: a sequence, an iterator, or an array (N, H, W, C).

    Raises:
        TypeError: it is no collection of images.
        ValueError: it is a single image.
    """
    if isinstance(images, np.ndarray) and images.ndim < 4:
        raise ValueError(
            "detect_faces_batch expected several images and got a single array of shape "
            f"{images.shape}: call detect_faces(image), or pass a list of images."
        )
    if isinstance(images, str | bytes | dict) or not isinstance(images, Iterable):
        raise TypeError(
            "detect_faces_batch expected a list, an iterator or an array (N, H, W, C) of images, "
            f"got {_description(images)}."
        )
    return images


def as_rgb(image: NDArray[Any]) -> Image:
    """An image of any admitted kind as contiguous (H, W, 3) uint8.

    Raises:
        ValueError: it is of another kind; where a line converts it, the sentence has that line.
    """
    if not isinstance(image, np.ndarray):
        raise ValueError(f"{NEEDED}, got {_description(image)}{_conversion(image)}.")
    depth = image.dtype.newbyteorder("=")  # some readers of TIFF files keep their byte order
    if image.ndim not in (2, 3) or depth not in (np.uint8, np.uint16):
        raise ValueError(f"{NEEDED} or uint16, got {_description(image)}{_cast(image)}.")
    channels = 1 if image.ndim == 2 else image.shape[2]
    if channels not in (1, 3, 4):
        raise ValueError(
            f"expected 1, 3 or 4 channels in the last axis, got {_description(image)}"
            f"{_channels_last(image)}."
        )
    if depth == np.uint16:
        image = image >> 8
    if channels == 1:
        image = np.repeat(image.reshape(*image.shape[:2], 1), 3, axis=2)
    return np.ascontiguousarray(image[:, :, :3], np.uint8)


def _conversion(image: Any) -> str:
    """How an image of another library becomes an array; empty where that is unknown."""
    if isinstance(image, str | Path):
        return ": read the file with cv2.cvtColor(cv2.imread(path), cv2.COLOR_BGR2RGB)"
    library = type(image).__module__.partition(".")[0]
    if library == "PIL":
        return ': convert it with numpy.asarray(image.convert("RGB"))'
    if library == "torch":
        return ": convert it with image.permute(1, 2, 0).cpu().numpy()"
    if library in ("tensorflow", "jax", "jaxlib"):
        return ": convert it with numpy.asarray(image)"
    return ""


def _cast(image: NDArray[Any]) -> str:
    """How an array of another type becomes uint8."""
    if image.ndim not in (2, 3) or image.dtype.kind not in "fiub" or not image.size:
        return ""
    largest, smallest = float(image.max()), float(image.min())
    if image.dtype.kind == "b":
        return ": convert it with image.astype(numpy.uint8) * 255"
    if image.dtype.kind == "f" and smallest >= 0 and largest <= 1:
        return ": convert it with (image * 255).round().astype(numpy.uint8)"
    if smallest >= 0 and largest <= 255:
        return ": convert it with image.round().astype(numpy.uint8)"
    return ": scale it to 0..255 and convert it with image.round().astype(numpy.uint8)"


def _channels_last(image: NDArray[Any]) -> str:
    if image.shape[0] in (1, 3, 4):
        return " (channels first): convert it with numpy.moveaxis(image, 0, -1)"
    return ""


def _description(value: Any) -> str:
    shape = getattr(value, "shape", None)
    kind = f"{type(value).__module__.partition('.')[0]}.{type(value).__name__}"
    kind = kind.removeprefix("builtins.")
    return kind if shape is None else f"{getattr(value, 'dtype', kind)} of shape {tuple(shape)}"
