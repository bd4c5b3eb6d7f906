"""Where the detector's time goes, on one thread: run by `benchmarks.detect`.

`python -m benchmarks.stages WEIGHTS` reads a JSON list of image files. The parts are timed from
outside, by wrapping the functions that do them; what is left over is Python between them.
"""

import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

for library in ("OPENBLAS", "OMP", "MKL"):
    os.environ[f"{library}_NUM_THREADS"] = "1"  # read when numpy is imported

import numpy as np  # noqa: E402

from pipeline import tf_setup  # noqa: E402

PRODUCT = 1024  # side of the matrix product that sets the limit


class Clock:
    """Seconds by part."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    def timed(self, part: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function, its time added to the part."""
        self.seconds.setdefault(part, 0.0)

        def wrapped(*given: Any, **options: Any) -> Any:
            start = time.perf_counter()
            try:
                return function(*given, **options)
            finally:
                self.seconds[part] += time.perf_counter() - start

        return wrapped


def main() -> None:
    """Time and print."""
    tf_setup.import_tensorflow()
    from mtcnn_detector import backend, pixels, threads
    from mtcnn_detector.cascade import Cascade
    from mtcnn_detector.net import NETS
    from mtcnn_detector.settings import DetectorSettings
    from mtcnn_detector.weights import weight_files

    threads.use_threads(1)
    pixels.use_threads(1)
    read = (pixels.read_image(Path(path)) for path in json.load(sys.stdin))
    images = [image for image in read if image is not None]
    cascade = Cascade(weight_files.read(Path(sys.argv[1])), DetectorSettings())
    limit = product_rate()
    for image in images[:3]:
        cascade.detect(image)
    work = sum(multiplications(cascade, image) for image in images)
    clock = Clock()
    wrap(clock, backend.CompiledNet)
    start = time.perf_counter()
    for image in images:
        cascade.detect(image)
    whole = time.perf_counter() - start
    print(report(clock.seconds, whole, len(images), work / clock.seconds[NETS[0]], limit))


def wrap(clock: Clock, engine: Any) -> None:
    """Time the parts of every detector from now on."""
    from mtcnn_detector import boxes, pixels

    call, level = engine.__call__, clock.timed("pyramid", pixels.ImagePyramid.level)
    pixels.ImagePyramid.level = lambda *given: clock.timed("pyramid", level(*given))  # type: ignore
    boxes.nms = clock.timed("NMS", boxes.nms)
    pixels.ImagePyramid.cut = clock.timed("crops", pixels.ImagePyramid.cut)  # type: ignore
    engine.__call__ = lambda net, crops: clock.timed(net.name, call)(net, crops)


def multiplications(cascade: Any, image: Any) -> float:
    """What P-Net needs for the levels of a image, none of them twice."""
    from mtcnn_detector.pixels import ImagePyramid

    total = 0
    for level in cascade._levels(ImagePyramid(image)):
        total += of_net(cascade._first_net, level.height, level.width)
    return total


def of_net(net: Any, height: int, width: int) -> int:
    """Multiply-adds of a convolutional net on so many pixels."""
    total, channels = 0, 3
    for layer in net.layers:
        size = layer.pool or layer.kernel
        pad = 0 if layer.padding == "same" else size - 1
        height, width = (-(-(side - pad) // layer.stride) for side in (height, width))
        if layer.conv:
            total += height * width * size * size * channels * layer.conv
            channels = layer.conv
    return total + height * width * channels * 6  # two logits, four offsets


def product_rate() -> float:
    """Multiply-adds a second of a large float32 matrix product on one thread."""
    left = np.random.default_rng(0).random((PRODUCT, PRODUCT), np.float32)
    out = left @ left
    seconds = []
    for _ in range(10):
        start = time.perf_counter()
        np.matmul(left, left, out=out)
        seconds.append(time.perf_counter() - start)
    return float(PRODUCT**3 / np.median(seconds))


def report(
    seconds: dict[str, float], whole: float, images: int, reached: float, limit: float
) -> str:
    """A table of the parts."""
    parts = seconds | {"the rest": whole - sum(seconds.values())}
    lines = [
        f"\nours on one thread: {images / whole:.2f} images/s, of which",
        "",
        "| part | ms a image | share |",
        "| --- | --- | --- |",
    ]
    for part, spent in parts.items():
        lines.append(f"| {part} | {1000 * spent / images:.1f} | {100 * spent / whole:.0f} % |")
    return "\n".join(
        [
            *lines,
            "",
            f"P-Net: {reached / 1e9:.1f} thousand million multiply-adds a second; a matrix product "
            f"of side {PRODUCT}: {limit / 1e9:.1f}, so {100 * reached / limit:.0f} % of the limit",
        ]
    )


if __name__ == "__main__":
    main()
