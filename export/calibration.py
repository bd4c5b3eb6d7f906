"""Calibration of int8 models: images, and the batches that each net receives from the cascade."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from tqdm import tqdm

from export.deployment import Nets
from export.formats import Batches
from mtcnn_detector import boxes, pixels
from mtcnn_detector.cascade import Cascade
from mtcnn_detector.errors import UserError
from mtcnn_detector.net import NETS
from mtcnn_detector.pixels import Image
from mtcnn_detector.settings import DetectorSettings

MAX_IMAGES = 60
MAX_SIDE = 640  # pixels of an image's longer side
MAX_CROPS = 24  # of an image, for each net
SETTINGS = DetectorSettings()


def image_files(folder: Path) -> list[Path]:
    """At most `MAX_IMAGES` image files, spread evenly over a folder's."""
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in pixels.SUFFIXES)
    return paths[:: -(-len(paths) // MAX_IMAGES) or 1]


def read_images(folder: Path) -> list[Image]:
    """The images of `image_files`, (H, W, 3) uint8 RGB, at most `MAX_SIDE` pixels long.

    Raises:
        UserError: no image in the folder can be read.
    """
    read = [pixels.read_image(path) for path in image_files(folder)]
    images = [_shrunk(image, MAX_SIDE) for image in read if image is not None]
    if not images:
        raise UserError(f"{folder} holds no images that can be read.")
    return images


def _shrunk(image: Image, side: int) -> Image:
    scale = min(1, side / max(image.shape[:2]))
    width, height = (max(round(image.shape[axis] * scale), 1) for axis in (1, 0))
    return pixels.resize(image, width, height)


def batches(nets: Nets, images: Sequence[Image]) -> Batches:
    """The inputs of each net, (N, H, W, 3) uint8, when the cascade runs on the images.

    Each net also receives a black and white crop, so that the quantised input range is exactly
    0 to 255.
    """
    cascade = Cascade(nets, SETTINGS)
    inputs = {name: [_black_and_white(nets[name].net.size)] for name in NETS}
    first, *crop_nets = NETS
    for image in tqdm(images, unit="img", desc="calibration"):
        inputs[first] += [level[None] for level in _levels(image, nets[first].net.size)]
        for name, faces in zip(crop_nets, cascade.stages(image), strict=False):
            windows = boxes.windows_of(faces.boxes)[:MAX_CROPS].astype(int)
            if len(windows):
                inputs[name].append(pixels.cut(image, windows, nets[name].net.size))
    return inputs


def _levels(image: Image, size: int) -> Iterator[Image]:
    """Every second level of the pyramid, which is enough: neighbours hold the same content."""
    height, width = image.shape[:2]
    min_face, factor = SETTINGS.min_face_size, SETTINGS.scale_factor
    for scale in pixels.pyramid_scales(height, width, min_face, factor, size)[::2]:
        level_height, level_width = pixels.level_size(height, width, scale)
        yield pixels.resize(image, level_width, level_height)


def _black_and_white(size: int) -> Image:
    crop = np.zeros((1, size, size, 3), np.uint8)
    crop[:, size // 2 :] = 255
    return crop
