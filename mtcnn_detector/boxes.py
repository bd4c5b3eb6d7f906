"""Box arithmetic: IoU, NMS, and the encoding of boxes and landmarks as outputs of a net.

Every box is a row (x1, y1, x2, y2) in pixels, by one of two conventions:

* a *window* covers the half-open pixels [x1, x2) x [y1, y2), 0-based; annotations are windows too;
* a *reported* box is one of the mtcnn package: its first corner is counted from 1 and its second
  one is inclusive, so its window starts one pixel further left and up. The package returns these
  numbers as if they were 0-based; therefore nets are trained to report the annotated numbers.
"""

from collections.abc import Callable
from typing import Any, TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

from .net import NetName

FloatArray = NDArray[np.floating]
IntArray = NDArray[np.integer]
BoolArray = NDArray[np.bool_]
Numbers = TypeVar("Numbers", bound=Any)  # an array or a tensor


def areas(boxes: FloatArray) -> FloatArray:
    """(N, 4) windows -> (N,) areas; 0 for an empty or inverted box."""
    sides = np.maximum(boxes[:, 2:] - boxes[:, :2], 0)
    product: FloatArray = sides[:, 0] * sides[:, 1]
    return product


def longer_sides(boxes: FloatArray) -> FloatArray:
    """(N, 4) windows -> (N,) longer sides in pixels: the size of a face."""
    sides: FloatArray = (boxes[:, 2:] - boxes[:, :2]).max(axis=1, initial=0)
    return sides


def intersections(boxes: FloatArray, others: FloatArray) -> FloatArray:
    """(N, 4) and (M, 4) windows -> (N, M) areas of their intersections."""
    first = np.maximum(boxes[:, None, :2], others[None, :, :2])
    last = np.minimum(boxes[:, None, 2:], others[None, :, 2:])
    sides = np.maximum(last - first, 0)
    product: FloatArray = sides[..., 0] * sides[..., 1]
    return product


def iou(boxes: FloatArray, others: FloatArray) -> FloatArray:
    """(N, 4) and (M, 4) windows -> (N, M) intersection over union, 0 to 1."""
    shared = intersections(boxes, others)
    union = areas(boxes)[:, None] + areas(others)[None, :] - shared
    return shared / np.maximum(union, np.finfo(np.float32).tiny)


def overlap_of_smaller(boxes: FloatArray, others: FloatArray) -> FloatArray:
    """(N, 4) and (M, 4) windows -> (N, M) intersection over the smaller area ("Min"), 0 to 1."""
    smaller = np.minimum(areas(boxes)[:, None], areas(others)[None, :])
    return intersections(boxes, others) / np.maximum(smaller, np.finfo(np.float32).tiny)


def nms(
    boxes: FloatArray, scores: FloatArray, threshold: float, over_smaller: bool = False
) -> IntArray:
    """Greedy non-maximum suppression.

    Args:
        boxes: (N, 4) windows.
        scores: (N,) probabilities; higher is better.
        threshold: a box that overlaps a better one by more than this is dropped.
        over_smaller: measure intersection over the smaller area ("Min") instead of the union.

    Returns:
        Indices of the boxes that are kept, best first. Of equal scores the first wins, with
        `over_smaller` the last: so does the package, which sorts few boxes in another way.
    """
    if not over_smaller:  # OpenCV's is the same rule, and much faster on P-Net's thousands
        rects = np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], axis=1)
        # It wants scores above 0 strictly.
        ranks = np.maximum(scores.astype(float), np.finfo(np.float32).tiny)
        best = cv2.dnn.NMSBoxes(rects.astype(float), ranks, 0.0, threshold)  # type: ignore[arg-type]
        return np.asarray(best, int).reshape(-1)
    order = np.argsort(scores, kind="stable")[::-1]
    ranked = boxes[order].astype(np.float64)
    alive = np.ones(len(order), bool)
    kept = []
    for i in range(len(order)):
        if not alive[i]:
            continue
        kept.append(i)
        rest = np.flatnonzero(alive[i + 1 :]) + i + 1
        overlap = overlap_of_smaller(ranked[i : i + 1], ranked[rest])[0]
        alive[rest[overlap > threshold]] = False
    return order[kept]


def windows_of(reported: FloatArray) -> FloatArray:
    """(N, 4) reported boxes -> their windows."""
    return reported - np.array([1, 1, 0, 0], reported.dtype)


def squared(reported: FloatArray) -> FloatArray:
    """(N, 4) reported boxes -> squares about the same centres, as long as the longer side."""
    sides = reported[:, 2:] - reported[:, :2]
    side = sides.max(axis=1, keepdims=True) if len(reported) else sides[:, :1]
    first = reported[:, :2] + sides / 2 - side / 2
    return np.concatenate([first, first + side], axis=1)


def scaled(windows: FloatArray, factor: float) -> FloatArray:
    """(N, 4) windows -> windows about the same centres, their sides times `factor`."""
    grown = (factor - 1) / 2 * (windows[:, 2:] - windows[:, :2])
    return np.concatenate([windows[:, :2] - grown, windows[:, 2:] + grown], axis=1)


def encode_offsets(faces: FloatArray, windows: FloatArray) -> FloatArray:
    """(N, 4) faces -> (N, 4) offsets of their corners from the windows', in the windows' sides."""
    return (faces - windows) / np.tile(windows[:, 2:] - windows[:, :2], 2)


def decode_offsets(offsets: FloatArray, corners: FloatArray, unit: FloatArray) -> FloatArray:
    """(N, 4) outputs of a net -> (N, 4) reported boxes.

    Args:
        offsets: (dx1, dy1, dx2, dy2) as the net gives them.
        corners: (N, 4) what they are measured from, in pixels.
        unit: (N, 2) the length of 1 in x and y, in pixels.
    """
    return corners + offsets * np.tile(unit, 2)


def cell_frame(side: Numbers) -> tuple[Numbers | float, float]:
    """P-Net's frame: the package reads a cell as (2x+1)/s to (2x+12)/s, 11/12 of its window."""
    return 1 / 12, 11 / 12


def crop_frame(side: Numbers) -> tuple[Numbers | float, float]:
    """R-Net's and O-Net's frame: a crop's reported box starts one pixel inside its window."""
    return 1 / side, 1.0


# From the side of a window in pixels: how far inside of it the origin of a net's offsets is, and
# their unit, both in fractions of the side.
FRAMES: dict[NetName, Callable[[Any], tuple[Any, float]]] = {
    "pnet": cell_frame,
    "rnet": crop_frame,
    "onet": crop_frame,
}


def net_offsets(name: NetName, offsets: Numbers, sides: Numbers) -> Numbers:
    """(N, 4) offsets from windows with (N, 1) sides -> the targets of a net, in its frame.

    Arrays and tensors alike. The package reads its boxes one pixel off centre, and P-Net's
    lopsided by a twelfth: mirror before this map, not after it.
    """
    inset, unit = FRAMES[name](sides)
    first = np.array([1, 1, 0, 0], np.float32)
    framed: Numbers = (offsets - inset * first) / unit
    return framed


def face_offsets(name: NetName, outputs: Numbers, sides: Numbers) -> Numbers:
    """The inverse of `net_offsets`: (N, 4) outputs of a net -> offsets from the windows."""
    inset, unit = FRAMES[name](sides)
    first = np.array([1, 1, 0, 0], np.float32)
    plain: Numbers = outputs * unit + inset * first
    return plain


# The order of the five landmarks in a mirrored image: eyes and mouth corners change places.
MIRRORED_LANDMARKS = [1, 0, 2, 4, 3]


def encode_landmarks(landmarks: FloatArray, windows: FloatArray) -> FloatArray:
    """(N, 5, 2) landmarks in pixels -> (N, 10) fractions x1..x5, y1..y5 of the windows."""
    side = windows[:, None, 2:] - windows[:, None, :2]
    fractions = (landmarks - windows[:, None, :2]) / side
    return fractions.transpose(0, 2, 1).reshape(len(landmarks), 10)


def decode_landmarks(fractions: FloatArray, windows: FloatArray) -> FloatArray:
    """(N, 10) fractions -> (N, 5, 2) landmarks in pixels; the inverse of `encode_landmarks`."""
    side = windows[:, None, 2:] - windows[:, None, :2]
    return fractions.reshape(-1, 2, 5).transpose(0, 2, 1) * side + windows[:, None, :2]
