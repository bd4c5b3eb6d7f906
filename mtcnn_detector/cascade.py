"""The detector: P-Net over a pyramid, then R-Net and O-Net on what is left.

Steps and constants are those of ipazc's mtcnn 0.1.1, whose weights files these are: what is
found here is found there. Only where a level's side is odd does its last row or column of cells
see something else: the border's pixels again (`models.mosaic`), not the padding of a pool.
"""

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from . import boxes, pixels
from .architecture import CellMap, cell_map, for_crops
from .backend import CompiledNet
from .boxes import FloatArray, IntArray
from .errors import UserError
from .net import NETS, NetName
from .settings import DetectorSettings
from .threads import in_threads
from .tiling import Cells, Level, TiledCanvas
from .weights.weight_files import TrainedNet

NMS_IN_LEVEL, NMS_OVER_LEVELS, NMS_CROPS, NMS_LAST = 0.5, 0.7, 0.7, 0.7
# In crops that a net judges at once: 16 of R-Net's, 4 of O-Net's. A lot that is not full takes as
# long as one that is; smaller ones would wait for each other more often.
PIXELS_AT_ONCE = 16 * 24**2


class Faces(NamedTuple):
    """What one stage lets through; `boxes` are reported boxes, best first."""

    boxes: FloatArray  # (N, 4)
    scores: FloatArray  # (N,) probability
    landmarks: FloatArray  # (N, 5, 2) pixels; NaN before the last net

    def take(self, rows: IntArray) -> "Faces":
        """The faces of these rows."""
        return Faces(*(field[rows] for field in self))


def _no_landmarks(count: int) -> FloatArray:
    return np.full((count, 5, 2), np.nan)


class Cascade:
    """The nets in their order, as many as there are: one, two or all three.

    Args:
        trained: the nets.
        detector: its settings.
        make: builds a net's runner in place of `CompiledNet`; the first net is given without its
            padding, and must be run so.

    Raises:
        UserError: the last net has no landmarks.
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
        if names[-1] == NETS[-1] and not trained[NETS[-1]].net.landmarks:
            raise UserError(f"the {NETS[-1]} given has no head for the landmarks: take another.")
        self.detector = detector
        make = engine or CompiledNet
        self._first_net = trained[NETS[0]].net
        # Tiles have no border of the picture to be padded at.
        unpadded = trained[NETS[0]]._replace(net=for_crops(self._first_net))
        self._first = make(NETS[0], unpadded)
        self._crop_nets = [make(name, trained[name]) for name in names[1:]]

    def stages(self, image: pixels.Image) -> list[Faces]:
        """(H, W, 3) uint8 RGB -> what each net in turn lets through.

        All but the last net's boxes of a full cascade are squares of whole pixels: the crops
        that the next net looks at.
        """
        picture = pixels.ImagePyramid(image)
        passed = [self._propose(picture)]
        for net, threshold in zip(self._crop_nets, self.detector.thresholds[1:], strict=False):
            passed.append(_refine(net, picture, passed[-1], threshold))
        return passed

    def detect(self, image: pixels.Image) -> Faces:
        """(H, W, 3) uint8 RGB -> the faces, boxes in the numbers that the package returns."""
        return self.stages(image)[-1]

    def _propose(self, picture: pixels.ImagePyramid) -> Faces:
        levels = self._levels(picture)
        if not levels:
            return Faces(np.zeros((0, 4)), np.zeros(0, np.float32), _no_landmarks(0))
        (level, down, across), offsets, scores = self._look(TiledCanvas(levels))
        found = []
        for number, at in enumerate(levels):
            mine = np.flatnonzero(level == number)
            mine = mine[np.lexsort((across[mine], down[mine]))]  # wherever they lay in the mosaic
            corners = cell_boxes(at.across, at.down, down[mine], across[mine], at.scale)
            best = boxes.nms(boxes.windows_of(corners), scores[mine], NMS_IN_LEVEL)
            found.append((corners[best], offsets[mine][best], scores[mine][best]))
        corners, offsets, scores = (np.concatenate(parts) for parts in zip(*found, strict=True))
        best = _best_over_levels(boxes.windows_of(corners), scores, [len(s) for _, _, s in found])
        corners, offsets, scores = corners[best], offsets[best], scores[best]
        refined = boxes.decode_offsets(offsets, corners, corners[:, 2:] - corners[:, :2])
        squares = np.trunc(boxes.squared(refined))
        return _drop_empty(Faces(squares, scores, _no_landmarks(len(squares))))

    def _levels(self, picture: pixels.ImagePyramid) -> list[Level]:
        height, width = picture.image.shape[:2]
        smallest, factor = self.detector.min_face_size, self.detector.scale_factor
        net = self._first_net
        levels = []
        for scale in pixels.pyramid_scales(height, width, smallest, factor, net.size):
            down, across = pixels.level_size(height, width, scale)
            maps = cell_map(net, across), cell_map(net, down)
            levels.append(Level(scale, picture.level(across, down), *maps, across, down))
        return levels

    def _look(self, mosaic: TiledCanvas) -> tuple[Cells, FloatArray, NDArray[np.float32]]:
        """The cells that P-Net takes for faces, (N, 4) offsets and (N,) probabilities."""
        seen = in_threads(self._look_at_tile, mosaic.tiles())
        places, offsets, scores = (np.concatenate(parts) for parts in zip(*seen, strict=True))
        tile = np.repeat(np.arange(len(seen)), [len(found) for found, _, _ in seen])
        inside, cells = mosaic.cells(tile, places)
        return cells, offsets[inside].astype(np.float64), scores[inside]

    def _look_at_tile(
        self, tile: pixels.Image
    ) -> tuple[IntArray, NDArray[np.float32], NDArray[np.float32]]:
        """Places in its map that may be faces, offsets and probabilities."""
        said = self._first(tile)
        found = np.flatnonzero(said.score >= self.detector.thresholds[0])
        return found, said.box.reshape(-1, 4)[found], said.score.reshape(-1)[found]


def _best_over_levels(
    windows: FloatArray, scores: NDArray[np.float32], counts: Sequence[int]
) -> IntArray:
    """NMS of windows that were thinned out level by level, in the order of these.

    Two windows share at most what the smaller one's area is of the larger one's: between levels as
    far apart as usual too little for any to be dropped, and only their order is wanted.
    """
    areas = np.split(boxes.areas(windows), np.cumsum(counts[:-1]))
    areas = [level for level in areas if len(level)]
    if all(a.max() < NMS_OVER_LEVELS * b.min() for a, b in pairwise(areas)):
        return np.argsort(-scores, kind="stable")
    return boxes.nms(windows, scores, NMS_OVER_LEVELS)


def cell_boxes(
    across: CellMap, down: CellMap, rows: IntArray, columns: IntArray, scale: float
) -> FloatArray:
    """Map cells at a pyramid scale -> (N, 4) boxes in the picture, as the package counts them.

    A cell that looks at another number of pixels than the package's 12 is reported by the same
    part of them (see `boxes.cell_frame`).
    """
    places = ((columns, across), (rows, down))
    first = np.stack([at * cells.stride + cells.offset for at, cells in places], axis=1)
    corners = np.concatenate([first + across.size / 12, first + across.size], axis=1) / scale
    whole: FloatArray = np.trunc(corners)
    return whole


def _refine(
    net: CompiledNet, picture: pixels.ImagePyramid, faces: Faces, threshold: float
) -> Faces:
    """Let one crop net judge, refine and thin out the faces."""
    if not len(faces.scores):
        return faces
    windows = boxes.windows_of(faces.boxes)
    scores, offsets, fractions = _run_on_crops(net, picture, windows.astype(int))
    keep = np.flatnonzero(scores > threshold)
    windows, scores, offsets = windows[keep], scores[keep], offsets[keep].astype(np.float64)
    unit = windows[:, 2:] - windows[:, :2]
    refined = boxes.decode_offsets(offsets, faces.boxes[keep], unit)
    if fractions is not None:
        landmarks = boxes.decode_landmarks(fractions[keep].astype(np.float64), windows)
        best = boxes.nms(boxes.windows_of(refined), scores, NMS_LAST, over_smaller=True)
        return Faces(refined, scores, landmarks).take(best)
    # The package thins R-Net's crops out before it refines them.
    best = boxes.nms(windows, scores, NMS_CROPS)
    squares = np.trunc(boxes.squared(refined[best]))
    return _drop_empty(Faces(squares, scores[best], _no_landmarks(len(best))))


def _run_on_crops(
    net: CompiledNet, picture: pixels.ImagePyramid, windows: IntArray
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32] | None]:
    lot = max(PIXELS_AT_ONCE // net.net.size**2, 1)
    starts = range(0, len(windows), lot)
    said = in_threads(
        net, (_crops(picture, windows[i : i + lot], net.net.size, lot) for i in starts)
    )
    face, box, landmarks = zip(*said, strict=True)
    joined = None if landmarks[0] is None else np.concatenate(landmarks)[: len(windows)]
    return np.concatenate(face)[: len(windows)], np.concatenate(box)[: len(windows)], joined


def _crops(
    picture: pixels.ImagePyramid, windows: IntArray, size: int, count: int
) -> NDArray[np.float32]:
    """As many crops as the net is laid out for, the last ones black where there are fewer."""
    crops = np.zeros((count, size, size, 3), np.float32)
    crops[: len(windows)] = picture.cut(windows, size)
    return crops


def _drop_empty(faces: Faces) -> Faces:
    """A regression gone wild can leave a box without a pixel."""
    sides = faces.boxes[:, 2:] - faces.boxes[:, :2]
    return faces.take(np.flatnonzero((sides >= 1).all(axis=1)))
