"""What the nets see on pictures, from which int8 takes its ranges; and what int8 still finds."""

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from mtcnn_detector import boxes, pixels
from mtcnn_detector.architecture import cell_map
from mtcnn_detector.backend import CompiledNet, Outputs, Predict
from mtcnn_detector.cascade import Cascade
from mtcnn_detector.errors import UserError
from mtcnn_detector.net import NETS, Net, NetName
from mtcnn_detector.pixels import Image
from mtcnn_detector.settings import DetectorSettings
from mtcnn_detector.weights.weight_files import TrainedNet

MOST_PICTURES, LONGEST, CROPS = 60, 640, 24  # pixels of a picture's side; crops of a picture
SETTINGS = DetectorSettings()


def chosen(folder: Path) -> list[Path]:
    """Picture files spread evenly over a folder's."""
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in pixels.SUFFIXES)
    return paths[:: -(-len(paths) // MOST_PICTURES) or 1]


def read_pictures(folder: Path) -> list[Image]:
    """The pictures `chosen` from a folder; the longer side is at most `LONGEST`.

    Raises:
        UserError: there is none that can be read.
    """
    images = [image for path in chosen(folder) if (image := pixels.read_image(path)) is not None]
    if not images:
        raise UserError(f"{folder} holds no pictures that can be read.")
    return [_at_most(image, LONGEST) for image in images]


def _at_most(image: Image, side: int) -> Image:
    scale = min(1, side / max(image.shape[:2]))
    return pixels.resize(image, round(image.shape[1] * scale), round(image.shape[0] * scale))


def seen_by(
    trained: Mapping[NetName, TrainedNet], images: Sequence[Image]
) -> dict[NetName, list[Image]]:
    """Batches that each net sees when the cascade looks at the pictures.

    One of them is black and white, so that a model's whole numbers for pixels are the bytes.
    """
    cascade = Cascade(trained, SETTINGS)
    seen: dict[NetName, list[Image]] = {name: [_black_and_white(trained[name])] for name in NETS}
    first, *others = NETS
    for image in tqdm(images, unit="img", desc="calibration"):
        seen[first] += [level[None] for level in _levels(image, trained[first].net.size)]
        for name, faces in zip(others, cascade.stages(image), strict=False):
            windows = boxes.windows_of(faces.boxes)[:CROPS].astype(int)
            if len(windows):
                seen[name].append(pixels.cut(image, windows, trained[name].net.size))
    return seen


def _levels(image: Image, size: int) -> Iterator[Image]:
    """Every second level of the pyramid: enough of a picture that is seen many times."""
    height, width = image.shape[:2]
    smallest, factor = SETTINGS.min_face_size, SETTINGS.scale_factor
    for scale in pixels.pyramid_scales(height, width, smallest, factor, size)[::2]:
        down, across = pixels.level_size(height, width, scale)
        yield pixels.resize(image, across, down)


def _black_and_white(trained: TrainedNet) -> Image:
    size = trained.net.size
    crop = np.zeros((1, size, size, 3), np.uint8)
    crop[:, size // 2 :] = 255
    return crop


class Same(NamedTuple):
    """How many faces were found before, after, and both times (IoU of 0.5 and more)."""

    before: int
    after: int
    both: int


class _Stand(CompiledNet):
    """Runs a written model in the place of a net.

    Args:
        name: which net.
        net: as it was written, maybe padded.
        run: the model.
    """

    def __init__(self, name: NetName, net: Net, run: Predict) -> None:
        self.name, self.net, self._run = name, net, run
        self._alone = threading.Lock()  # written models run in one thread at a time

    def __call__(self, pixels: NDArray[Any]) -> Outputs:
        said: Outputs
        if not self.net.convolutional:
            with self._alone:
                said = self._run(pixels)
            return said
        # The cascade asks for the cells that see no padding.
        down, across = (_unpadded(self.net, side) for side in pixels.shape[1:3])
        with self._alone:
            said = self._run(np.pad(pixels, ((0, 0), down.added, across.added, (0, 0))))
        face, box = (maps[:, down.cells, across.cells] for maps in (said.score, said.box))
        return Outputs(face, box, None)


class _Unpadded(NamedTuple):
    """Where the cells of the unpadded net lie in a padded one's map."""

    added: tuple[int, int]  # pixels before and after a side, for the cells of both to coincide
    cells: slice


def _unpadded(net: Net, side: int) -> _Unpadded:
    padded = cell_map(net, side)
    stride = padded.stride
    before = padded.offset % stride  # a stride more in all: the offset stays the same
    first = (before - padded.offset) // stride
    count = (side - padded.size) // stride + 1
    return _Unpadded((before, stride - before), slice(first, first + count))


def cascade_of(
    trained: Mapping[NetName, TrainedNet],
    runner: Callable[[NetName], Predict],
    detector: DetectorSettings,
) -> Cascade:
    """The cascade with written models in the places of its nets."""
    return Cascade(trained, detector, lambda name, _: _Stand(name, trained[name].net, runner(name)))


def compare(
    trained: Mapping[NetName, TrainedNet],
    runner: Callable[[NetName], Predict],
    images: Sequence[Image],
) -> Same:
    """What the cascade finds on the pictures with its nets and with written models."""
    cascades = Cascade(trained, SETTINGS), cascade_of(trained, runner, SETTINGS)
    counts = np.zeros(3, int)
    for image in tqdm(images, unit="img", desc="comparison"):
        before, after = (cascade.detect(image).boxes for cascade in cascades)
        overlap = boxes.iou(boxes.windows_of(before), boxes.windows_of(after))
        counts += [len(before), len(after), int((overlap >= 0.5).any(axis=1).sum())]
    return Same(*map(int, counts))
