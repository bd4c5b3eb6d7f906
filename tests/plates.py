"""Drawn scenes with number plates, four times as wide as high, labelled as COCO's JSON."""

import json
from pathlib import Path

import cv2
import numpy as np

from mtcnn_detector import pixels

HEIGHT, WIDTH = 180, 240
ASPECT = 4  # width to height
WIDTHS = (44, 100)  # px


def compose(folder: Path, count: int, seed: int) -> Path:
    """Write `count` scenes into `folder/images`; returns their labels, `folder/labels.json`."""
    rng = np.random.default_rng(seed)
    (folder / "images").mkdir(parents=True)
    images, annotations = [], []
    for number in range(1, count + 1):
        scene, boxes = _scene(rng)
        name = f"{number:03}.png"
        assert cv2.imwrite(str(folder / "images" / name), scene)
        images.append({"id": number, "file_name": name, "width": WIDTH, "height": HEIGHT})
        annotations += [{"image_id": number, "category_id": 1, "bbox": box} for box in boxes]
    annotations = [{"id": place, **one} for place, one in enumerate(annotations, 1)]
    content = {"images": images, "annotations": annotations}
    content["categories"] = [{"id": 1, "name": "plate"}]
    (folder / "labels.json").write_text(json.dumps(content))
    return folder / "labels.json"


def _scene(rng: np.random.Generator) -> tuple[pixels.Image, list[list[int]]]:
    """A background with one plate in its upper half and, mostly, one in its lower half."""
    rough = rng.integers(30, 200, (7, 9, 3), np.uint8)
    smooth = cv2.resize(rough, (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC)
    scene: pixels.Image = np.asarray(smooth, np.uint8)
    for _ in range(12):  # things that are no plates
        x, y, w, h = (int(value) for value in rng.integers(8, (WIDTH, HEIGHT, 50, 50)))
        colour = tuple(int(value) for value in rng.integers(0, 256, 3))
        cv2.rectangle(scene, (x, y), (x + w, y + h), colour, int(rng.integers(-1, 3)) or 1)
    boxes = []
    for half in range(2):
        if half and rng.random() < 0.2:
            continue
        width = int(rng.integers(*WIDTHS))
        height = width // ASPECT
        x = int(rng.integers(2, WIDTH - width - 2))
        y = half * HEIGHT // 2 + int(rng.integers(2, HEIGHT // 2 - height - 2))
        _draw_plate(scene[y : y + height, x : x + width], rng)
        boxes.append([x, y, width, height])
    return scene, boxes


def _draw_plate(area: pixels.Image, rng: np.random.Generator) -> None:
    """Dark characters on a light ground within a frame, in place."""
    height, width = area.shape[:2]
    area[:] = rng.integers(190, 256, 3)
    cv2.rectangle(area, (0, 0), (width - 1, height - 1), (20, 20, 20), max(height // 12, 1))
    text = "".join(rng.choice(list("ABCDEFGHKLMNPRSTUVXYZ0123456789"), 6))
    place = (width // 12, height - height // 4)
    cv2.putText(
        area, text, place, cv2.FONT_HERSHEY_PLAIN, width / 80, (20, 20, 20), 1 + width // 60
    )
