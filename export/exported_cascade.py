"""The cascade with exported models in the places of its nets, and a comparison of its faces."""

import threading
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from export.deployment import Nets
from mtcnn_detector import boxes
from mtcnn_detector.architecture import cell_map
from mtcnn_detector.backend import CompiledNet, Outputs, Predict
from mtcnn_detector.cascade import Cascade
from mtcnn_detector.net import Net, NetName
from mtcnn_detector.pixels import Image
from mtcnn_detector.settings import DetectorSettings

MATCH_IOU = 0.5  # two boxes of at least this IoU are the same face


def exported_cascade(
    nets: Nets, load: Callable[[NetName], Predict], detector: DetectorSettings
) -> Cascade:
    """The cascade of these nets, run by the exported models that `load` gives by name."""
    return Cascade(nets, detector, lambda name, _: _RuntimeNet(name, nets[name].net, load(name)))


class FaceCounts(NamedTuple):
    """Faces that one detector finds (`before`), the other finds (`after`), and `both` find."""

    before: int
    after: int
    both: int


def compare(nets: Nets, load: Callable[[NetName], Predict], images: Sequence[Image]) -> FaceCounts:
    """Run the cascade on (H, W, 3) uint8 RGB images, with its own nets and with exported ones."""
    settings = DetectorSettings()
    cascades = Cascade(nets, settings), exported_cascade(nets, load, settings)
    counts = np.zeros(3, int)
    for image in tqdm(images, unit="img", desc="comparison"):
        before, after = (cascade.detect(image).boxes for cascade in cascades)
        overlap = boxes.iou(boxes.windows_of(before), boxes.windows_of(after))
        counts += [len(before), len(after), int((overlap >= MATCH_IOU).any(axis=1).sum())]
    return FaceCounts(*map(int, counts))


class _RuntimeNet(CompiledNet):
    """An exported model with the interface of a compiled net.

    Args:
        name: which net.
        net: its settings as exported, maybe padded.
        predict: runs the model; called by one thread at a time.
    """

    def __init__(self, name: NetName, net: Net, predict: Predict) -> None:
        self.name, self.net, self._predict = name, net, predict
        self._lock = threading.Lock()

    def __call__(self, pixels: NDArray[Any]) -> Outputs:
        if not self.net.convolutional:
            with self._lock:
                return self._predict(pixels)
        # The cascade runs P-Net without its padding: of a padded model's map it gets the cells
        # that see no padding.
        rows, columns = (_unpadded(self.net, side) for side in pixels.shape[1:3])
        with self._lock:
            maps = self._predict(np.pad(pixels, ((0, 0), rows.margin, columns.margin, (0, 0))))
        score, box = (x[:, rows.cells, columns.cells] for x in (maps.score, maps.box))
        return Outputs(score, box, None)


class _Unpadded(NamedTuple):
    """Which cells of a padded net's map equal those of the net without padding."""

    margin: tuple[int, int]  # pixels to add before and after a side, so that the cells coincide
    cells: slice


def _unpadded(net: Net, side: int) -> _Unpadded:
    padded = cell_map(net, side)
    stride = padded.stride
    before = padded.offset % stride  # a stride more in all: the offset stays the same
    first = (before - padded.offset) // stride
    count = (side - padded.size) // stride + 1
    return _Unpadded((before, stride - before), slice(first, first + count))
