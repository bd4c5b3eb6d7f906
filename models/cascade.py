"""The detector: P-Net over a pyramid, then R-Net and O-Net on what is left.

Steps and constants are those of ipazc's mtcnn 0.1.1, whose weights files these are: what is
found here is found there.
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from configs.settings import NETS, Detector, NetName
from models import boxes, pixels
from models.architecture import CellMap, bands, cell_map
from models.boxes import FloatArray, IntArray
from models.engine import Engine, Outputs
from models.layouts import Trained

NMS_IN_LEVEL, NMS_OVER_LEVELS, NMS_CROPS, NMS_LAST = 0.5, 0.7, 0.7, 0.7
CROPS_AT_ONCE = 256  # keeps memory flat on a crowd
BAND = 4_000_000  # pixels of a level at once: keeps memory flat on a huge picture


class Faces(NamedTuple):
    """What one stage lets through; `boxes` are reported boxes, best first."""

    boxes: FloatArray  # (N, 4)
    scores: FloatArray  # (N,) probability
    points: FloatArray  # (N, 5, 2) pixels; NaN before the last net

    def take(self, rows: IntArray) -> "Faces":
        """The faces of these rows."""
        return Faces(*(field[rows] for field in self))


def _no_points(count: int) -> FloatArray:
    return np.full((count, 5, 2), np.nan)


class Cascade:
    """The nets in their order, as many as there are: one, two or all three."""

    def __init__(
        self,
        trained: Mapping[NetName, Trained],
        detector: Detector,
        engine: Callable[[NetName, Trained], Engine] | None = None,
    ) -> None:
        names = [name for name in NETS if name in trained]
        if names != list(NETS[: len(names)]) or not names:
            raise ValueError(f"a cascade starts with {NETS[0]} and skips no net; got {names}")
        self.detector = detector
        make = engine or Engine
        self._first, *self._crop_nets = (make(name, trained[name]) for name in names)

    def stages(self, image: pixels.Image) -> list[Faces]:
        """(H, W, 3) uint8 RGB -> what each net in turn lets through.

        All but the last net's boxes of a full cascade are squares of whole pixels: the crops
        that the next net looks at.
        """
        passed = [self._propose(image)]
        for net, threshold in zip(self._crop_nets, self.detector.thresholds[1:], strict=False):
            passed.append(_refine(net, image, passed[-1], threshold))
        return passed

    def detect(self, image: pixels.Image) -> Faces:
        """(H, W, 3) uint8 RGB -> the faces, boxes in the numbers that the package returns."""
        return self.stages(image)[-1]

    def _propose(self, image: pixels.Image) -> Faces:
        found = [self._level(image, scale) for scale in self._scales(image)]
        if not found:
            return Faces(np.zeros((0, 4)), np.zeros(0, np.float32), _no_points(0))
        corners, offsets, scores = (np.concatenate(parts) for parts in zip(*found, strict=True))
        best = boxes.nms(boxes.windows_of(corners), scores, NMS_OVER_LEVELS)
        corners, offsets, scores = corners[best], offsets[best], scores[best]
        refined = boxes.decode_offsets(offsets, corners, corners[:, 2:] - corners[:, :2])
        squares = np.trunc(boxes.squared(refined))
        return _drop_empty(Faces(squares, scores, _no_points(len(squares))))

    def _scales(self, image: pixels.Image) -> list[float]:
        height, width = image.shape[:2]
        smallest, factor = self.detector.min_face_size, self.detector.scale_factor
        return pixels.pyramid_scales(height, width, smallest, factor, self._first.net.size)

    def _level(
        self, image: pixels.Image, scale: float
    ) -> tuple[FloatArray, FloatArray, NDArray[np.float32]]:
        """One pyramid level's reported cells, offsets and scores, after NMS."""
        height, width = (int(np.ceil(side * scale)) for side in image.shape[:2])
        outputs = self._maps(pixels.resize(image, width, height))
        scores = outputs.face[0]
        rows, columns = np.nonzero(scores >= self.detector.thresholds[0])
        across, down = (cell_map(self._first.net, side) for side in (width, height))
        corners = reported_cells(across, down, rows, columns, scale)
        scores = scores[rows, columns]
        best = boxes.nms(boxes.windows_of(corners), scores, NMS_IN_LEVEL)
        offsets = outputs.box[0, rows[best], columns[best]]
        return corners[best], offsets.astype(np.float64), scores[best]

    def _maps(self, level: pixels.Image) -> Outputs:
        """P-Net's maps of a level; one of many megapixels is looked at in bands of rows."""
        rows = BAND // level.shape[1]
        if len(level) <= rows:
            return self._first(level[None])
        parts = []
        for start, end, skip, cells in bands(self._first.net, len(level), rows):
            face, box, _ = self._first(level[None, start:end])
            parts.append((face[:, skip : skip + cells], box[:, skip : skip + cells]))
        face, box = (np.concatenate(maps, axis=1) for maps in zip(*parts, strict=True))
        return Outputs(face, box, None)


def reported_cells(
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


def _refine(net: Engine, image: pixels.Image, faces: Faces, threshold: float) -> Faces:
    """Let one crop net judge, refine and thin out the faces."""
    if not len(faces.scores):
        return faces
    windows = boxes.windows_of(faces.boxes)
    scores, offsets, fractions = _run_on_crops(net, image, windows.astype(int))
    keep = np.flatnonzero(scores > threshold)
    windows, scores, offsets = windows[keep], scores[keep], offsets[keep].astype(np.float64)
    unit = windows[:, 2:] - windows[:, :2]
    refined = boxes.decode_offsets(offsets, faces.boxes[keep], unit)
    if fractions is not None:
        points = boxes.decode_points(fractions[keep].astype(np.float64), windows)
        best = boxes.nms(boxes.windows_of(refined), scores, NMS_LAST, over_smaller=True)
        return Faces(refined, scores, points).take(best)
    # The package thins R-Net's crops out before it refines them.
    best = boxes.nms(windows, scores, NMS_CROPS)
    squares = np.trunc(boxes.squared(refined[best]))
    return _drop_empty(Faces(squares, scores[best], _no_points(len(best))))


def _run_on_crops(
    net: Engine, image: pixels.Image, windows: IntArray
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32] | None]:
    starts = range(0, len(windows), CROPS_AT_ONCE)
    crops = (pixels.cut(image, windows[i : i + CROPS_AT_ONCE], net.net.size) for i in starts)
    face, box, points = zip(*map(net, crops), strict=True)
    joined = None if points[0] is None else np.concatenate(points)
    return np.concatenate(face), np.concatenate(box), joined


def _drop_empty(faces: Faces) -> Faces:
    """A regression gone wild can leave a box without a pixel."""
    sides = faces.boxes[:, 2:] - faces.boxes[:, :2]
    return faces.take(np.flatnonzero((sides >= 1).all(axis=1)))
