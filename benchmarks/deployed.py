"""`python -m benchmarks.deployed`: faces of every deployment format beside our detector's.

Weights are exported in each format and run on the same images, by our detector where it reads the
format and by the export's own `cascade.py`. A face is found again where a box has an IoU
of 0.8 with our detector's.
"""

import argparse
import runpy
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from export import calibration
from export.formats import CASCADE, FORMATS, INT8
from mtcnn_detector import MTCNN, UserError, pixels
from mtcnn_detector.boxes import FloatArray, iou, windows_of
from mtcnn_detector.cascade import Faces
from mtcnn_detector.pixels import Image
from mtcnn_detector.settings import DetectorSettings
from mtcnn_detector.weights import weight_files
from pipeline import tf_setup
from pipeline.cli import run_cli

NETS = ("onnx", "tflite", "savedmodel")
SAME_IOU = 0.8
Detect = Callable[[Image], tuple[FloatArray, FloatArray, FloatArray]]


def main() -> None:
    """Export, run, print the table."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.deployed",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--weights", type=Path, default=Path("weights/mtcnn_weights.npy"))
    parser.add_argument("--images", type=Path, required=True, metavar="FOLDER")
    parser.add_argument("--count", type=int, default=20, help="how many images (%(default)s)")
    arguments = parser.parse_args()
    tf_setup.import_tensorflow()
    images = read_images(arguments.images, arguments.count)
    expected = [MTCNN(arguments.weights).cascade.detect(image) for image in images]
    total = sum(len(faces.scores) for faces in expected)
    print(f"{total} faces on {len(images)} images\n")
    print("| run by | found again | others | box differs by, px | score differs by |")
    print("| --- | --- | --- | --- | --- |")
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder), arguments.weights, images)
        for name, detect in runtimes(Path(folder)).items():
            print(f"| {name} | {compare(detect, images, expected)} |", flush=True)


def read_images(folder: Path, count: int) -> list[Image]:
    """Images of a folder, of as many subfolders as possible, 240 pixels wide."""
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in pixels.SUFFIXES)
    chosen = paths[:: max(len(paths) // count, 1)][:count]
    images = [image for path in chosen if (image := pixels.read_image(path)) is not None]
    if not images:
        raise UserError(f"{folder} holds no images that can be read.")
    return [pixels.resize(x, 240, round(240 * x.shape[0] / x.shape[1])) for x in images]


def write(folder: Path, weights: Path, images: Sequence[Image]) -> None:
    """Export the weights in each format."""
    nets = weight_files.read(weights)
    for name in (*NETS, CASCADE):
        FORMATS[name].write(folder / name, nets, {})
    FORMATS[INT8].write(folder / INT8, nets, calibration.batches(nets, images))


def runtimes(folder: Path) -> dict[str, Detect]:
    """Detection functions by name."""
    from export.tensorflow_cascade import load_cascade

    found: dict[str, Detect] = {}
    for name in NETS:
        found[f"our detector, `{name}`"] = MTCNN(folder / name).cascade.detect
    for name in (*NETS, INT8):
        found[f"`cascade.py`, `{name}`"] = _standalone(folder / name)
    whole = load_cascade(folder / CASCADE)
    found[f"TensorFlow, `{CASCADE}`"] = lambda image: whole(image, DetectorSettings())
    return found


def _standalone(folder: Path) -> Detect:
    detector = runpy.run_path(str(folder / "cascade.py"))["MTCNN"](folder)
    detect: Detect = detector.detect
    return detect


def compare(detect: Detect, images: Sequence[Image], expected: Sequence[Faces]) -> str:
    """A row of the table."""
    total, again, others = sum(len(faces.scores) for faces in expected), 0, 0
    differences: list[tuple[float, float]] = [(0.0, 0.0)]
    for image, faces in zip(images, expected, strict=True):
        boxes, scores, _ = (np.asarray(array, float) for array in detect(image))
        overlap = iou(windows_of(faces.boxes), windows_of(boxes.reshape(-1, 4)))
        matched = (overlap >= SAME_IOU).any(axis=1)
        again += int(matched.sum())
        others += len(scores) - int((overlap >= SAME_IOU).any(axis=0).sum())
        for row in np.flatnonzero(matched):
            best = overlap[row].argmax()
            box = float(np.abs(boxes[best] - faces.boxes[row]).max())
            differences.append((box, abs(float(scores[best] - faces.scores[row]))))
    box, score = np.max(differences, axis=0)
    return f"{again} of {total} | {others} | {box:.2g} | {score:.1g}"


if __name__ == "__main__":
    run_cli(main)
