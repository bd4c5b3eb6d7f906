"""The whole cascade as one SavedModel of TensorFlow operations, P-Net, R-Net and O-Net inside.

Image and settings in; boxes, scores and landmarks out. It runs wherever TensorFlow does: Python,
C++, Java, Go, TensorFlow Serving. Steps and numbers are those of `mtcnn_detector.cascade`; pixels
are resized by area averages computed from an integral image, as `cv2.INTER_AREA` does.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from export.deployment import LANDMARK_ORDER, cell_grid, landmarks_text
from export.tensorflow_boxes import (
    nms,
    nms_over_smaller,
    sides,
    to_squares,
    to_windows,
    truncate,
)
from export.tensorflow_formats import DeployedNet
from export.tensorflow_resize import Resizer, pad_replicating
from mtcnn_detector import cascade
from mtcnn_detector.files import write_atomically
from mtcnn_detector.net import NETS, NetName
from mtcnn_detector.pixels import Image
from mtcnn_detector.settings import DetectorSettings
from mtcnn_detector.weights.weight_files import TrainedNet
from pipeline import tf_setup

SETTINGS = DetectorSettings()
TIE = 1e-6  # means between two grey levels: OpenCV mostly takes the upper one
Proposals = tuple[tf.Tensor, tf.Tensor, tf.Tensor]  # boxes (N, 4), offsets (N, 4), scores (N,)
NamedTensors = dict[str, tf.Tensor]


def write_cascade(path: Path, nets: Mapping[NetName, TrainedNet]) -> None:
    """Write the SavedModel: signature `serving_default` takes the settings, `detect` has ours."""
    module = CascadeModule(nets)
    signatures = {"serving_default": module.with_settings, "detect": module.detect}
    with tf_setup.silence():  # the converter logs its inner steps
        tf.saved_model.save(module, str(path), signatures=signatures)
    readme = Path(__file__).with_name("tensorflow_cascade_readme.md").read_text(encoding="utf-8")
    last = nets[NETS[-1]].net
    row = f"| `landmarks` | float32 [N, 5, 2] | x, y in pixels: {LANDMARK_ORDER} |"
    landmarks = row if last.landmarks else f"\n{landmarks_text(last)}"
    text = readme.format(settings=SETTINGS, landmarks=landmarks)
    write_atomically(path / "README.md", text.encode())


def load_cascade(path: Path) -> Callable[[Image, DetectorSettings], cascade.Faces]:
    """A function that runs such a SavedModel on an RGB image (H, W, 3) uint8."""
    model = tf.saved_model.load(str(path))
    run = model.signatures["serving_default"]

    def detect(image: Image, settings: DetectorSettings) -> cascade.Faces:
        outputs = run(
            image=tf.constant(image),
            min_face_size=tf.constant(settings.min_face_size, tf.float64),
            scale_factor=tf.constant(settings.scale_factor, tf.float64),
            thresholds=tf.constant(settings.thresholds, tf.float32),
        )
        boxes, scores = outputs["boxes"].numpy(), outputs["scores"].numpy()
        none = np.full((len(scores), 5, 2), np.nan)
        return cascade.Faces(boxes, scores, np.asarray(outputs.get("landmarks", none)))

    return detect


class CascadeModule(tf.Module):
    """The cascade of three nets as TensorFlow functions."""

    def __init__(self, nets: Mapping[NetName, TrainedNet]) -> None:
        super().__init__("mtcnn")
        self._grid = cell_grid(nets[NETS[0]].net)
        self._sizes = [nets[name].net.size for name in NETS]
        self._nets = [DeployedNet(name, nets[name]) for name in NETS]
        image = tf.TensorSpec([None, None, 3], tf.uint8, name="image")
        settings = [
            tf.TensorSpec([], tf.float64, name="min_face_size"),
            tf.TensorSpec([], tf.float64, name="scale_factor"),
            tf.TensorSpec([len(NETS)], tf.float32, name="thresholds"),
        ]
        self.with_settings = tf.function(
            self._detect, input_signature=[image, *settings], autograph=False
        )
        self.detect = tf.function(self._detect_by_default, input_signature=[image], autograph=False)

    def _detect_by_default(self, image: tf.Tensor) -> NamedTensors:
        min_face = tf.constant(SETTINGS.min_face_size, tf.float64)
        factor = tf.constant(SETTINGS.scale_factor, tf.float64)
        return self._detect(image, min_face, factor, tf.constant(SETTINGS.thresholds, tf.float32))

    def _detect(
        self,
        image: tf.Tensor,
        min_face_size: tf.Tensor,
        scale_factor: tf.Tensor,
        thresholds: tf.Tensor,
    ) -> NamedTensors:
        """RGB image (H, W, 3) uint8 -> boxes (N, 4), scores (N,), landmarks (N, 5, 2), if any."""
        pixels = tf.cast(image, tf.float64)
        resizer = Resizer(pixels)
        squares = self._propose(resizer, min_face_size, scale_factor, thresholds[0])
        squares = self._refine(resizer, squares, thresholds[1])
        return self._output(resizer, squares, thresholds[2])

    def _propose(
        self, resizer: Resizer, min_face: tf.Tensor, factor: tf.Tensor, threshold: tf.Tensor
    ) -> tf.Tensor:
        """P-Net over the image pyramid -> (N, 4) squares of whole pixels."""
        size = tf.constant(self._grid["size"], tf.float64)
        first = size / min_face
        shorter = tf.reduce_min(tf.cast(resizer.sides, tf.float64)) * first
        arrays = [
            tf.TensorArray(dtype, 0, dynamic_size=True, infer_shape=False, element_shape=shape)
            for dtype, shape in (
                *((tf.float64, [None, 4]), (tf.float64, [None, 4]), (tf.float32, [None])),
            )
        ]

        def step(level: tf.Tensor, side: tf.Tensor, *arrays: Any) -> tuple[Any, ...]:
            scale = first * factor ** tf.cast(level, tf.float64)
            found = self._propose_level(resizer, scale, threshold)
            written = (a.write(level, x) for a, x in zip(arrays, found, strict=True))
            return (level + 1, side * factor, *written)

        loop = tf.while_loop(
            lambda level, side, *_: side >= size, step, [tf.constant(0), shorter, *arrays]
        )
        corners, offsets, scores = (array.concat() for array in loop[2:])
        keep = nms(to_windows(corners), scores, cascade.NMS_OVER_LEVELS)
        corners, offsets = tf.gather(corners, keep), tf.gather(offsets, keep)
        return to_squares(corners + offsets * sides(corners))

    def _propose_level(self, resizer: Resizer, scale: tf.Tensor, threshold: tf.Tensor) -> Proposals:
        """P-Net on one level -> boxes, offsets and scores after NMS."""
        level_sides = tf.cast(tf.math.ceil(tf.cast(resizer.sides, tf.float64) * scale), tf.int32)
        level = tf.floor(resizer.level(level_sides) + 0.5 + TIE)
        stride, (before, after) = self._grid["stride"], self._grid["margin"]
        padded = pad_replicating(level, before * stride, after * stride)
        heads = self._nets[0].heads(tf.cast(padded[None], tf.float32))
        score, box = heads["score"][0], heads["box"][0]
        rows, columns = tf.shape(score)[0] - after, tf.shape(score)[1] - after
        score, box = score[before:rows, before:columns], box[before:rows, before:columns]
        cells = tf.where(score >= threshold)  # row, column
        offsets = tf.gather(tf.constant(self._grid["offsets"], tf.int32), level_sides % stride)
        first = tf.cast(cells, tf.float64) * stride + tf.cast(offsets, tf.float64)
        first, size = first[:, ::-1], self._grid["size"]
        corners = truncate(tf.concat([first + size / 12, first + size], axis=1) / scale)
        scores, moves = tf.gather_nd(score, cells), tf.gather_nd(box, cells)
        keep = nms(to_windows(corners), scores, cascade.NMS_IN_LEVEL)
        moves = tf.cast(tf.gather(moves, keep), tf.float64)
        return tf.gather(corners, keep), moves, tf.gather(scores, keep)

    def _refine(self, resizer: Resizer, squares: tf.Tensor, threshold: tf.Tensor) -> tf.Tensor:
        """R-Net on the crops of P-Net's squares -> (N, 4) squares of whole pixels."""
        heads = self._run_on_crops(1, resizer, squares)
        keep = tf.where(heads["score"] > threshold)[:, 0]
        squares, scores = tf.gather(squares, keep), tf.gather(heads["score"], keep)
        offsets = tf.cast(tf.gather(heads["box"], keep), tf.float64)
        best = nms(to_windows(squares), scores, cascade.NMS_CROPS)
        squares, offsets = tf.gather(squares, best), tf.gather(offsets, best)
        return to_squares(squares + offsets * sides(to_windows(squares)))

    def _output(self, resizer: Resizer, squares: tf.Tensor, threshold: tf.Tensor) -> NamedTensors:
        """O-Net on the crops of R-Net's squares -> the faces, best first."""
        heads = self._run_on_crops(2, resizer, squares)
        keep = tf.where(heads["score"] > threshold)[:, 0]
        squares, scores = tf.gather(squares, keep), tf.gather(heads["score"], keep)
        unit = sides(to_windows(squares))
        boxes = squares + tf.cast(tf.gather(heads["box"], keep), tf.float64) * unit
        arrays = {"boxes": boxes, "scores": scores}
        if "landmarks" in heads:
            fractions = tf.cast(tf.gather(heads["landmarks"], keep), tf.float64)
            fractions = tf.transpose(tf.reshape(fractions, [-1, 2, 5]), [0, 2, 1])
            arrays["landmarks"] = to_windows(squares)[:, None, :2] + fractions * unit[:, None, :2]
        best = nms_over_smaller(to_windows(boxes), scores, cascade.NMS_LAST)
        return {key: tf.cast(tf.gather(x, best), tf.float32) for key, x in arrays.items()}

    def _run_on_crops(self, place: int, resizer: Resizer, squares: tf.Tensor) -> NamedTensors:
        size = self._sizes[place]
        crops = resizer.crops(tf.cast(to_windows(squares), tf.int32), size)
        # One more, since TensorFlow's convolutions on the CPU fail on an empty batch.
        crops = tf.pad(tf.cast(crops, tf.float32), [[0, 1], [0, 0], [0, 0], [0, 0]])
        return {head: values[:-1] for head, values in self._nets[place].heads(crops).items()}
