"""Writers of label files as annotation tools write them, for the tests of the readers.

They share no code with the readers: numbers are written out from the scenes below.
"""

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np

NAMES = ["left_eye", "right_eye", "nose", "left_mouth", "right_mouth"]
PLACES = [(0.3, 0.35), (0.7, 0.35), (0.5, 0.55), (0.35, 0.78), (0.65, 0.78)]


class Scene(NamedTuple):
    """An image and its faces x y w h, in whole pixels; none is square."""

    name: str
    width: int
    height: int
    boxes: list[tuple[int, int, int, int]]


SCENES = [
    Scene("a.jpg", 200, 140, [(20, 30, 40, 50), (120, 40, 50, 60)]),
    Scene("b.jpg", 160, 220, [(60, 100, 44, 56)]),
    Scene("c d.png", 180, 120, []),
    Scene("e.jpg", 200, 140, [(0, 0, 30, 40)]),
]


def points(box: tuple[int, int, int, int]) -> list[tuple[float, float]]:
    """Five landmarks of a face, in the image's order."""
    x, y, width, height = box
    return [(x + u * width, y + v * height) for u, v in PLACES]


def write_images(folder: Path, scenes: list[Scene] = SCENES) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for number, scene in enumerate(scenes):
        rng = np.random.default_rng(number)
        pixels = rng.integers(0, 255, (scene.height // 4 + 1, scene.width // 4 + 1, 3), np.uint8)
        image = cv2.resize(pixels, (scene.width, scene.height))
        path = folder / scene.name
        path.parent.mkdir(parents=True, exist_ok=True)
        assert cv2.imwrite(str(path), image)


def coco_of(scenes: list[Scene] = SCENES, **more: Any) -> dict[str, Any]:
    annotations: list[dict[str, Any]] = []
    for number, scene in enumerate(scenes, 1):
        for box in scene.boxes:
            flat = [value for x, y in points(box) for value in (x, y, 2)]
            label = {"id": len(annotations) + 1, "image_id": number, "category_id": 1}
            annotations.append({**label, "bbox": list(box), "keypoints": flat, **more})
    images = [
        {"id": i, "file_name": s.name, "width": s.width, "height": s.height}
        for i, s in enumerate(scenes, 1)
    ]
    category = {"id": 1, "name": "face", "keypoints": NAMES}
    return {"images": images, "annotations": annotations, "categories": [category]}


def write_coco(folder: Path) -> Path:
    (folder / "labels.json").write_text(json.dumps(coco_of()))
    return folder / "labels.json"


def write_voc(folder: Path) -> Path:
    labels = folder / "voc"
    labels.mkdir()
    for scene in SCENES:
        objects = "".join(
            f"<object><name>face</name><difficult>0</difficult><bndbox><xmin>{x}</xmin>"
            f"<ymin>{y}</ymin><xmax>{x + w}</xmax><ymax>{y + h}</ymax></bndbox></object>"
            for x, y, w, h in scene.boxes
        )
        (labels / Path(scene.name).with_suffix(".xml")).write_text(
            f"<annotation><folder>x</folder><filename>{scene.name}</filename>"
            f"<path>C:\\Users\\me\\{scene.name}</path><size><width>{scene.width}</width>"
            f"<height>{scene.height}</height><depth>3</depth></size>{objects}</annotation>"
        )
    return labels


def yolo_lines(scene: Scene, pose: bool) -> str:
    lines = []
    for x, y, w, h in scene.boxes:
        fractions = [(x + w / 2) / scene.width, (y + h / 2) / scene.height]
        fractions += [w / scene.width, h / scene.height]
        for u, v in points((x, y, w, h)) if pose else ():
            fractions += [u / scene.width, v / scene.height, 2]
        lines.append("0 " + " ".join(f"{value:.8f}" for value in fractions) + "\n")
    return "".join(lines)


def write_yolo(folder: Path, pose: bool = False) -> Path:
    labels = folder / "yolo"
    labels.mkdir()
    for scene in SCENES:
        (labels / Path(scene.name).with_suffix(".txt")).write_text(yolo_lines(scene, pose))
    (labels / "classes.txt").write_text("face\n")
    return labels


def write_yolo_pose(folder: Path) -> Path:
    return write_yolo(folder, pose=True)


def write_labelme(folder: Path) -> Path:
    labels = folder / "labelme"
    labels.mkdir()
    for scene in SCENES:
        shapes: list[dict[str, Any]] = []
        for x, y, w, h in scene.boxes:
            corners = [[x + w, y + h], [x, y]]  # drawn from the lower right
            shapes.append({"label": "face", "points": corners, "shape_type": "rectangle"})
            for name, point in zip(NAMES, points((x, y, w, h)), strict=True):
                shapes.append({"label": name, "points": [list(point)], "shape_type": "point"})
        content: dict[str, Any] = {
            "version": "5.4",
            "flags": {},
            "shapes": shapes,
            "imagePath": f"..\\{scene.name}",
        }
        content |= {"imageData": None, "imageWidth": scene.width, "imageHeight": scene.height}
        (labels / Path(scene.name).with_suffix(".json")).write_text(json.dumps(content))
    return labels


def write_cvat(folder: Path) -> Path:
    images = ""
    for number, scene in enumerate(SCENES):
        shapes = ""
        for x, y, w, h in scene.boxes:
            shapes += (
                f'<box label="face" occluded="0" xtl="{x}" ytl="{y}" xbr="{x + w}" ybr="{y + h}"/>'
            )
            for name, (u, v) in zip(NAMES, points((x, y, w, h)), strict=True):
                shapes += f'<points label="{name}" points="{u:.4f},{v:.4f}"/>'
        images += (
            f'<image id="{number}" name="{scene.name}" width="{scene.width}" '
            f'height="{scene.height}">{shapes}</image>'
        )
    xml = f"<annotations><version>1.1</version><meta/>{images}</annotations>"
    (folder / "annotations.xml").write_text('<?xml version="1.0" encoding="utf-8"?>\n' + xml)
    return folder / "annotations.xml"


def via_of() -> dict[str, Any]:
    content: dict[str, Any] = {}
    for scene in SCENES:
        regions: list[dict[str, Any]] = []
        for x, y, w, h in scene.boxes:
            shape: dict[str, Any] = {"name": "rect", "x": x, "y": y, "width": w, "height": h}
            regions.append({"shape_attributes": shape, "region_attributes": {"type": "face"}})
            for name, (u, v) in zip(NAMES, points((x, y, w, h)), strict=True):
                shape = {"name": "point", "cx": u, "cy": v}
                regions.append({"shape_attributes": shape, "region_attributes": {"type": name}})
        content[f"{scene.name}123"] = {"filename": scene.name, "size": 123, "regions": regions}
    return content


def write_via(folder: Path) -> Path:
    project = {"_via_settings": {}, "_via_img_metadata": via_of(), "_via_attributes": {}}
    (folder / "via.json").write_text(json.dumps(project))
    return folder / "via.json"


def write_via_csv(folder: Path) -> Path:
    with (folder / "via.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        head = ["filename", "file_size", "file_attributes", "region_count", "region_id"]
        rows.writerow([*head, "region_shape_attributes", "region_attributes"])
        for image in via_of().values():
            regions = image["regions"]
            for number, region in enumerate(regions or [{}]):
                shape = json.dumps(region.get("shape_attributes", {}))
                attributes = json.dumps(region.get("region_attributes", {}))
                rows.writerow(
                    [image["filename"], 123, "{}", len(regions), number, shape, attributes]
                )
    return folder / "via.csv"


def write_csv(folder: Path) -> Path:
    with (folder / "boxes.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        head = ["filename", "width", "height", "class", "xmin", "ymin", "xmax", "ymax"]
        rows.writerow([*head, *(f"{name}_{axis}" for name in NAMES for axis in "xy")])
        for scene in SCENES:
            size = [scene.name, scene.width, scene.height]
            for x, y, w, h in scene.boxes:
                flat = [value for point in points((x, y, w, h)) for value in point]
                rows.writerow([*size, "face", x, y, x + w, y + h, *flat])
            if not scene.boxes:
                rows.writerow([*size, *[""] * 15])
    return folder / "boxes.csv"


WRITERS: dict[str, Callable[[Path], Path]] = {
    "coco": write_coco,
    "voc": write_voc,
    "yolo": write_yolo,
    "yolo-pose": write_yolo_pose,
    "labelme": write_labelme,
    "cvat": write_cvat,
    "via": write_via,
    "via-csv": write_via_csv,
    "csv": write_csv,
}
WITHOUT_LANDMARKS = ("voc", "yolo")
