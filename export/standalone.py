"""MTCNN face detection with the exported nets of one folder: copy this file into a service.

It needs numpy, OpenCV and the runtime of the nets: onnxruntime for `.onnx` files, ai-edge-litert
for `.tflite` files, TensorFlow for SavedModel folders. No other file is needed.

    from cascade import MTCNN
    detector = MTCNN()                        # the nets beside this file; or MTCNN("folder")
    faces = detector.detect_faces(image)      # RGB, (H, W, 3) uint8

or, on the command line: python cascade.py photograph.jpg
"""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

# P-Net's map, of the exported net. Cell i, of a side of n pixels, sees `size` pixels from
# `offsets[n % stride] + stride * i`; `margin` cells before and after a map see padding.
PNET: dict[str, Any] = {"size": 12, "stride": 2, "offsets": [0, 0], "margin": [0, 1]}
CROP_SIZES = {"rnet": 24, "onet": 48}  # pixels

NMS_LEVEL, NMS_ALL_LEVELS, NMS_RNET, NMS_ONET = 0.5, 0.7, 0.7, 0.7  # maximum overlaps
LANDMARKS = ("left_eye", "right_eye", "nose", "mouth_left", "mouth_right")
MAX_BATCH = 128  # crops; more of them are run one batch after another

Array = NDArray[Any]
Net = Callable[[Array], dict[str, Array]]  # RGB pixels, 0 to 255, (N, H, W, 3) -> heads by name


class Faces(NamedTuple):
    """Boxes (N, 4) x1 y1 x2 y2, scores (N,) and landmarks (N, 5, 2), in pixels; best first.

    Landmarks are NaN where O-Net gives none.
    """

    boxes: Array
    scores: Array
    landmarks: Array


class MTCNN:
    """Detects faces, and five landmarks in each where O-Net gives them.

    Args:
        folder: the exported nets; the folder of this file by default.
        min_face_size: longer side of the smallest face to look for, pixels.
        steps_threshold: probability, 0 to 1, that P-Net, R-Net and O-Net must give a face.
        scale_factor: ratio of two successive levels of the image pyramid, between 0 and 1.
    """

    def __init__(
        self,
        folder: str | Path = Path(__file__).parent,
        min_face_size: float = 20,
        steps_threshold: tuple[float, float, float] = (0.6, 0.7, 0.7),
        scale_factor: float = 0.709,
    ) -> None:
        self.min_face_size, self.scale_factor = min_face_size, scale_factor
        self.thresholds = steps_threshold
        self._pnet, self._rnet, self._onet = (
            load(Path(folder), name) for name in ("pnet", "rnet", "onet")
        )

    def detect_faces(self, image: Array) -> list[dict[str, Any]]:
        """The faces of an RGB image (H, W, 3) uint8, best first, in the form of package `mtcnn`.

        `keypoints` is empty where O-Net gives no landmarks.
        """
        faces = []
        for box, score, landmarks in zip(*self.detect(image), strict=True):
            x, y = max(0, int(box[0])), max(0, int(box[1]))
            known = np.isfinite(landmarks).all()
            points = [(int(px), int(py)) for px, py in landmarks] if known else []
            faces.append(
                {
                    "box": [x, y, int(box[2] - x), int(box[3] - y)],
                    "confidence": float(score),
                    "keypoints": dict(zip(LANDMARKS, points, strict=False)),
                }
            )
        return faces

    def detect(self, image: Array) -> Faces:
        """The faces of an RGB image (H, W, 3) uint8, as arrays."""
        squares = self._propose(image)
        squares = self._refine(image, squares)
        return self._output(image, squares)

    def _propose(self, image: Array) -> Array:
        """P-Net over the image pyramid -> (N, 4) squares of whole pixels."""
        found = [self._propose_level(image, scale) for scale in self._scales(image)]
        corners, offsets, scores = (
            np.concatenate(arrays) for arrays in zip(*found, _no_cells(), strict=True)
        )
        keep = nms(to_windows(corners), scores, NMS_ALL_LEVELS)
        corners, offsets = corners[keep], offsets[keep]
        return to_squares(corners + offsets * sides(corners))

    def _scales(self, image: Array) -> list[float]:
        scale = PNET["size"] / self.min_face_size
        side = min(image.shape[:2]) * scale
        scales: list[float] = []
        while side >= PNET["size"]:
            scales.append(scale * self.scale_factor ** len(scales))
            side *= self.scale_factor
        return scales

    def _propose_level(self, image: Array, scale: float) -> tuple[Array, Array, Array]:
        """P-Net on one level of the pyramid -> boxes, their offsets and scores after NMS."""
        height, width = (int(np.ceil(side * scale)) for side in image.shape[:2])
        level = resize(image, width, height)
        stride, (before, after) = PNET["stride"], PNET["margin"]
        first, last = before * stride, after * stride
        padded = cv2.copyMakeBorder(level, first, last, first, last, cv2.BORDER_REPLICATE)
        maps = self._pnet(padded[None].astype(np.float32))
        rows, columns = (slice(before, n - after) for n in maps["score"].shape[1:])
        score, box = maps["score"][0, rows, columns], maps["box"][0, rows, columns]
        row, column = np.nonzero(score >= np.float32(self.thresholds[0]))
        offsets, size = PNET["offsets"], PNET["size"]
        origin = np.stack(
            [column * stride + offsets[width % stride], row * stride + offsets[height % stride]],
            axis=1,
        )
        corners = np.trunc(np.concatenate([origin + size / 12, origin + size], axis=1) / scale)
        keep = nms(to_windows(corners), score[row, column], NMS_LEVEL)
        return corners[keep], box[row, column][keep], score[row, column][keep]

    def _refine(self, image: Array, squares: Array) -> Array:
        """R-Net on the crops of P-Net's squares -> (N, 4) squares of whole pixels."""
        windows = to_windows(squares)
        heads = run_on_crops(self._rnet, image, windows, CROP_SIZES["rnet"])
        scores, offsets = heads["score"], heads["box"]
        keep = np.flatnonzero(scores > np.float32(self.thresholds[1]))
        keep = keep[nms(windows[keep], scores[keep], NMS_RNET)]
        return to_squares(squares[keep] + offsets[keep] * sides(windows[keep]))

    def _output(self, image: Array, squares: Array) -> Faces:
        """O-Net on the crops of R-Net's squares -> faces."""
        windows = to_windows(squares)
        heads = run_on_crops(self._onet, image, windows, CROP_SIZES["onet"])
        scores, offsets = heads["score"], heads["box"]
        keep = np.flatnonzero(scores > np.float32(self.thresholds[2]))
        windows, scores = windows[keep], scores[keep]
        boxes = squares[keep] + offsets[keep] * sides(windows)
        none = np.full((len(heads["score"]), 10), np.nan)
        fractions = heads.get("landmarks", none)[keep].astype(float).reshape(-1, 2, 5)
        fractions = fractions.transpose(0, 2, 1)
        landmarks = windows[:, None, :2] + fractions * sides(windows)[:, None, :2]
        # Of equal scores the last comes first.
        best = len(scores) - 1 - nms(to_windows(boxes)[::-1], scores[::-1], NMS_ONET, smaller=True)
        return Faces(boxes[best], scores[best], landmarks[best])


def _no_cells() -> tuple[Array, Array, Array]:
    """An empty level, for images smaller than the smallest face."""
    return np.zeros((0, 4)), np.zeros((0, 4), np.float32), np.zeros(0, np.float32)


def run_on_crops(net: Net, image: Array, windows: Array, size: int) -> dict[str, Array]:
    """Heads of a net on the (N, 4) windows of an image; black outside of the image."""
    crops = np.zeros((len(windows), size, size, 3), np.float32)
    for crop, (x1, y1, x2, y2) in zip(crops, windows.astype(int).tolist(), strict=True):
        patch = np.zeros((y2 - y1, x2 - x1, 3), np.float32)
        inside = image[max(y1, 0) : max(y2, 0), max(x1, 0) : max(x2, 0)]
        top, left = max(-y1, 0), max(-x1, 0)
        patch[top : top + inside.shape[0], left : left + inside.shape[1]] = inside
        crop[...] = resize(patch, size, size)
    starts = range(0, len(crops) or 1, MAX_BATCH)
    batches = [net(crops[i : i + MAX_BATCH]) for i in starts] if len(crops) else [_no_heads()]
    return {name: np.concatenate([heads[name] for heads in batches]) for name in batches[0]}


def _no_heads() -> dict[str, Array]:
    shapes = {"score": (0,), "box": (0, 4), "landmarks": (0, 10)}
    return {name: np.zeros(shape, np.float32) for name, shape in shapes.items()}


def resize(image: Array, width: int, height: int) -> Array:
    """An image in another size, by area averaging."""
    size = (width, height)
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA))


def to_windows(boxes: Array) -> Array:
    """Boxes, whose first corner counts from 1, -> half-open windows [x1, x2) x [y1, y2) from 0."""
    windows: Array = boxes - np.array([1.0, 1, 0, 0])
    return windows


def sides(windows: Array) -> Array:
    """(N, 4): width, height, width, height."""
    return np.tile(windows[:, 2:] - windows[:, :2], 2)


def to_squares(boxes: Array) -> Array:
    """Squares of whole pixels about the centres of boxes, as long as the longer side."""
    lengths = boxes[:, 2:] - boxes[:, :2]
    longest = np.maximum(lengths[:, :1], lengths[:, 1:])
    first = boxes[:, :2] + lengths / 2 - longest / 2
    squares: Array = np.trunc(np.concatenate([first, first + longest], axis=1))
    empty = (squares[:, 2:] - squares[:, :2] < 1).any(axis=1)
    return squares[~empty]


def nms(windows: Array, scores: Array, threshold: float, smaller: bool = False) -> Array:
    """Greedy non-maximum suppression: indices of the windows to keep, best first.

    The overlap is the intersection over the union, or over the smaller area (`smaller`).
    """
    order, kept = np.argsort(-scores, kind="stable"), []
    areas = np.prod(np.maximum(windows[:, 2:] - windows[:, :2], 0), axis=1)
    while len(order):
        best, order = order[0], order[1:]
        kept.append(best)
        first = np.maximum(windows[best, :2], windows[order, :2])
        last = np.minimum(windows[best, 2:], windows[order, 2:])
        shared = np.prod(np.maximum(last - first, 0), axis=1)
        union = areas[best] + areas[order] - shared
        whole = np.minimum(areas[best], areas[order]) if smaller else union
        order = order[shared <= threshold * np.maximum(whole, 1e-9)]
    return np.array(kept, int)


def load(folder: Path, name: str) -> Net:
    """A function that runs one exported net."""
    loaders = {f"{name}.onnx": load_onnx, f"{name}.tflite": load_tflite, name: load_savedmodel}
    for file, loader in loaders.items():
        if (folder / file).exists():
            return loader(folder / file)
    raise FileNotFoundError(f"{folder} holds none of {', '.join(loaders)}.")


def load_onnx(path: Path) -> Net:
    """A net of an ONNX file."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return lambda pixels: dict(zip(names, session.run(names, {"pixels": pixels}), strict=True))


def load_tflite(path: Path) -> Net:
    """A net of a LiteRT file; an int8 net takes whole numbers."""
    from ai_edge_litert.interpreter import Interpreter

    runner = Interpreter(str(path)).get_signature_runner()
    dtype = runner.get_input_details()["pixels"]["dtype"]
    whole = np.issubdtype(dtype, np.integer)

    def run(pixels: Array) -> dict[str, Array]:
        heads: dict[str, Array] = runner(
            pixels=(np.rint(pixels) if whole else pixels).astype(dtype)
        )
        return heads

    return run


def load_savedmodel(path: Path) -> Net:
    """A net of a SavedModel folder."""
    import tensorflow as tf

    model = tf.saved_model.load(str(path))  # holds what its signatures use
    run = model.signatures["serving_default"]
    return lambda pixels: {k: v.numpy() for k, v in run(pixels=tf.constant(pixels)).items()}


def main() -> None:
    """Print the faces of the image files of the command line, one JSON line each."""
    detector = MTCNN()
    for file in sys.argv[1:]:
        image = cv2.imread(file)
        if image is None:
            sys.exit(f"error: {file} cannot be read as an image.")
        faces = detector.detect_faces(np.ascontiguousarray(image[:, :, ::-1]))
        print(json.dumps({"image": file, "faces": faces}))


if __name__ == "__main__":
    main()
