"""The cascade: P-Net on an image pyramid, then R-Net and O-Net on crops of its proposals.

Steps and constants are those of ipazc's mtcnn 0.1.1, and so are the faces. One thing differs: where
a level's side is odd, its last row or column of cells sees replicated border pixels (`tiling`)
instead of a pooling layer's padding.
"""

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from . import boxes, pixels
from .architecture import CellMap, cell_map, for_crops
from .backend import CompiledNet
from .boxes import FloatArray, IntArray
from .net import NETS, NetName
from .settings import DetectorSettings
from .threads import in_threads
from .tiling import Cells, Level, TiledCanvas
from .weights.weight_files import TrainedNet

NMS_IN_LEVEL, NMS_OVER_LEVELS, NMS_CROPS, NMS_LAST = 0.5, 0.7, 0.7, 0.7
# Of a batch: 16 crops of R-Net's size, 4 of O-Net's. A padded batch takes as long as a full one;
# smaller batches would cost more calls.
PIXELS_AT_ONCE = 16 * 24**2


class Faces(NamedTuple):
    """Detections of one stage, best first; `boxes` are reported boxes (see `boxes`)."""

    boxes: FloatArray  # (N, 4)
    scores: FloatArray  # (N,) probability
    landmarks: FloatArray  # (N, 5, 2) pixels; NaN before the last net, or if it gives none

    def take(self, rows: IntArray) -> "Faces":
        """The faces at these indices."""
        return Faces(*(field[rows] for field in self))


def _no_landmarks(count: int) -> FloatArray:
    return np.full((count, 5, 2), np.nan)


class Cascade:
    """A cascade of the first one, two or all three nets.

    Args:
        trained: the nets.
        detector: its settings.
        engine: compiles a net in place of `CompiledNet`; P-Net comes without its padding, and must
            be run so.

    Raises:
        ValueError: a net is skipped.
    """

    def __init__(
        self,
        trained: Mapping[NetName, TrainedNet],
        detector: DetectorSettings,
        engine: Callable[[NetName, TrainedNet], CompiledNet] | None = None,
    ) -> None:
        names = [name for name in NETS if name in trained]
        if names != list(NETS[: len(names)]) or not names:
            raise ValueError(f"a cascade starts with {NETS[0]} and skips no net; got {names}")
        self.detector = detector
        compile_net = engine or CompiledNet
        self._first_net = trained[NETS[0]].net
        # Tiles have no border of the image to be padded at.
        unpadded = trained[NETS[0]]._replace(net=for_crops(self._first_net))
        self._first = compile_net(NETS[0], unpadded)
        self._crop_nets = [compile_net(name, trained[name]) for name in names[1:]]

    @property
    def gives_landmarks(self) -> bool:
        """Whether the last net is there and has a landmark head."""
        return any(net.name == NETS[-1] and net.net.landmarks for net in self._crop_nets)

    def with_settings(self, detector: DetectorSettings) -> "Cascade":
        """A cascade of the same compiled nets with other settings."""
        cascade = copy.copy(self)
        cascade.detector = detector
        return cascade

    def stages(self, image: pixels.Image) -> list[Faces]:
        """(H, W, 3) uint8 RGB -> the detections after each net.

        The boxes before the last net are squares of whole pixels: the next net's crops.
        """
        return list(self.iterate(image))

    def iterate(self, image: pixels.Image) -> Iterator[Faces]:
        """As `stages`, each net run when its detections are asked for."""
        pyramid = pixels.ImagePyramid(image)
        faces = self._propose(pyramid)
        yield faces
        for net, threshold in zip(self._crop_nets, self.detector.thresholds[1:], strict=False):
            faces = _refine(net, pyramid, faces, threshold)
            yield faces

    def detect(self, image: pixels.Image) -> Faces:
        """(H, W, 3) uint8 RGB -> the faces; reported boxes (see `boxes`)."""
        return self.stages(image)[-1]

    def _propose(self, pyramid: pixels.ImagePyramid) -> Faces:
        levels = self._levels(pyramid)
        if not levels:
            return Faces(np.zeros((0, 4)), np.zeros(0, np.float32), _no_landmarks(0))
        (level, down, across), offsets, scores = self._run_first_net(TiledCanvas(levels))
        found = []
        for number, at in enumerate(levels):
            rows = np.flatnonzero(level == number)
            rows = rows[np.lexsort((across[rows], down[rows]))]  # not in the order of the tiles
            corners = cell_boxes(at.across, at.down, down[rows], across[rows], at.scale)
            best = boxes.nms(boxes.windows_of(corners), scores[rows], NMS_IN_LEVEL)
            found.append((corners[best], offsets[rows][best], scores[rows][best]))
        corners, offsets, scores = (np.concatenate(parts) for parts in zip(*found, strict=True))
        best = _best_over_levels(boxes.windows_of(corners), scores, [len(s) for _, _, s in found])
        corners, offsets, scores = corners[best], offsets[best], scores[best]
        refined = boxes.decode_offsets(offsets, corners, corners[:, 2:] - corners[:, :2])
        squares = np.trunc(boxes.squared(refined))
        return _drop_empty(Faces(squares, scores, _no_landmarks(len(squares))))

    def _levels(self, pyramid: pixels.ImagePyramid) -> list[Level]:
        height, width = pyramid.image.shape[:2]
        smallest, factor = self.detector.min_face_size, self.detector.scale_factor
        net = self._first_net
        levels = []
        for scale in pixels.pyramid_scales(height, width, smallest, factor, net.size):
            down, across = pixels.level_size(height, width, scale)
            maps = cell_map(net, across), cell_map(net, down)
            levels.append(Level(scale, pyramid.level(across, down), *maps, across, down))
        return levels

    def _run_first_net(self, canvas: TiledCanvas) -> tuple[Cells, FloatArray, NDArray[np.float32]]:
        """The cells above the threshold, their (N, 4) offsets and (N,) probabilities."""
        outputs = in_threads(self._run_on_tile, canvas.tiles())
        places, offsets, scores = (np.concatenate(parts) for parts in zip(*outputs, strict=True))
        tile = np.repeat(np.arange(len(outputs)), [len(found) for found, _, _ in outputs])
        inside, cells = canvas.cells(tile, places)
        return cells, offsets[inside].astype(np.float64), scores[inside]

    def _run_on_tile(
        self, tile: pixels.Image
    ) -> tuple[IntArray, NDArray[np.float32], NDArray[np.float32]]:
        """Flat indices of the map's cells above the threshold, their offsets and probabilities."""
        outputs = self._first(tile)
        found = np.flatnonzero(outputs.score >= self.detector.thresholds[0])
        return found, outputs.box.reshape(-1, 4)[found], outputs.score.reshape(-1)[found]


def _best_over_levels(
    windows: FloatArray, scores: NDArray[np.float32], counts: Sequence[int]
) -> IntArray:
    """NMS over all levels, of windows ordered by level and already suppressed within each.

    The IoU of two windows is at most the ratio of their areas. Between levels as far apart as usual
    that is below the threshold, so that nothing is suppressed and sorting is enough.
    """
    areas = np.split(boxes.areas(windows), np.cumsum(counts[:-1]))
    areas = [level for level in areas if len(level)]
    if all(a.max() < NMS_OVER_LEVELS * b.min() for a, b in pairwise(areas)):
        return np.argsort(-scores, kind="stable")
    return boxes.nms(windows, scores, NMS_OVER_LEVELS)


def cell_boxes(
    across: CellMap, down: CellMap, rows: IntArray, columns: IntArray, scale: float
) -> FloatArray:
    """Map cells at a pyramid scale -> (N, 4) reported boxes in the image.

    A cell that sees another number of pixels than the package's 12 is reported by the same part of
    them (see `boxes.cell_frame`).
    """
    places = ((columns, across), (rows, down))
    first = np.stack([at * cells.stride + cells.offset for at, cells in places], axis=1)
    corners = np.concatenate([first + across.size / 12, first + across.size], axis=1) / scale
    whole: FloatArray = np.trunc(corners)
    return whole


def _refine(
    net: CompiledNet, pyramid: pixels.ImagePyramid, faces: Faces, threshold: float
) -> Faces:
    """Score, refine and suppress the detections with R-Net or O-Net."""
    if not len(faces.scores):
        return faces
    windows = boxes.windows_of(faces.boxes)
    scores, offsets, fractions = _run_on_crops(net, pyramid, windows.astype(int))
    keep = np.flatnonzero(scores > threshold)
    windows, scores, offsets = windows[keep], scores[keep], offsets[keep].astype(np.float64)
    unit = windows[:, 2:] - windows[:, :2]
    refined = boxes.decode_offsets(offsets, faces.boxes[keep], unit)
    if net.name == NETS[-1]:
        landmarks = _no_landmarks(len(keep))
        if fractions is not None:
            landmarks = boxes.decode_landmarks(fractions[keep].astype(np.float64), windows)
        best = boxes.nms(boxes.windows_of(refined), scores, NMS_LAST, over_smaller=True)
        return Faces(refined, scores, landmarks).take(best)
    # As in the package: R-Net's windows are suppressed before they are refined.
    best = boxes.nms(windows, scores, NMS_CROPS)
    squares = np.trunc(boxes.squared(refined[best]))
    return _drop_empty(Faces(squares, scores[best], _no_landmarks(len(best))))


def _run_on_crops(
    net: CompiledNet, pyramid: pixels.ImagePyramid, windows: IntArray
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32] | None]:
    """(N,) probabilities, (N, 4) offsets and (N, 10) landmarks, if any, of windows."""
    size, count = net.net.size, len(windows)
    batch = max(PIXELS_AT_ONCE // size**2, 1)
    starts = range(0, count, batch)
    outputs = in_threads(
        net, (_crops(pyramid, windows[i : i + batch], size, batch) for i in starts)
    )
    scores, offsets, landmarks = zip(*outputs, strict=True)
    joined = None if landmarks[0] is None else np.concatenate(landmarks)[:count]
    return np.concatenate(scores)[:count], np.concatenate(offsets)[:count], joined


def _crops(
    pyramid: pixels.ImagePyramid, windows: IntArray, size: int, count: int
) -> NDArray[np.float32]:
    """A batch of `count` crops, padded with black ones."""
    crops = np.zeros((count, size, size, 3), np.float32)
    crops[: len(windows)] = pyramid.cut(windows, size)
    return crops


def _drop_empty(faces: Faces) -> Faces:
    """Drop boxes that regression has left without a pixel."""
    sides = faces.boxes[:, 2:] - faces.boxes[:, :2]
    return faces.take(np.flatnonzero((sides >= 1).all(axis=1)))
