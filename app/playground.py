"""Computations of the page: uploads, weights to choose from, detections after each net."""

import threading
import time
import warnings
from collections import OrderedDict
from pathlib import Path
from typing import NamedTuple

import numpy as np
import PIL.Image

from mtcnn_detector import MTCNN, UserError, drawing, exported, pixels
from mtcnn_detector.cascade import Cascade, Faces
from mtcnn_detector.net import NETS
from mtcnn_detector.pixels import Image
from mtcnn_detector.settings import DetectorSettings
from mtcnn_detector.weights import weight_files

MAX_MEGAPIXELS = 40
MAX_CACHED_WEIGHTS = 4
EXPORTS = ("mtcnn_weights.npy", "mtcnn_weights", "onnx", "tflite", "savedmodel")  # of a run
TITLES = {"pnet": "P-Net", "rnet": "R-Net", "onet": "O-Net"}


class NetResult(NamedTuple):
    """Detections after one net, and how long it took."""

    title: str
    faces: Faces
    milliseconds: float


def read_upload(path: Path) -> Image:
    """(H, W, 3) uint8 RGB of an uploaded image file, upright by its EXIF.

    Raises:
        UserError: it is no image, is damaged, or has over `MAX_MEGAPIXELS`.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of its size: see below
            with PIL.Image.open(path) as file:  # reads the header alone
                width, height = file.size
    except PIL.Image.DecompressionBombError:
        raise UserError(f"The image has over {MAX_MEGAPIXELS} megapixels: shrink it.") from None
    except (OSError, ValueError, SyntaxError):
        raise UserError("The uploaded file is not an image that can be read.") from None
    megapixels = width * height / 1e6
    if megapixels > MAX_MEGAPIXELS:
        raise UserError(
            f"The image has {megapixels:.0f} megapixels, over the limit of {MAX_MEGAPIXELS}: "
            "shrink it."
        )
    image = pixels.read_image(path, upright=True)
    if image is None:
        raise UserError("The uploaded image is damaged or of a kind that cannot be read.")
    return image


def weights_choices(root: Path) -> dict[str, Path]:
    """Weights under a folder by name: files of `weights/`, then runs and their exports."""
    paths = [path for path in sorted(root.glob("weights/*")) if path.suffix in (".npy", ".npz")]
    for run in sorted(root.glob("runs/*/")):
        paths += [run / name for name in EXPORTS if (run / name).exists()]
        if all((run / name / "weights.npz").exists() for name in NETS):
            paths.append(run)
    return {str(path.relative_to(root)): path for path in paths}


class Detectors:
    """Detectors of the weights that were used last, shared by all sessions."""

    def __init__(self) -> None:
        self._cascades: OrderedDict[tuple[Path, tuple[int, ...]], Cascade] = OrderedDict()
        self._lock = threading.Lock()

    def cascade(self, path: Path, settings: DetectorSettings) -> Cascade:
        """The cascade of weights, read once unless changed; raises `UserError` where refused."""
        if not path.exists():
            raise UserError(f"The weights {path.name} are not there any more: choose others.")
        key = path, tuple(file.stat().st_mtime_ns for file in _files(path))
        with self._lock:
            if key not in self._cascades:
                self._cascades[key] = MTCNN(path).cascade
            self._cascades.move_to_end(key)
            while len(self._cascades) > MAX_CACHED_WEIGHTS:
                self._cascades.popitem(last=False)
            return self._cascades[key].with_settings(settings)


def _files(path: Path) -> list[Path]:
    """The files that a detector of these weights reads, or the folders of its SavedModels."""
    if exported.is_export(path):
        return [found for name in NETS if (found := exported.model_path(path, name))]
    return weight_files.files(path)


def detect(cascade: Cascade, image: Image) -> list[NetResult]:
    """Run the nets in turn on an RGB image (H, W, 3) uint8, timed."""
    results, start = [], time.perf_counter()
    for name, faces in zip(NETS, cascade.iterate(image), strict=True):
        end = time.perf_counter()
        results.append(NetResult(TITLES[name], faces, 1000 * (end - start)))
        start = end
    return results


def drawings(image: Image, results: list[NetResult]) -> list[Image]:
    """The image with the faces, then with the boxes after each net."""
    images = [drawing.draw_faces(image, results[-1].faces)]
    for result in results:
        canvas = image.copy()
        drawing.draw_boxes(canvas, result.faces.boxes, drawing.RED)
        images.append(canvas)
    return images


def summary(title: str, results: list[NetResult]) -> str:
    """A Markdown table of counts and times."""
    total = sum(result.milliseconds for result in results)
    count = len(results[-1].faces.scores)
    without = bool(count) and not np.isfinite(results[-1].faces.landmarks).any()
    lines = [
        f"**{title}**: {count} face{'s' * (count != 1)} in {total:.0f} ms"
        + "; these weights give no landmarks" * without,
        "",
        "| after | boxes | ms |",
        "| --- | --- | --- |",
    ]
    for result in results:
        boxes = len(result.faces.scores)
        lines.append(f"| {result.title} | {boxes} | {result.milliseconds:.1f} |")
    return "\n".join(lines)
