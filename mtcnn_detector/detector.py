"""`MTCNN`, the public detector: arguments and results as in ipazc's `mtcnn` package."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import exported
from .arguments import as_rgb, check_batch, check_path, check_precision, check_settings
from .backend import CompiledNet, Precision
from .cascade import Cascade, Faces
from .errors import UserError
from .net import NETS, NetName
from .threads import in_threads
from .weights import weight_files
from .weights.net_weights import TrainedNet

Number = float | np.floating | np.integer
LANDMARKS = ("left_eye", "right_eye", "nose", "mouth_left", "mouth_right")


class MTCNN:
    """Detects faces and five landmarks in each, if the weights have a head for them.

    One detector may be used from several threads at once. It can be pickled, so it can be sent to
    processes that are started by "spawn" (processes started by "fork" must make their own).

    Args:
        weights_file: a weights file with all three nets, for example `mtcnn_weights.npy`; a
            run's folder; or a folder of nets exported to ONNX, LiteRT or SavedModel.
        min_face_size: longer side of the smallest face to look for, pixels, at least 1.
        steps_threshold: probability, 0 to 1 (excluded), that P-Net, R-Net and O-Net must give a
            face.
        scale_factor: ratio of two successive levels of the image pyramid, between 0 and 1.
        precision: "exact" computes in float32. "fast" computes in bfloat16: quicker, with scores
            that differ by 0.002 on average; only where the processor has it.

    Raises:
        UserError: the file is missing, damaged, hostile, of an unknown layout or lacks a net, or
            the processor cannot compute in bfloat16.
        TypeError, ValueError: another argument is of the wrong type or out of its range.
    """

    def __init__(
        self,
        weights_file: str | Path,
        min_face_size: Number = 20,
        steps_threshold: Sequence[Number] | NDArray[Any] = (0.6, 0.7, 0.7),
        scale_factor: Number = 0.709,
        precision: Precision = "exact",
    ) -> None:
        path = check_path(weights_file)
        settings = check_settings(min_face_size, steps_threshold, scale_factor)
        precision = check_precision(precision)
        if exported.is_export(path):
            nets = exported.load(path, precision)
            described = {name: TrainedNet(net.net, {}) for name, net in nets.items()}
        else:
            nets, described = {}, weight_files.read(path)
        missing = [name for name in NETS if name not in described]
        if missing:
            raise UserError(f"{weights_file} holds no {' and no '.join(missing)}.")

        def compiled(name: NetName, trained: TrainedNet) -> CompiledNet:
            return nets[name] if nets else CompiledNet(name, trained, precision)

        self.cascade = Cascade(described, settings, compiled)

    def detect_faces(self, image: NDArray[Any]) -> list[dict[str, Any]]:
        """Detect the faces of one image.

        Args:
            image: RGB (H, W, 3), RGBA (H, W, 4; alpha is ignored) or grey (H, W) or (H, W, 1);
                uint8, or uint16 of which the upper byte is used.

        Returns:
            A dictionary for each face, best first: `box` [x, y, width, height] in pixels,
            `confidence` 0 to 1, and `keypoints`, (x, y) in pixels by the names in `LANDMARKS`,
            left being the image's; empty where the weights have no landmark head.
            An empty list for an image without faces or smaller than 12 pixels.

        Raises:
            ValueError: the argument is no image of one of these kinds.
        """
        return as_dictionaries(self.cascade.detect(as_rgb(image)))

    def detect_faces_batch(self, images: Iterable[NDArray[Any]]) -> list[list[dict[str, Any]]]:
        """`detect_faces` of several images of any sizes, one on each core at a time.

        Args:
            images: a list or iterator of images, or an array (N, H, W, C).

        Raises:
            TypeError, ValueError: it is a single image, or one of them is no image.
        """
        return in_threads(self.detect_faces, check_batch(images))


def as_dictionaries(faces: Faces) -> list[dict[str, Any]]:
    """Faces as the mtcnn package returns them: whole pixels, truncated towards zero."""
    dictionaries = []
    for box, score, landmarks in zip(*faces, strict=True):
        x, y = max(0, int(box[0])), max(0, int(box[1]))
        known = np.isfinite(landmarks).all()  # nets trained without landmarks give none
        points = [(int(px), int(py)) for px, py in landmarks] if known else []
        dictionaries.append(
            {
                "box": [x, y, int(box[2] - x), int(box[3] - y)],
                "confidence": float(score),
                "keypoints": dict(zip(LANDMARKS, points, strict=False)),
            }
        )
    return dictionaries
