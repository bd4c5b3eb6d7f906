"""Pictures of people, as many as this machine has, and crops of them."""

import functools
import importlib.util
from pathlib import Path

import numpy as np

from mtcnn_detector import pixels

ROOT = Path(__file__).parents[1]
WIDER = ROOT.parent / "shared" / "data" / "wider" / "WIDER_val" / "images"


@functools.cache
def photographs() -> dict[str, pixels.Image]:
    """Some pictures of people, as many as this machine has."""
    found: dict[str, pixels.Image] = {}
    if importlib.util.find_spec("skimage") is not None:
        from skimage import data

        found["astronaut"] = np.ascontiguousarray(data.astronaut()[:400])
    for folder in ("19--Couple", "1--Handshaking", "44--Aerobics"):
        for path in sorted((WIDER / folder).glob("*.jpg"))[:1]:
            image = pixels.read_image(path)
            assert image is not None
            found[folder] = pixels.resize(image, 400, 400 * image.shape[0] // image.shape[1])
    return found


def clouds(height: int, width: int) -> pixels.Image:
    """Smooth random colours, where there is no photograph to take."""
    rough = np.random.default_rng(0).integers(0, 256, (8, 10, 3), np.uint8)
    return np.kron(rough, np.ones((height // 8, width // 10, 1), np.uint8))


def crops(size: tuple[int, int], count: int = 16) -> pixels.Image:
    """(count, height, width, 3): windows of the photographs, some of them half outside."""
    pictures = [clouds(400, 500), *photographs().values()]
    rng = np.random.default_rng(0)
    cut = []
    for i in range(count):
        x, y, scale = (*rng.integers(0, 150, 2), rng.integers(1, 5))
        height, width = (side * scale for side in size)
        part = pixels.padded(pictures[i % len(pictures)], np.array([x, y, x + width, y + height]))
        cut.append(pixels.resize(part, size[1], size[0]))
    return np.stack(cut)


def twenty() -> list[pixels.Image]:
    """Photographs of WIDER's validation set from as many events, 240 pixels wide."""
    chosen = [next(iter(sorted(event.glob("*.jpg"))), None) for event in sorted(WIDER.glob("*"))]
    more = sorted(WIDER.glob("*/*.jpg"))[::20]
    images = []
    for path in list(dict.fromkeys([*filter(None, chosen), *more]))[:20]:
        image = pixels.read_image(path)
        assert image is not None
        scale = 240 / image.shape[1]
        images.append(
            pixels.resize(image, round(image.shape[1] * scale), round(image.shape[0] * scale))
        )
    return images
