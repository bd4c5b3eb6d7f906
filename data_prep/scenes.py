"""Composition of a sample scene: faces and decoys pasted onto a background; no files here.

All coordinates are continuous: pixel i covers [i, i + 1). All colours are BGR, as OpenCV has them.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from mtcnn_detector.boxes import MIRRORED_LANDMARKS, FloatArray

PHOTO_WIDTH, PHOTO_HEIGHT = 92, 112
SIZES = [(640, 480), (640, 428), (600, 450), (640, 480), (480, 640), (428, 640)]  # width, height
FACE_HEIGHTS = (24.0, 300.0)  # pixels of the scene
FACE_COUNTS = [
    0.06,
    0.20,
    0.20,
    0.17,
    0.13,
    0.10,
    0.07,
    0.04,
    0.03,
]  # fraction of scenes with 0 to 8 faces
MAX_DECOYS = 5
NOBODY = 0  # the person of a decoy
MAX_TILT = 20.0  # degrees
PLACING_TRIALS = 30


@dataclass(frozen=True)
class Face:
    """A grey image (H, W), 0..1, of one face: its box (4,) x1 y1 x2 y2, landmarks (5, 2)."""

    person: int
    pixels: FloatArray
    box: FloatArray
    landmarks: FloatArray


@dataclass(frozen=True)
class Placement:
    """The position of a pasted image: the affine (2, 3) from image to scene, and its results.

    `extent` (4,) surrounds the whole image, `box` (4,) the face, as x1 y1 x2 y2 in the scene.
    """

    affine: FloatArray
    extent: FloatArray
    box: FloatArray
    landmarks: FloatArray


@dataclass(frozen=True)
class Scene:
    """An image (H, W, 3) of bytes, the positions of its faces, and the numbers of their people."""

    pixels: NDArray[np.uint8]
    people: list[int]
    faces: list[Placement]


def compose_scene(
    cast: Sequence[Face], photographs: Sequence[FloatArray], seed: list[int]
) -> Scene:
    """Paste faces of `cast` and decoys, which overlap no box, onto a new background."""
    rng = np.random.default_rng(seed)
    size = SIZES[int(rng.integers(len(SIZES)))]
    canvas = backdrop(rng, photographs, size)
    count = rng.choice(len(FACE_COUNTS), p=FACE_COUNTS)
    portraits = [cast[i] for i in rng.choice(len(cast), count, replace=False)]
    portraits += [_decoy(rng, photographs) for _ in range(rng.integers(MAX_DECOYS + 1))]
    people: list[int] = []
    taken: list[Placement] = []
    for portrait in portraits:
        placement = place(rng, portrait, size, taken)
        if placement is not None:
            paste(rng, canvas, portrait.pixels, placement)
            people.append(portrait.person)
            taken.append(placement)
    real = [i for i, person in enumerate(people) if person != NOBODY]
    return Scene(_expose(rng, canvas), [people[i] for i in real], [taken[i] for i in real])


def _decoy(rng: np.random.Generator, photographs: Sequence[FloatArray]) -> Face:
    """A piece of background that is pasted just as faces are: the pasting must betray no face."""
    pixels = texture(rng, photographs, (PHOTO_WIDTH, PHOTO_HEIGHT)).mean(2)
    return Face(NOBODY, pixels, np.array([10.0, 16.0, 82.0, 108.0]), np.zeros((5, 2)))


def place(
    rng: np.random.Generator, face: Face, size: tuple[int, int], taken: Sequence[Placement]
) -> Placement | None:
    """Find a free place in a scene of `size` (width, height); None where none is found."""
    for _ in range(PLACING_TRIALS):
        new = _draw_placement(rng, face, size)
        if not any(_overlap(new.extent, t.box) or _overlap(new.box, t.extent) for t in taken):
            return new
    return None


def _overlap(a: FloatArray, b: FloatArray) -> bool:
    return bool((a[:2] < b[2:]).all() and (b[:2] < a[2:]).all())


def _draw_placement(rng: np.random.Generator, face: Face, size: tuple[int, int]) -> Placement:
    mirrored = rng.random() < 0.5
    tilt = np.radians(rng.uniform(-MAX_TILT, MAX_TILT))
    turn = np.array([[np.cos(tilt), -np.sin(tilt)], [np.sin(tilt), np.cos(tilt)]])
    # A head is oval: the box of a turned face surrounds the turned ellipse, not the turned corners.
    half = np.hypot(*(turn * (face.box[2:] - face.box[:2]) / 2).T)
    low, high = np.log(FACE_HEIGHTS[0]), np.log(min(FACE_HEIGHTS[1], 0.75 * size[1]))
    scale = np.exp(rng.uniform(low, high)) / (2 * half[1])
    centre = rng.uniform(scale * half, np.array(size) - scale * half)
    linear = scale * turn * [-1 if mirrored else 1, 1]
    offset = centre - linear @ (face.box[:2] + face.box[2:]) / 2
    corners = np.array([[0, 0], [PHOTO_WIDTH, 0], [0, PHOTO_HEIGHT], [PHOTO_WIDTH, PHOTO_HEIGHT]])
    corners = corners @ linear.T + offset
    return Placement(
        affine=np.column_stack([linear, offset]),
        extent=np.concatenate([corners.min(0), corners.max(0)]),
        box=np.concatenate([centre - scale * half, centre + scale * half]),
        landmarks=(face.landmarks @ linear.T + offset)[
            MIRRORED_LANDMARKS if mirrored else slice(None)
        ],
    )


def paste(
    rng: np.random.Generator, canvas: FloatArray, pixels: FloatArray, placement: Placement
) -> None:
    """Blend a grey image (H, W), lit and tinted by chance, into `canvas` (H, W, 3) in place."""
    size = canvas.shape[1::-1]
    x1, y1 = np.floor(placement.extent[:2]).astype(int).clip(0, size)
    x2, y2 = np.ceil(placement.extent[2:]).astype(int).clip(0, size)
    affine = placement.affine.copy()
    # OpenCV counts from the middle of the first pixel, placements from its corner.
    affine[:, 2] += affine[:, :2].sum(1) / 2 - 0.5 - (x1, y1)
    shrinking = 1 / np.linalg.norm(affine[:, 0])
    if shrinking > 1:  # without this, fine hair and glasses alias
        pixels = np.asarray(cv2.GaussianBlur(pixels, (0, 0), 0.5 * float(shrinking)), np.float32)
    extent, flags = (int(x2 - x1), int(y2 - y1)), cv2.INTER_CUBIC
    lit = cv2.warpAffine(light(rng, pixels), affine, extent, None, flags, cv2.BORDER_REPLICATE)
    opacity = cv2.warpAffine(oval(rng), affine, extent)[..., None]
    window = canvas[y1:y2, x1:x2]
    window += opacity * (lit - window)


def oval(rng: np.random.Generator) -> FloatArray:
    """Draw the opacity (112, 92) of an image: 1 within, fading to 0 at or before its borders."""
    exponent, feather = rng.uniform(2.2, 5), rng.uniform(0.06, 0.2)
    y = np.abs(np.linspace(-1, 1, PHOTO_HEIGHT, dtype=np.float32))[:, None]
    x = np.abs(np.linspace(-1, 1, PHOTO_WIDTH, dtype=np.float32))
    edge = ((1 - (x**exponent + y**exponent) ** (1 / exponent)) / feather).clip(0, 1)
    return np.asarray(edge * edge * (3 - 2 * edge), np.float32)


def light(rng: np.random.Generator, grey: FloatArray) -> FloatArray:
    """Light a grey image (H, W) from a side and colour it, most often like skin: (H, W, 3)."""
    slope = rng.uniform(-0.25, 0.25, 2)
    y = np.linspace(-1, 1, grey.shape[0])[:, None]
    x = np.linspace(-1, 1, grey.shape[1])
    lit = grey * rng.uniform(0.75, 1.25) * (1 + slope[0] * x + slope[1] * y)
    kind, strength = rng.random(), rng.uniform(0.3, 1)
    if kind < 0.65:
        tint = strength * np.array([0.35, 0.05, -0.3])
    else:
        tint = rng.uniform(-0.3, 0.3, 3) if kind < 0.85 else np.zeros(3)
    # An exponent a channel colours the middle tones and leaves black and white as they are.
    exponents = rng.uniform(0.75, 1.35) * np.exp(tint)
    return np.asarray(lit.clip(0, 1)[..., None] ** exponents, np.float32)


def backdrop(
    rng: np.random.Generator, photographs: Sequence[FloatArray], size: tuple[int, int]
) -> FloatArray:
    """A background (H, W, 3) of `size` (width, height): a texture, or two along a winding seam."""
    first = texture(rng, photographs, size)
    if rng.random() < 0.4:
        return first
    blobs = rng.random((4, 5), dtype=np.float32)
    blobs = cv2.resize(blobs, size, interpolation=cv2.INTER_CUBIC) - np.float32(0.5)
    share = (blobs * rng.uniform(2, 40) + 0.5).clip(0, 1).astype(np.float32)[..., None]
    return first + share * (texture(rng, photographs, size) - first)


def texture(
    rng: np.random.Generator, photographs: Sequence[FloatArray], size: tuple[int, int]
) -> FloatArray:
    """A piece of a photograph, cut, turned, mirrored and tinted by chance: (H, W, 3) of `size`."""
    photograph = photographs[int(rng.integers(len(photographs)))]
    if rng.random() < 0.3:
        photograph = np.rot90(photograph)
    whole = np.array(photograph.shape[1::-1])
    cut = (np.array(size) * min(whole / size) * rng.uniform(0.35, 1)).astype(int)
    (x, y), (width, height) = rng.integers(0, whole - cut + 1), cut
    piece = photograph[y : y + height, x : x + width][:, :: rng.choice([-1, 1])]
    piece = np.ascontiguousarray(piece)
    way = cv2.INTER_AREA if width > size[0] else cv2.INTER_LINEAR
    exponents = np.exp(rng.uniform(-0.4, 0.4) + rng.uniform(-0.2, 0.2, 3))
    return np.asarray(cv2.resize(piece, size, interpolation=way) ** exponents, np.float32)


def _expose(rng: np.random.Generator, canvas: FloatArray) -> NDArray[np.uint8]:
    """Camera effects: a little blur and noise, at times no colour; (H, W, 3) bytes."""
    image = canvas
    if rng.random() < 0.1:
        image = np.broadcast_to(canvas.mean(2, keepdims=True), canvas.shape)
    if rng.random() < 0.3:
        image = np.asarray(cv2.GaussianBlur(image, (0, 0), rng.uniform(0.3, 0.8)))
    noise = rng.standard_normal(canvas.shape, np.float32) * np.float32(rng.uniform(0, 0.02))
    return ((image + noise).clip(0, 1) * 255).round().astype(np.uint8)
