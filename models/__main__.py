"""`python -m models`: faces in pictures, as JSON lines and as annotated pictures."""

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path

from tqdm import tqdm

from configs import quiet
from configs.errors import UserError, run_cli
from models.pixels import SUFFIXES


def main() -> None:
    """Parse the command line and detect."""
    parser = argparse.ArgumentParser(prog="python -m models", description=__doc__)
    parser.add_argument("pictures", nargs="+", type=Path, help="picture files or folders")
    parser.add_argument(
        "--weights", type=Path, required=True, help="a file with all three nets, or a run"
    )
    parser.add_argument("--min-face-size", type=int, default=20, help="pixels (%(default)s)")
    parser.add_argument(
        "--thresholds",
        type=float,
        nargs=3,
        default=(0.6, 0.7, 0.7),
        metavar=("P", "R", "O"),
        help="probability that each net must give a face (%(default)s)",
    )
    parser.add_argument("--scale-factor", type=float, default=0.709, help="(%(default)s)")
    parser.add_argument("--out", type=Path, metavar="FOLDER", help="write annotated pictures there")
    arguments = parser.parse_args()
    files = list(_files(arguments.pictures))
    quiet.import_tensorflow()
    _detect(files, arguments)


def _detect(files: list[Path], arguments: argparse.Namespace) -> None:
    from models import pixels
    from models.detector import MTCNN, as_dictionaries
    from models.drawing import draw_faces

    detector = MTCNN(
        arguments.weights, arguments.min_face_size, arguments.thresholds, arguments.scale_factor
    )
    unreadable, total = 0, 0
    for path in tqdm(files, unit="img", disable=len(files) < 2):
        image = pixels.read_image(path)
        if image is None:
            unreadable += 1
            tqdm.write(f"warning: {path} does not decode; left out.", file=sys.stderr)
            continue
        faces = detector.cascade.detect(image)
        total += len(faces.scores)
        print(json.dumps({"picture": str(path), "faces": as_dictionaries(faces)}), flush=True)
        if arguments.out:
            pixels.write_image(arguments.out / f"{path.stem}.jpg", draw_faces(image, faces))
    if unreadable == len(files):
        raise UserError("none of the pictures could be read.")
    tqdm.write(f"{total} faces on {len(files) - unreadable} pictures", file=sys.stderr)


def _files(given: list[Path]) -> Iterator[Path]:
    for path in given:
        if path.is_dir():
            yield from sorted(p for p in path.rglob("*") if p.suffix.lower() in SUFFIXES)
        elif path.exists():
            yield path
        else:
            raise UserError(f"{path} is not there.")


if __name__ == "__main__":
    run_cli(main)
