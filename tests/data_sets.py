"""Small data sets in WIDER's layout, and what `data_prep` makes of them: for its tests."""

import json
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from configs import recipe

ROOT = Path(__file__).parent.parent


MTCNN = Path(recipe.__file__).parent / "mtcnn.yaml"


BROKEN = {"0--Noise/broken.jpg", "1--Gradient/missing.jpg"}


Boxes = list[tuple[int, int, int, int, int]]  # x y w h invalid


def image(number: int, height: int, width: int) -> np.ndarray:
    rng = np.random.default_rng(number)
    if number % 2:
        return rng.integers(0, 256, (height, width, 3), np.uint8)
    ramp = np.add.outer(np.arange(height), np.arange(width)) % 256
    return np.stack([ramp, 255 - ramp, (ramp * 3) % 256], axis=2).astype(np.uint8)


def write_data(folder: Path, images: dict[str, tuple[int, int, Boxes]]) -> None:
    """A data set in WIDER's layout, and RetinaFace's list of its landmarks."""
    wider, landmarks = "", ""
    for number, (name, (height, width, boxes)) in enumerate(images.items()):
        path = folder / "images" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if name in BROKEN:
            if "missing" not in name:
                path.write_bytes(b"no image")
        else:
            cv2.imwrite(str(path), image(number, height, width))
        rows = [f"{x} {y} {w} {h} 0 0 0 {invalid} 0 0" for x, y, w, h, invalid in boxes]
        wider += "\n".join([name, str(len(boxes)), *(rows or ["0 " * 10])]) + "\n"
        landmarks += f"# {name}\n"
        for x, y, w, h, _ in boxes:
            places = [(0.3, 0.35), (0.7, 0.35), (0.5, 0.55), (0.33, 0.78), (0.67, 0.78)]
            told = " ".join(f"{x + u * w:.2f} {y + v * h:.2f} 0.0" for u, v in places)
            landmarks += f"{x} {y} {w} {h} {told} 0.9\n"
    (folder / "labels.txt").write_text(wider)
    (folder / "landmarks.txt").write_text(landmarks)


def small_set() -> dict[str, tuple[int, int, Boxes]]:
    """A dozen images, none of them square, with every trap."""
    images: dict[str, tuple[int, int, Boxes]] = {
        "0--Noise/nobody.jpg": (90, 130, []),
        "0--Noise/broken.jpg": (90, 130, [(5, 5, 30, 30, 0)]),
        "1--Gradient/missing.jpg": (90, 130, [(5, 5, 30, 30, 0)]),
        "1--Gradient/ignored.jpg": (140, 110, [(10, 10, 60, 70, 1), (80, 90, 25, 30, 0)]),
        "1--Gradient/tiny.jpg": (100, 160, [(20, 20, 5, 6, 0), (60, 30, 40, 50, 0)]),
        "0--Noise/flat.jpg": (14, 220, [(30, 0, 14, 14, 0)]),
    }
    for number in range(8):
        side = 20 + 7 * number
        boxes = [(3 * number, 20, side, side + 8, 0), (90, 4 * number, 22, 24, 0)]
        images[f"0--Noise/usual_{number}.jpg"] = (100 + number, 150 - number, boxes)
    return images


def large_set() -> dict[str, tuple[int, int, Boxes]]:
    """Enough images to be stopped half-way."""
    faces = [(30, 40, 50, 60, 0), (150, 60, 80, 90, 0), (20, 130, 40, 44, 0)]
    return {f"0--Noise/{i:03}.jpg": (240, 320, faces) for i in range(48)}


def write_recipe(folder: Path, *more: str) -> Path:
    path = folder / "recipe.yaml"
    counts = "negatives_per_image: 6, negatives_per_face: 2, positives_per_face: 5"
    counts += ", parts_per_face: 4, landmarks_per_face: 3, images_per_shard: 2"
    source = "{format: wider, labels: labels.txt, images: images, landmarks: landmarks.txt}"
    lines = [
        f"base: {MTCNN}",
        f"data: {{folder: {folder}, validation_fraction: 0.3, max_broken_fraction: 0.3, "
        f"train: {{own: {source}}}}}",
        f"pnet: {{records: {{{counts}}}}}",
    ]
    path.write_text("\n".join([*lines, *more]) + "\n")
    return path


def files(run: Path, net: str = "pnet") -> dict[str, bytes]:
    """All that a run has under its records, but for the commit: somebody may be committing."""
    folder = run / "records" / net
    paths = (path for path in sorted(folder.rglob("*")) if path.is_file())
    found = {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}
    if "manifest.json" in found:
        content = json.loads(found["manifest.json"])
        kept = {key: content[key] for key in content if key not in ("commit", "uncommitted")}
        found["manifest.json"] = json.dumps(kept).encode()
    return found


def shards(run: Path, split: str, kind: str, net: str = "pnet") -> list[Path]:
    return sorted((run / "records" / net / split).glob(f"{kind}-*.tfrecord"))


def manifest_of(run: Path, net: str = "pnet") -> dict[str, Any]:
    content: dict[str, Any] = json.loads((run / "records" / net / "manifest.json").read_text())
    return content


def command(recipe_file: Path, run: Path, net: str = "pnet", *more: str) -> list[str]:
    where = ["--config", str(recipe_file), "--run", str(run)]
    return [sys.executable, "-m", "data_prep", net, *where, "--workers", "2", *more]
