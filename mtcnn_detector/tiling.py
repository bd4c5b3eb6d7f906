"""Tiling of the image pyramid, so that P-Net runs on inputs of one shape.

A network is compiled for an input shape, which takes longer than running it, and images come in
all shapes. The levels of the pyramid are cut into bands no taller than a tile, the bands are packed
onto one canvas, and the canvas is cut into tiles. Cells that see two bands are dropped.
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

# Pixels of a tile: P-Net's activations on it stay in the cache of a core.
TILE_HEIGHT, TILE_WIDTH = 128, 384


class Level(NamedTuple):
    """One level of the pyramid: the image at a scale."""

    scale: float
    rows: Rows
    across: CellMap
    down: CellMap
    width: int
    height: int


class Band(NamedTuple):
    """Some rows of a level's cells, and their place on the canvas; all in cells."""

    level: int
    first_row: int
    row_count: int
    y: int
    x: int


class Cells(NamedTuple):
    """Output cells by level, row and column: (N,) each."""

    level: IntArray
    down: IntArray
    across: IntArray


class TiledCanvas:
    """The levels of one image, packed onto a canvas of tiles.

    Args:
        levels: at least one, all of the same net.
    """

    def __init__(self, levels: Sequence[Level]) -> None:
        self._levels = levels
        self._stride, size = levels[0].across.stride, levels[0].across.size
        gap = -(-size // self._stride) - 1  # cells between two bands that see both
        self._tile_rows = _cell_count(max(TILE_HEIGHT, size), self._stride, size)
        self._tile_columns = _cell_count(max(TILE_WIDTH, 2 * size), self._stride, size)
        self._bands, length = _pack(levels, self._tile_rows, gap)
        self._tile_count = -(-length // self._tile_columns)
        shape = (self._tile_rows, self._tile_count * self._tile_columns)
        sides = [self._stride * (cells - 1) + size for cells in shape]
        self._canvas = np.zeros((*sides, 3), np.uint8)
        self._band_at = np.full(shape, -1, np.int32)
        for number, band in enumerate(self._bands):
            end = band.x + levels[band.level].across.cells
            self._band_at[band.y : band.y + band.row_count, band.x : end] = number

    def tiles(self) -> Iterator[Image]:
        """The tiles, (1, h, w, 3) each; bands are pasted when the first tile needs them."""
        step = self._tile_columns * self._stride
        overlap = self._canvas.shape[1] - self._tile_count * step
        pending = deque(self._bands)
        for first in range(0, self._tile_count * step, step):
            last = first + step + overlap
            while pending and pending[0].x * self._stride < last:
                self._paste(pending.popleft())
            yield self._canvas[None, :, first:last]

    def cells(self, tile: IntArray, place: IntArray) -> tuple[NDArray[np.bool_], Cells]:
        """Positions in the tiles' output maps -> the cells of levels that they are.

        Args:
            tile: (N,) indices of tiles.
            place: (N,) flat indices into a tile's map, row by row.

        Returns:
            (N,) whether a position is a cell of a level, and these cells.
        """
        down, across = np.divmod(place, self._tile_columns)
        across += tile * self._tile_columns
        bands = self._band_at[down, across]
        inside = bands >= 0
        level, first_row, _, y, x = np.array(self._bands)[bands[inside]].T
        return inside, Cells(level, down[inside] - y + first_row, across[inside] - x)

    def _paste(self, band: Band) -> None:
        level = self._levels[band.level]
        top = level.down.offset + self._stride * band.first_row
        bottom = top + self._stride * (band.row_count - 1) + level.down.size
        left, right = level.across.offset, level.across.offset + level.across.seen
        rows = level.rows(max(top, 0), min(bottom, level.height))
        pixels = rows[:, max(left, 0) : min(right, level.width)]
        # The border is replicated where the net would pad.
        outside = (-top, bottom - level.height, -left, right - level.width)
        if max(outside) > 0:
            edges = [max(pad, 0) for pad in outside]
            pixels = cv2.copyMakeBorder(pixels, *edges, cv2.BORDER_REPLICATE)  # type: ignore[call-overload]
        y, x = band.y * self._stride, band.x * self._stride
        self._canvas[y : y + pixels.shape[0], x : x + pixels.shape[1]] = pixels


def _cell_count(side: int, stride: int, size: int) -> int:
    return (side - size) // stride + 1


def _pack(levels: Sequence[Level], tile_rows: int, gap: int) -> tuple[list[Band], int]:
    """Bands from left to right, narrower ones below wider ones; the canvas's length in cells."""
    bands = []
    for number, level in enumerate(levels):
        for first in range(0, level.down.cells, tile_rows):
            count = min(tile_rows, level.down.cells - first)
            bands.append(Band(number, first, count, 0, 0))
    bands.sort(key=lambda band: -levels[band.level].across.cells)
    columns: list[list[int]] = []  # x and the first free y of each
    packed, length = [], 0
    for band in bands:
        column = next((c for c in columns if c[1] + band.row_count <= tile_rows), None)
        if column is None:
            columns.append(column := [length, 0])
            length += levels[band.level].across.cells + gap
        packed.append(band._replace(x=column[0], y=column[1]))
        column[1] += band.row_count + gap
    return sorted(packed, key=lambda band: band.x), length
