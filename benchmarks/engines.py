"""`python -m benchmarks.engines WEIGHTS PICTURE`: P-Net over a image's levels, engine by engine.

On one thread, whole levels, after each engine has seen every level once; in turns, so that a
noisy moment hits all alike. The first is the one that the detector has here; what another says is
compared with it before that is timed.
"""

import argparse
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

for threads in ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS", "OMP_NUM_THREADS"):
    os.environ[threads] = "1"  # read when TensorFlow is imported

import numpy as np  # noqa: E402

from mtcnn_detector.errors import UserError  # noqa: E402
from pipeline import tf_setup  # noqa: E402
from pipeline.cli import run_cli  # noqa: E402

ROUNDS = 15
Infer = Callable[[np.ndarray], np.ndarray]  # (1, H, W, 3) float32, 0 to 255 -> (1, h, w, 4) offsets


def main() -> None:
    """Build the engines, compare them, time them."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.engines", description=__doc__)
    parser.add_argument("weights", type=Path)
    parser.add_argument("image", type=Path)
    arguments = parser.parse_args()
    tf_setup.import_tensorflow()
    from mtcnn_detector import pixels
    from mtcnn_detector.net import NETS
    from mtcnn_detector.weights import weight_files

    pixels.use_threads(1)
    image = pixels.read_image(arguments.image)
    if image is None:
        raise UserError(f"{arguments.image} is no image that can be read: give another.")
    trained = weight_files.read(arguments.weights)[NETS[0]]
    levels = levels_of(image, trained.net.size)
    print(f"{len(levels)} levels of a image of {image.shape[1]} x {image.shape[0]}")
    print(table(timed(engines(NETS[0], trained), levels)))


def levels_of(image: Any, size: int) -> list[np.ndarray]:
    """The pyramid that the detector's usual settings ask for."""
    from mtcnn_detector import pixels
    from mtcnn_detector.settings import DetectorSettings

    height, width = image.shape[:2]
    smallest, factor = DetectorSettings().min_face_size, DetectorSettings().scale_factor
    scales = pixels.pyramid_scales(height, width, smallest, factor, size)
    sizes = [pixels.level_size(height, width, scale) for scale in scales]
    return [pixels.resize(image, w, h)[None].astype(np.float32) for h, w in sizes]


def engines(name: Any, trained: Any) -> dict[str, Infer]:
    """The detector's first, then what else could run the net."""
    import cv2
    import tensorflow as tf

    from export.onnx_format import onnx_model
    from models import keras_nets
    from mtcnn_detector.backend import CompiledNet, inference_net
    from mtcnn_detector.pixels import normalise

    model = keras_nets.build(inference_net(name, trained.net))
    keras_nets.set_weights(model, trained.weights, "the net to time")
    ours = CompiledNet(name, trained)

    def heads(pixels: Any) -> Any:
        return model(normalise(pixels), training=False)

    traced = tf.function(heads, input_signature=[tf.TensorSpec([1, None, None, 3])])
    compiled = tf.function(heads, jit_compile=True)  # XLA compiles for each size
    graph = cv2.dnn.readNetFromONNX(np.frombuffer(onnx_model(name, trained), np.uint8))

    def by_opencv(level: np.ndarray) -> np.ndarray:
        graph.setInput(level)
        return np.asarray(graph.forward("box"))

    return {
        "ours": lambda level: ours(level).box,
        "TensorFlow, traced": lambda level: traced(tf.constant(level))["box"].numpy(),
        "TensorFlow, XLA": lambda level: compiled(tf.constant(level))["box"].numpy(),
        "OpenCV dnn": by_opencv,
    }


def timed(runs: dict[str, Infer], levels: list[np.ndarray]) -> dict[str, list[float]]:
    """Seconds for all levels, round by round; an engine that says something else is refused."""
    first = next(iter(runs.values()))
    expected = [first(level) for level in levels]
    for name, run in runs.items():
        for level, wanted in zip(levels, expected, strict=True):
            np.testing.assert_allclose(run(level), wanted, rtol=0, atol=1e-3, err_msg=name)
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(ROUNDS):
        for name, run in runs.items():
            start = time.perf_counter()
            for level in levels:
                run(level)
            seconds[name].append(time.perf_counter() - start)
    return seconds


def table(seconds: dict[str, list[float]]) -> str:
    """The medians, and the median of the ratios to the first."""
    first = next(iter(seconds))
    lines = [f"| engine | ms a image | times {first} |", "| --- | --- | --- |"]
    for name, spent in seconds.items():
        ratio = statistics.median(np.divide(spent, seconds[first]))
        middle = 1000 * statistics.median(spent)
        lines.append(f"| {name} | {middle:.1f} | {ratio:.2f} |")
    return "\n".join(lines)


if __name__ == "__main__":
    run_cli(main)
