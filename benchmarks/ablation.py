"""`python -m benchmarks.ablation`: how much each part of the detector's machinery gains.

All variants run in one process on the same images, image by image in turn, so that a noisy moment
hits all alike. The first table adds the parts one after another to a plain detector, the second
takes each out of the whole. Times are sums over the images of the best of some rounds.
"""

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from time import perf_counter
from typing import Any, NamedTuple
from unittest.mock import patch

import cv2
import numpy as np
from numpy.typing import NDArray

from benchmarks import image_files
from mtcnn_detector import cascade, pixels, threads
from mtcnn_detector.backend import CompiledNet, Outputs
from mtcnn_detector.cascade import Cascade
from mtcnn_detector.net import NetName
from mtcnn_detector.settings import DetectorSettings
from mtcnn_detector.tiling import Cells, Level, TiledCanvas
from mtcnn_detector.weights import weight_files
from mtcnn_detector.weights.net_weights import TrainedNet
from pipeline.cli import run_cli

WARM_UP = 3  # images


class Parts(NamedTuple):
    """Which parts a variant of the detector has."""

    threads: bool = True  # as many as there are cores
    tiles: bool = True  # P-Net on tiles of one shape instead of whole levels
    sums: bool = True  # smaller versions from running sums instead of cv2.resize
    ahead: bool = True  # one thread prepares inputs ahead of the others


CUMULATIVE = {
    "plain: one thread, whole levels, cv2.resize": Parts(False, False, False, False),
    "+ threads": Parts(True, False, False, False),
    "+ tiles of one shape": Parts(True, True, False, False),
    "+ running sums": Parts(True, True, True, False),
    "+ a thread that prepares ahead": Parts(),
}
WITHOUT = {
    "without threads": Parts(threads=False),
    "without tiles of one shape": Parts(tiles=False),
    "without running sums": Parts(sums=False),
}


class WholeLevels(TiledCanvas):
    """Every level as a tile of its own."""

    def __init__(self, levels: Sequence[Level]) -> None:
        self._levels = levels

    def tiles(self) -> Iterator[pixels.Image]:
        """(1, h, w, 3): the pixels that a level's cells see, the border replicated."""
        for level in self._levels:
            image = level.rows(0, level.height)
            edges = []
            for cells, side in ((level.down, level.height), (level.across, level.width)):
                edges += [-cells.offset, cells.offset + cells.seen - side]
            image = image[: image.shape[0] + min(edges[1], 0), : image.shape[1] + min(edges[3], 0)]
            border = [max(edge, 0) for edge in edges]
            yield np.asarray(cv2.copyMakeBorder(image, *border, cv2.BORDER_REPLICATE))[None]  # type: ignore[call-overload]

    def cells(self, tile: Any, place: Any) -> tuple[NDArray[np.bool_], Cells]:
        """All places are cells of a level."""
        widths = np.array([level.across.cells for level in self._levels])
        return np.ones(len(place), bool), Cells(tile, *np.divmod(place, widths[tile]))


class DynamicNet(CompiledNet):
    """A net compiled once for all shapes, with a request for each thread."""

    def __init__(self, name: NetName, trained: TrainedNet) -> None:
        super().__init__(name, trained)
        self._compiled_model = self._core.compile_model(self._model, "CPU", self._config)
        self._local = threading.local()

    def __call__(self, pixels: NDArray[Any]) -> Outputs:
        """As `CompiledNet`."""
        request = getattr(self._local, "request", None)
        if request is None:
            request = self._local.request = self._compiled_model.create_infer_request()
        request.infer([np.asarray(pixels, np.float32)])
        return self._outputs([request.get_output_tensor().data.copy()])


def main() -> None:
    """Time all variants in turn and print two tables."""
    parser = image_files.parser("ablation", __doc__, "spread over all", 60)
    parser.add_argument(
        "--weights", type=Path, default=image_files.SHIPPED_WEIGHTS, help="(%(default)s)"
    )
    parser.add_argument("--rounds", type=int, default=3, help="(%(default)s)")
    arguments = parser.parse_args()
    files = image_files.spread(arguments.folder, arguments.count)
    images = [image for path in files if (image := pixels.read_image(path)) is not None]
    nets = weight_files.read(arguments.weights)
    tiled, whole = (Cascade(nets, DetectorSettings(), make) for make in (CompiledNet, _dynamic))
    variants = {**CUMULATIVE, **WITHOUT}
    runs = {
        name: _runner(parts, tiled if parts.tiles else whole) for name, parts in variants.items()
    }
    seconds, faces = timed(runs, images, arguments.rounds)
    print(f"{len(images)} images of {arguments.folder}, {threads._threads.count} threads\n")
    print(table(seconds, faces))


def _dynamic(name: NetName, trained: TrainedNet) -> CompiledNet:
    return DynamicNet(name, trained) if trained.net.convolutional else CompiledNet(name, trained)


def _runner(parts: Parts, detector: Cascade) -> Callable[[pixels.Image], int]:
    """A function that switches the parts and returns the number of faces of an image."""
    cores, max_summed = threads._threads.count, pixels.MAX_SUMMED_PIXELS
    switched: dict[str, Any] = {
        "TiledCanvas": TiledCanvas if parts.tiles else WholeLevels,
        "in_threads": threads.in_threads if parts.ahead else shared_iterator,
    }

    def detect(image: pixels.Image) -> int:
        with (
            patch.object(threads._threads, "count", cores if parts.threads else 1),
            patch.object(pixels, "MAX_SUMMED_PIXELS", max_summed if parts.sums else 0),
            patch.multiple(cascade, **switched),
        ):
            return len(detector.detect(image).scores)

    return detect


def shared_iterator(function: Callable[[Any], Any], items: Iterable[Any]) -> list[Any]:
    """`function` of all items in threads that take the next item when they are free."""
    if threads._threads.count == 1:
        return [function(item) for item in items]
    numbered, lock, results = enumerate(items), threading.Lock(), {}

    def work() -> None:
        while True:
            with lock:
                number, item = next(numbered, (-1, None))
            if number < 0:
                return
            results[number] = function(item)

    pool = threads._threads.pool
    assert pool is not None
    helpers = [pool.submit(work) for _ in range(threads._threads.count - 1)]
    work()
    for helper in helpers:
        helper.result()
    return [results[number] for number in range(len(results))]


def timed(
    runs: dict[str, Callable[[pixels.Image], int]], images: Sequence[pixels.Image], rounds: int
) -> tuple[dict[str, float], dict[str, int]]:
    """Seconds of each variant for all images (the best round of each image), and its faces."""
    list(runs.values())[len(CUMULATIVE) - 1](images[0])  # starts the threads
    for run in runs.values():
        for image in images[:WARM_UP]:
            run(image)
    best = {name: np.full(len(images), np.inf) for name in runs}
    faces = dict.fromkeys(runs, 0)
    names = list(runs)
    for turn in range(rounds):
        for number, image in enumerate(images):
            first = (turn + number) % len(names)
            for name in names[first:] + names[:first]:
                start = perf_counter()
                found = runs[name](image)
                best[name][number] = min(best[name][number], perf_counter() - start)
                faces[name] += found if turn == 0 else 0
    return {name: float(times.sum()) for name, times in best.items()}, faces


def table(seconds: dict[str, float], faces: dict[str, int]) -> str:
    """Images a second, gain over the line before, time beside the whole detector."""
    whole = seconds[list(CUMULATIVE)[-1]]
    lines = [
        "| detector | ms for all | of the line before | of the whole | faces |",
        "| --- | --- | --- | --- | --- |",
    ]
    before = None
    for name, spent in seconds.items():
        ratio = f"{spent / before:.2f}" if before and name in CUMULATIVE else ""
        lines.append(
            f"| {name} | {1000 * spent:.0f} | {ratio} | {spent / whole:.2f} | {faces[name]} |"
        )
        before = spent
    return "\n".join(lines)


if __name__ == "__main__":
    run_cli(main)
