"""`python -m benchmarks.memory`: does the detector's memory stay flat over 2,000 images?

Images of all sizes, again and again; what the process holds is noted along the way. The first
half settles: it meets the largest image. What is gained after it is a leak.
"""

import itertools
import os
from pathlib import Path

from tqdm import tqdm

from benchmarks import image_files
from mtcnn_detector.errors import UserError
from pipeline import tf_setup
from pipeline.cli import run_cli


def main() -> None:
    """Detect and watch."""
    parser = image_files.parser("memory", __doc__, "in all", 2000)
    parser.add_argument(
        "--weights", type=Path, default=image_files.SHIPPED_WEIGHTS, help="(%(default)s)"
    )
    parser.add_argument("--every", type=int, default=200, help="images (%(default)s)")
    arguments = parser.parse_args()
    if arguments.count < 2 * arguments.every:
        raise UserError("--count must be at least twice --every: the second half is judged.")
    files = image_files.images_in(arguments.folder)
    tf_setup.import_tensorflow()
    from mtcnn_detector.detector import MTCNN
    from mtcnn_detector.pixels import read_image

    detector = MTCNN(arguments.weights)
    held: list[float] = []
    given = itertools.islice(itertools.cycle(files), arguments.count)
    for number, path in enumerate(tqdm(given, total=arguments.count, unit="img"), 1):
        image = read_image(path)
        if image is not None:
            detector.detect_faces(image)
        if number % arguments.every == 0:
            held.append(resident())
            tqdm.write(f"{number:6d} images: {held[-1]:7.1f} MB")
    settled = held[len(held) // 2 :]
    print(f"over the second half: {settled[-1] - settled[0]:+.1f} MB")


def resident() -> float:
    """MB of memory that this process holds."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


if __name__ == "__main__":
    run_cli(main)
