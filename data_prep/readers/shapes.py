"""Bounds of shapes that annotation tools draw: polygons, circles, ellipses, rotated boxes."""

import math
from collections.abc import Sequence


def bounds(xs: Sequence[float], ys: Sequence[float]) -> list[float]:
    """x y w h of the smallest upright box about points."""
    return [min(xs), min(ys), max(xs) - min(xs), max(ys) - min(ys)]


def bounds_of_flat(coordinates: Sequence[float]) -> list[float]:
    """x y w h about points given as x y x y ..."""
    return bounds(coordinates[::2], coordinates[1::2])


def ellipse(numbers: Sequence[float], degrees: float = 0.0) -> list[float]:
    """x y w h about an ellipse cx cy rx ry, rotated by `degrees` in either sense."""
    cx, cy, rx, ry = numbers
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    half_width, half_height = math.hypot(rx * cos, ry * sin), math.hypot(rx * sin, ry * cos)
    return [cx - half_width, cy - half_height, 2 * half_width, 2 * half_height]


def rotated(box: Sequence[float], degrees: float) -> list[float]:
    """x y w h about a box x y w h that is rotated by `degrees` about its middle."""
    if not degrees % 360:
        return list(box)
    x, y, width, height = box
    cos, sin = abs(math.cos(math.radians(degrees))), abs(math.sin(math.radians(degrees)))
    new_width, new_height = width * cos + height * sin, width * sin + height * cos
    centre = x + width / 2, y + height / 2
    return [centre[0] - new_width / 2, centre[1] - new_height / 2, new_width, new_height]
