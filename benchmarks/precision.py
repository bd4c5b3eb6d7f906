"""`python -m benchmarks.precision`: what precision="fast" changes, and what it gains.

The detector runs over images in float32 and in bfloat16, image by image in turn. Faces above 0.75
of one are looked for among all faces of the other.
"""

from pathlib import Path
from time import perf_counter
from typing import NamedTuple

import numpy as np

from benchmarks import image_files
from mtcnn_detector.arguments import as_rgb
from mtcnn_detector.backend import PRECISIONS, Precision
from mtcnn_detector.boxes import iou
from mtcnn_detector.cascade import Faces
from mtcnn_detector.detector import MTCNN
from mtcnn_detector.pixels import Image, read_image
from pipeline.cli import run_cli

SURE, WARM_UP = 0.75, 3  # probability; images
OVERLAPS = (0.5, 0.8)


class Timings(NamedTuple):
    """Faces and seconds of one precision, image by image."""

    faces: list[Faces]
    seconds: list[float]


def main() -> None:
    """Run both in turn and print what is shared, and the times."""
    parser = image_files.parser("precision", __doc__, "spread over all", 426)
    parser.add_argument(
        "--weights", type=Path, default=image_files.SHIPPED_WEIGHTS, help="(%(default)s)"
    )
    arguments = parser.parse_args()
    detectors = {name: MTCNN(arguments.weights, precision=name) for name in PRECISIONS}
    runs: dict[Precision, Timings] = {name: Timings([], []) for name in detectors}
    files = image_files.spread(arguments.folder, arguments.count)
    images = (image for path in files if (image := read_image(path)) is not None)
    for number, image in enumerate(images):
        order = list(detectors)[:: 1 if number % 2 else -1]
        for name in order:
            if number < WARM_UP:
                detectors[name].detect_faces(image)
            _run(detectors[name], image, runs[name])
    print(report(runs["exact"], runs["fast"]))


def _run(detector: MTCNN, image: Image, run: Timings) -> None:
    start = perf_counter()
    run.faces.append(detector.cascade.detect(as_rgb(image)))
    run.seconds.append(perf_counter() - start)


def report(exact: Timings, fast: Timings) -> str:
    """The shares of faces found both ways, how far they differ, and the ratio of the times."""
    lines = [f"{len(exact.seconds)} images"]
    for title, one, other in (("exact", exact, fast), ("fast", fast, exact)):
        overlaps, differences = matches(one.faces, other.faces)
        shares = (f"{100 * np.mean(overlaps >= o):.2f} % at IoU {o}" for o in OVERLAPS)
        lines.append(
            f"of {len(overlaps)} faces above {SURE} in {title}, the other finds {', '.join(shares)}"
        )
        found = overlaps >= OVERLAPS[0]
        lines.append(
            f"    of those found: mean IoU {overlaps[found].mean():.4f}, mean difference of scores "
            f"{differences[found].mean():.4f}, largest {differences[found].max():.3f}"
        )
    ratios = np.divide(exact.seconds, fast.seconds)
    total = sum(exact.seconds) / sum(fast.seconds)
    lines.append(
        f"fast is {total:.2f} times as fast (median of all images {np.median(ratios):.2f})"
    )
    return "\n".join(lines)


def matches(faces: list[Faces], others: list[Faces]) -> tuple[np.ndarray, np.ndarray]:
    """(N,) IoU of each sure face with the other run's nearest face; (N,) difference of scores."""
    overlaps, differences = [], []
    for one, other in zip(faces, others, strict=True):
        sure = one.take(np.flatnonzero(one.scores > SURE))
        if not len(sure.scores):
            continue
        if not len(other.scores):
            overlaps.append(np.zeros(len(sure.scores)))
            differences.append(sure.scores)
            continue
        table = iou(sure.boxes, other.boxes)
        nearest = table.argmax(axis=1)
        overlaps.append(table.max(axis=1))
        differences.append(np.abs(sure.scores - other.scores[nearest]))
    return np.concatenate(overlaps), np.concatenate(differences)


if __name__ == "__main__":
    run_cli(main)
