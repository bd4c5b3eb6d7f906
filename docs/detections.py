"""`python -m docs.detections`: composes docs/detections.jpg, the picture at the top of the README.

One portrait, NASA's photograph of the astronaut Eileen Collins, pasted into other photographs at
several sizes and tilts, and what the detector finds there with our weights. All photographs are in
the scikit-image package and in the public domain (CC0, NASA, SpaceX).
"""

from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np

from mtcnn_detector import MTCNN
from mtcnn_detector.pixels import Image, read_image

ROOT = Path(__file__).parents[1]
HEIGHT = 360  # pixels of each scene in the picture
GREEN, YELLOW = (60, 220, 60), (255, 230, 0)  # RGB
HEAD = (226.0, 108.0)  # the middle of the head in astronaut.png, x y
HALF_AXES = (66.0, 88.0)  # of the oval that is cut out, pixels


class Copy(NamedTuple):
    """Where the head is pasted: its middle, height, degrees to the left, and whether in grey."""

    x: float
    y: float
    height: float
    tilt: float = 0.0
    mirrored: bool = False
    grey: bool = False


SCENES = {
    "astronaut.png": [],
    "rocket.jpg": [
        Copy(70, 70, 90, 12),
        Copy(210, 255, 150, -8, mirrored=True),
        Copy(480, 90, 60, 20),
        Copy(545, 310, 40, mirrored=True),
        Copy(400, 290, 110, 5, grey=True),
    ],
    "coffee.png": [
        Copy(80, 300, 130, -15),
        Copy(95, 85, 70, 6, mirrored=True, grey=True),
        Copy(510, 75, 95, 10),
        Copy(560, 335, 50, -5, mirrored=True),
        Copy(300, 40, 36),
    ],
}


def main() -> None:
    """Compose the scenes, detect, draw, and write the picture."""
    detector = MTCNN(ROOT / "weights" / "mtcnn_weights.npy")
    panels = []
    for name, copies in SCENES.items():
        scene = compose(read_photograph(name), copies)
        width = round(scene.shape[1] * HEIGHT / scene.shape[0])
        panel = cv2.resize(scene, (width, HEIGHT), interpolation=cv2.INTER_AREA)
        for face in detector.detect_faces(panel.astype(np.uint8)):
            draw(panel, face)
        panels.append(panel)
    picture = cv2.cvtColor(np.concatenate(panels, axis=1), cv2.COLOR_RGB2BGR)
    cv2.imwrite(str(ROOT / "docs" / "detections.jpg"), picture, [cv2.IMWRITE_JPEG_QUALITY, 88])


def draw(panel: Any, face: dict[str, Any]) -> None:
    """A face's box and five landmarks, large enough to be seen in a shrunk picture."""
    x, y, width, height = face["box"]
    cv2.rectangle(panel, (x, y), (x + width, y + height), GREEN, 2)
    for point in face["keypoints"].values():
        cv2.circle(panel, point, max(1, height // 28), YELLOW, -1, cv2.LINE_AA)


def read_photograph(name: str) -> Image:
    """A photograph of scikit-image's, RGB (H, W, 3)."""
    spec = find_spec("skimage")
    if spec is None or not spec.submodule_search_locations:
        raise SystemExit("error: scikit-image is not installed: run `make setup`.")
    image = read_image(Path(spec.submodule_search_locations[0]) / "data" / name)
    assert image is not None, name
    return image


def compose(scene: Image, copies: list[Copy]) -> Image:
    """The scene with copies of the astronaut's head blended in."""
    portrait = read_photograph("astronaut.png")
    y, x = np.mgrid[: portrait.shape[0], : portrait.shape[1]]
    radius = np.hypot((x - HEAD[0]) / HALF_AXES[0], (y - HEAD[1]) / HALF_AXES[1])
    opacity = np.clip((1 - radius) / 0.15, 0, 1).astype(np.float32)
    canvas = scene.astype(np.float32)
    for copy in copies:
        pixels = portrait.astype(np.float32)
        if copy.grey:
            pixels[:] = pixels.mean(axis=2, keepdims=True)
        scale = copy.height / (2 * HALF_AXES[1])
        affine = cv2.getRotationMatrix2D(HEAD, copy.tilt, scale)
        if copy.mirrored:
            affine = affine @ np.array([[-1, 0, 2 * HEAD[0]], [0, 1, 0], [0, 0, 1]])
        affine[:, 2] += np.array([copy.x - HEAD[0], copy.y - HEAD[1]])
        size = (scene.shape[1], scene.shape[0])
        if scale < 1:  # low-pass, or hair and teeth alias
            pixels = np.asarray(cv2.GaussianBlur(pixels, (0, 0), 0.5 / scale), np.float32)
        pasted = cv2.warpAffine(pixels, affine, size, None, cv2.INTER_CUBIC)
        mask = cv2.warpAffine(opacity, affine, size)[..., None]
        canvas += mask * (pasted - canvas)
    return canvas.clip(0, 255).round().astype(np.uint8)


if __name__ == "__main__":
    main()
