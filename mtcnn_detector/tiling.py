"""A picture's levels, laid out side by side so that P-Net runs on tiles of one shape.

Kernels are made for a shape, which takes longer than running them; pictures come in all shapes.
Levels are cut into strips no taller than a tile, the strips laid along one canvas, the canvas cut
into tiles. What a cell sees across a seam belongs to no level and is dropped.
"""

from collections import deque
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from .architecture import CellMap
from .boxes import IntArray
from .pixels import Image, Rows

TILE_HEIGHT, TILE_WIDTH = (
    128,
    384,
)  # pixels of a tile: what P-Net makes of them stays in a core's cache


class Level(NamedTuple):
    """The picture at a scale."""

    scale: float
    rows: Rows
    across: CellMap
    down: CellMap
    width: int
    height: int


class Strip(NamedTuple):
    """Some rows of cells of a level, and where on the canvas they lie, in cells."""

    level: int
    first: int
    tall: int
    y: int
    x: int


class Cells(NamedTuple):
    """Cells of the levels: (N,) each."""

    level: IntArray
    down: IntArray
    across: IntArray


class TiledCanvas:
    """The canvas of one picture.

    Args:
        levels: of one net, at least one.
    """

    def __init__(self, levels: Sequence[Level]) -> None:
        self._levels = levels
        self._stride, size = levels[0].across.stride, levels[0].across.size
        lost = -(-size // self._stride) - 1  # cells between two strips that see both
        self._tall = _cells(max(TILE_HEIGHT, size), self._stride, size)
        self._wide = _cells(max(TILE_WIDTH, 2 * size), self._stride, size)
        self._strips, length = _placed(levels, self._tall, lost)
        self._tiles = -(-length // self._wide)
        shape = (self._tall, self._tiles * self._wide)
        sides = [self._stride * (cells - 1) + size for cells in shape]
        self._canvas = np.zeros((*sides, 3), np.uint8)
        self._strip_at = np.full(shape, -1, np.int32)
        for number, strip in enumerate(self._strips):
            end = strip.x + levels[strip.level].across.cells
            self._strip_at[strip.y : strip.y + strip.tall, strip.x : end] = number

    def tiles(self) -> Iterator[Image]:
        """The pixels of each tile, (1, h, w, 3), laid when its turn comes."""
        step = self._wide * self._stride
        overlap = self._canvas.shape[1] - self._tiles * step
        waiting = deque(self._strips)
        for first in range(0, self._tiles * step, step):
            last = first + step + overlap
            while waiting and waiting[0].x * self._stride < last:
                self._paste(waiting.popleft())
            yield self._canvas[None, :, first:last]

    def cells(self, tile: IntArray, place: IntArray) -> tuple[NDArray[np.bool_], Cells]:
        """Of places in the tiles' maps, row by row: which are cells of a level, and these."""
        down, across = np.divmod(place, self._wide)
        across += tile * self._wide
        strips = self._strip_at[down, across]
        inside = strips >= 0
        level, first, _, y, x = np.array(self._strips)[strips[inside]].T
        return inside, Cells(level, down[inside] - y + first, across[inside] - x)

    def _paste(self, strip: Strip) -> None:
        level = self._levels[strip.level]
        top = level.down.offset + self._stride * strip.first
        bottom = top + self._stride * (strip.tall - 1) + level.down.size
        left, right = level.across.offset, level.across.offset + level.across.seen
        rows = level.rows(max(top, 0), min(bottom, level.height))
        pixels = rows[:, max(left, 0) : min(right, level.width)]
        # In place of what the net would pad with: the border once more.
        around = (-top, bottom - level.height, -left, right - level.width)
        if max(around) > 0:
            edges = [max(pad, 0) for pad in around]
            pixels = cv2.copyMakeBorder(pixels, *edges, cv2.BORDER_REPLICATE)  # type: ignore
        y, x = strip.y * self._stride, strip.x * self._stride
        self._canvas[y : y + pixels.shape[0], x : x + pixels.shape[1]] = pixels


def _cells(side: int, stride: int, size: int) -> int:
    return (side - size) // stride + 1


def _placed(levels: Sequence[Level], tall: int, lost: int) -> tuple[list[Strip], int]:
    """Strips from left to right on a canvas, and its length in cells: each above narrower ones."""
    strips = []
    for number, level in enumerate(levels):
        for first in range(0, level.down.cells, tall):
            count = min(tall, level.down.cells - first)
            strips.append(Strip(number, first, count, 0, 0))
    strips.sort(key=lambda strip: -levels[strip.level].across.cells)
    columns: list[list[int]] = []  # x and free y of each
    placed, length = [], 0
    for strip in strips:
        column = next((c for c in columns if c[1] + strip.tall <= tall), None)
        if column is None:
            columns.append(column := [length, 0])
            length += levels[strip.level].across.cells + lost
        placed.append(strip._replace(x=column[0], y=column[1]))
        column[1] += strip.tall + lost
    return sorted(placed, key=lambda strip: strip.x), length
