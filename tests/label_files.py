"""Writers of label files as annotation tools write them, for the tests of the readers.

They share no code with the readers: numbers are written out from the scenes below.
"""

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import cv2
import numpy as np

NAMES = ["left_eye", "right_eye", "nose", "left_mouth", "right_mouth"]
PLACES = [(0.3, 0.35), (0.7, 0.35), (0.5, 0.55), (0.35, 0.78), (0.65, 0.78)]


Box = tuple[int, int, int, int]
Point = tuple[float, float]


class Scene(NamedTuple):
    """An image and its faces x y w h, in whole pixels; none of `SCENES` is square."""

    name: str
    width: int
    height: int
    boxes: list[Box]
    landmarks: list[list[Point]] | None = None  # five of each face, or none; None: as in `points`


SCENES = [
    Scene("a.jpg", 200, 140, [(20, 30, 40, 50), (120, 40, 50, 60)]),
    Scene("b.jpg", 160, 220, [(60, 100, 44, 56)]),
    Scene("c d.png", 180, 120, []),
    Scene("e.jpg", 200, 140, [(0, 0, 30, 40)]),
]


def points(box: Box) -> list[Point]:
    """Five landmarks of a face, in the image's order."""
    x, y, width, height = box
    return [(x + u * width, y + v * height) for u, v in PLACES]


def faces(scene: Scene, landmarks: bool = True) -> list[tuple[Box, list[Point]]]:
    """The faces of a scene, each with its five landmarks, or with none."""
    known = scene.landmarks or [points(box) for box in scene.boxes]
    return [(box, five if landmarks else []) for box, five in zip(scene.boxes, known, strict=True)]


def number(value: float) -> str:
    """As most tools print it: whole numbers without a point, others with all their digits."""
    return f"{value:.0f}" if value == int(value) else repr(float(value))


def write_images(folder: Path, scenes: Sequence[Scene] = SCENES) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for seed, scene in enumerate(scenes):
        rng = np.random.default_rng(seed)
        pixels = rng.integers(0, 255, (scene.height // 4 + 1, scene.width // 4 + 1, 3), np.uint8)
        image = cv2.resize(pixels, (scene.width, scene.height))
        path = folder / scene.name
        path.parent.mkdir(parents=True, exist_ok=True)
        assert cv2.imwrite(str(path), image)


def _beside(labels: Path, scene: Scene, suffix: str) -> Path:
    """The label file of one image, in the same folder below `labels` as the image."""
    path = labels / Path(scene.name).with_suffix(suffix)
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def coco_of(
    scenes: Sequence[Scene] = SCENES, landmarks: bool = True, **more: Any
) -> dict[str, Any]:
    annotations: list[dict[str, Any]] = []
    for identity, scene in enumerate(scenes, 1):
        for box, five in faces(scene, landmarks):
            label = {"id": len(annotations) + 1, "image_id": identity, "category_id": 1}
            annotations.append({**label, "bbox": list(box), **more})
            if five:
                annotations[-1]["keypoints"] = [value for x, y in five for value in (x, y, 2)]
    images = [
        {"id": i, "file_name": s.name, "width": s.width, "height": s.height}
        for i, s in enumerate(scenes, 1)
    ]
    category = {"id": 1, "name": "face", "keypoints": NAMES}
    return {"images": images, "annotations": annotations, "categories": [category]}


def write_coco(folder: Path, scenes: Sequence[Scene] = SCENES, landmarks: bool = True) -> Path:
    (folder / "labels.json").write_text(json.dumps(coco_of(scenes, landmarks)))
    return folder / "labels.json"


def write_voc(folder: Path, scenes: Sequence[Scene] = SCENES, landmarks: bool = False) -> Path:
    assert not landmarks
    for scene in scenes:
        objects = "".join(
            f"<object><name>face</name><difficult>0</difficult><bndbox><xmin>{x}</xmin>"
            f"<ymin>{y}</ymin><xmax>{x + w}</xmax><ymax>{y + h}</ymax></bndbox></object>"
            for x, y, w, h in scene.boxes
        )
        _beside(folder / "voc", scene, ".xml").write_text(
            f"<annotation><folder>x</folder><filename>{Path(scene.name).name}</filename>"
            f"<path>C:\\Users\\me\\{scene.name}</path><size><width>{scene.width}</width>"
            f"<height>{scene.height}</height><depth>3</depth></size>{objects}</annotation>"
        )
    return folder / "voc"


def yolo_lines(scene: Scene, pose: bool) -> str:
    lines = []
    for (x, y, w, h), five in faces(scene):
        fractions = [(x + w / 2) / scene.width, (y + h / 2) / scene.height]
        fractions += [w / scene.width, h / scene.height]
        for u, v in five if pose else ():
            fractions += [u / scene.width, v / scene.height, 2]
        if pose and not five:
            fractions += [0] * 15
        lines.append(f"0 {' '.join(map(number, fractions))}\n")
    return "".join(lines)


def write_yolo(folder: Path, scenes: Sequence[Scene] = SCENES, landmarks: bool = False) -> Path:
    for scene in scenes:
        _beside(folder / "yolo", scene, ".txt").write_text(yolo_lines(scene, landmarks))
    (folder / "yolo" / "classes.txt").write_text("face\n")
    return folder / "yolo"


def write_yolo_pose(folder: Path, scenes: Sequence[Scene] = SCENES, landmarks: bool = True) -> Path:
    return write_yolo(folder, scenes, landmarks)


def write_labelme(folder: Path, scenes: Sequence[Scene] = SCENES, landmarks: bool = True) -> Path:
    for scene in scenes:
        shapes: list[dict[str, Any]] = []
        for (x, y, w, h), five in faces(scene, landmarks):
            corners = [[x + w, y + h], [x, y]]  # drawn from the lower right
            shapes.append({"label": "face", "points": corners, "shape_type": "rectangle"})
            for name, point in zip(NAMES if five else [], five, strict=True):
                shapes.append({"label": name, "points": [list(point)], "shape_type": "point"})
        content: dict[str, Any] = {
            "version": "5.4",
            "flags": {},
            "shapes": shapes,
            "imagePath": f"..\\{Path(scene.name).name}",
        }
        content |= {"imageData": None, "imageWidth": scene.width, "imageHeight": scene.height}
        _beside(folder / "labelme", scene, ".json").write_text(json.dumps(content))
    return folder / "labelme"


def write_cvat(folder: Path, scenes: Sequence[Scene] = SCENES, landmarks: bool = True) -> Path:
    images = ""
    for identity, scene in enumerate(scenes):
        shapes = ""
        for (x, y, w, h), five in faces(scene, landmarks):
            shapes += (
                f'<box label="face" occluded="0" xtl="{x}" ytl="{y}" xbr="{x + w}" ybr="{y + h}"/>'
            )
            for name, (u, v) in zip(NAMES if five else [], five, strict=True):
                shapes += f'<points label="{name}" points="{u:.4f},{v:.4f}"/>'
        images += (
            f'<image id="{identity}" name="{scene.name}" width="{scene.width}" '
            f'height="{scene.height}">{shapes}</image>'
        )
    xml = f"<annotations><version>1.1</version><meta/>{images}</annotations>"
    (folder / "annotations.xml").write_text('<?xml version="1.0" encoding="utf-8"?>\n' + xml)
    return folder / "annotations.xml"


def via_of(scenes: Sequence[Scene] = SCENES, landmarks: bool = True) -> dict[str, Any]:
    content: dict[str, Any] = {}
    for scene in scenes:
        regions: list[dict[str, Any]] = []
        for (x, y, w, h), five in faces(scene, landmarks):
            shape: dict[str, Any] = {"name": "rect", "x": x, "y": y, "width": w, "height": h}
            regions.append({"shape_attributes": shape, "region_attributes": {"type": "face"}})
            for name, (u, v) in zip(NAMES if five else [], five, strict=True):
                shape = {"name": "point", "cx": u, "cy": v}
                regions.append({"shape_attributes": shape, "region_attributes": {"type": name}})
        content[f"{scene.name}123"] = {"filename": scene.name, "size": 123, "regions": regions}
    return content


def write_via(folder: Path, scenes: Sequence[Scene] = SCENES, landmarks: bool = True) -> Path:
    images = via_of(scenes, landmarks)
    project = {"_via_settings": {}, "_via_img_metadata": images, "_via_attributes": {}}
    (folder / "via.json").write_text(json.dumps(project))
    return folder / "via.json"


def write_via_csv(folder: Path, scenes: Sequence[Scene] = SCENES, landmarks: bool = True) -> Path:
    with (folder / "via.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        head = ["filename", "file_size", "file_attributes", "region_count", "region_id"]
        rows.writerow([*head, "region_shape_attributes", "region_attributes"])
        for image in via_of(scenes, landmarks).values():
            regions = image["regions"]
            for identity, region in enumerate(regions or [{}]):
                shape = json.dumps(region.get("shape_attributes", {}))
                attributes = json.dumps(region.get("region_attributes", {}))
                rows.writerow(
                    [image["filename"], 123, "{}", len(regions), identity, shape, attributes]
                )
    return folder / "via.csv"


def write_via_3(folder: Path, scenes: Sequence[Scene] = SCENES, landmarks: bool = True) -> Path:
    files, views, metadata = {}, {}, {}
    for identity, scene in enumerate(scenes, 1):
        key = str(identity)
        files[key] = {"fid": key, "fname": scene.name, "type": 2, "loc": 1, "src": ""}
        views[key] = {"fid_list": [key]}
        shapes: list[tuple[str, list[float]]] = []
        for (x, y, w, h), five in faces(scene, landmarks):
            shapes.append(("0", [2, x, y, w, h]))
            shapes += [(str(i), [1, u, v]) for i, (u, v) in enumerate(five, 1)]
        for number, (choice, xy) in enumerate(shapes):
            region = {"vid": key, "flg": 0, "z": [], "xy": xy, "av": {"1": choice}}
            metadata[f"{key}_{number}"] = region
        metadata[f"{key}_file"] = {"vid": key, "flg": 0, "z": [], "xy": [], "av": {"2": "checked"}}
    options = dict(zip("012345", ["face", *NAMES], strict=True))
    attributes = {"1": {"aname": "what", "anchor_id": "FILE1_Z0_XY1", "options": options}}
    project = {"project": {"vid_list": [*views]}, "config": {}, "attribute": attributes}
    project |= {"file": files, "metadata": metadata, "view": views}
    (folder / "via3.json").write_text(json.dumps(project))
    return folder / "via3.json"


def write_csv(folder: Path, scenes: Sequence[Scene] = SCENES, landmarks: bool = True) -> Path:
    with (folder / "boxes.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        head = ["filename", "width", "height", "class", "xmin", "ymin", "xmax", "ymax"]
        rows.writerow([*head, *(f"{name}_{axis}" for name in NAMES for axis in "xy")])
        for scene in scenes:
            size = [scene.name, scene.width, scene.height]
            for (x, y, w, h), five in faces(scene, landmarks):
                flat: list[Any] = [value for point in five for value in point] or [""] * 10
                rows.writerow([*size, "face", x, y, x + w, y + h, *flat])
            if not scene.boxes:
                rows.writerow([*size, *[""] * 15])
    return folder / "boxes.csv"


def write_wider(folder: Path, scenes: Sequence[Scene] = SCENES, landmarks: bool = True) -> Path:
    """WIDER's list; with landmarks a list of RetinaFace's as well, `retinaface.txt`."""
    text = ""
    for scene in scenes:
        rows = [f"{x} {y} {w} {h} 0 0 0 0 0 0" for x, y, w, h in scene.boxes]
        text += "\n".join([scene.name, str(len(rows)), *(rows or ["0 0 0 0 0 0 0 0 0 0"])]) + "\n"
    (folder / "wider.txt").write_text(text)
    if landmarks:
        write_retinaface(folder, scenes)
    return folder / "wider.txt"


def write_retinaface(
    folder: Path, scenes: Sequence[Scene] = SCENES, landmarks: bool = True
) -> Path:
    lines = []
    for scene in scenes:
        lines.append(f"# {scene.name}")
        for box, five in faces(scene, landmarks):
            flags = [f"{number(x)} {number(y)} 0.0" for x, y in five] or ["-1 -1 -1"] * 5
            lines.append(" ".join([*map(str, box), *(flags if landmarks else [])]))
            lines[-1] += " 0.9" if landmarks else ""
    (folder / "retinaface.txt").write_text("\n".join(lines) + "\n")
    return folder / "retinaface.txt"


def write_mtfl(folder: Path, scenes: Sequence[Scene] = SCENES, landmarks: bool = True) -> Path:
    """MTFL's list; it has no images without a face, and no faces without landmarks."""
    assert landmarks
    lines = []
    for scene in scenes:
        for (x, y, w, h), five in faces(scene):
            flat = " ".join(number(value) for point in five for value in point)
            path = scene.name.replace("/", "\\")
            lines.append(f"{path} {x} {x + w} {y} {y + h} {flat}")
    (folder / "mtfl.txt").write_text("\n".join(lines) + "\n")
    return folder / "mtfl.txt"


def write_celeba(folder: Path, scenes: Sequence[Scene] = SCENES, landmarks: bool = True) -> Path:
    """CelebA's two lists, the second one `landmarks.txt`; each image has exactly one face."""
    boxes, points = [str(len(scenes)), "image_id x_1 y_1 width height"], [str(len(scenes)), "names"]
    for scene in scenes:
        ((box, five),) = faces(scene)
        boxes.append(" ".join([scene.name, *map(str, box)]))
        points.append(" ".join([scene.name, *(number(v) for point in five for v in point)]))
    (folder / "celeba.txt").write_text("\n".join(boxes) + "\n")
    if landmarks:
        (folder / "landmarks.txt").write_text("\n".join(points) + "\n")
    return folder / "celeba.txt"


class Writer(Protocol):
    """Writes the labels of scenes into a folder; returns the file or folder of the labels."""

    def __call__(
        self, folder: Path, scenes: Sequence[Scene] = ..., landmarks: bool = ...
    ) -> Path: ...


WRITERS: dict[str, Writer] = {
    "coco": write_coco,
    "voc": write_voc,
    "yolo": write_yolo,
    "yolo-pose": write_yolo_pose,
    "labelme": write_labelme,
    "cvat": write_cvat,
    "via": write_via,
    "via-csv": write_via_csv,
    "via-3": write_via_3,
    "csv": write_csv,
}
WITHOUT_LANDMARKS = ("voc", "yolo")
LISTS: dict[str, Writer] = {  # of research sets, whose paths are plain
    "wider": write_wider,
    "retinaface": write_retinaface,
    "mtfl": write_mtfl,
    "celeba": write_celeba,
}
SECOND_FILES = {"wider": "retinaface.txt", "celeba": "landmarks.txt"}  # of landmarks
