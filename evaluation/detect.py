"""`python -m evaluation detect`: faces in images, as JSON lines and as annotated copies."""

import argparse
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path

from tqdm import tqdm

from mtcnn_detector import pixels, single_net
from mtcnn_detector.detector import MTCNN, as_dictionaries
from mtcnn_detector.drawing import draw_faces
from mtcnn_detector.errors import UserError
from mtcnn_detector.net import NETS, NetName
from mtcnn_detector.pixels import SUFFIXES, Image


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of the command."""
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
    parser.add_argument(
        "--out",
        type=Path,
        metavar="FOLDER",
        help="write annotated pictures there, over none",
    )
    parser.add_argument(
        "--net",
        choices=NETS,
        help="run this net alone on the pictures, as crops; --weights is any "
        "file that holds it, a run's weights.npz too",
    )


def detect(arguments: argparse.Namespace) -> None:
    """Detect faces in the images that were named, or run one net alone on them."""
    files = list(dict.fromkeys(_files(arguments.pictures)))
    if not files:
        raise UserError(f"no picture ({', '.join(sorted(SUFFIXES))}) in what was named.")
    if arguments.net:
        _judge(files, arguments.net, arguments.weights)
    else:
        _detect(files, arguments)


def _judge(files: list[Path], name: NetName, weights: Path) -> None:
    engine = single_net.load(name, weights)
    for path, image in _read(files):
        height, width = image.shape[:2]
        print(f"{name} on {path}, {width} x {height} seen as {engine.net.size} x {engine.net.size}")
        print(single_net.predict_crop(engine, image))


def _detect(files: list[Path], arguments: argparse.Namespace) -> None:
    targets = _targets(files, arguments.out) if arguments.out else {}
    detector = MTCNN(
        arguments.weights, arguments.min_face_size, arguments.thresholds, arguments.scale_factor
    )
    total = pictures = 0
    for path, image in _read(files):
        faces = detector.cascade.detect(image)
        total, pictures = total + len(faces.scores), pictures + 1
        print(json.dumps({"picture": str(path), "faces": as_dictionaries(faces)}), flush=True)
        if targets:
            pixels.write_image(targets[path], draw_faces(image, faces))
    where = f"; annotated in {arguments.out}" if targets else ""
    tqdm.write(f"{total} faces on {pictures} pictures{where}", file=sys.stderr)


def _read(files: list[Path]) -> Iterator[tuple[Path, Image]]:
    """The pictures that decode, under a progress bar; the others are named."""
    unreadable = 0
    for path in tqdm(files, unit="img", disable=len(files) < 2):
        image = pixels.read_image(path, upright=True)
        if image is not None:
            yield path, image
            continue
        unreadable += 1
        tqdm.write(f"warning: {path} does not decode; left out.", file=sys.stderr)
    if unreadable == len(files):
        raise UserError("none of the pictures could be read.")


def _targets(files: list[Path], out: Path) -> dict[Path, Path]:
    """Where annotated pictures go: as the pictures lie below the folder that all share."""
    places = {path: path.parent.resolve() / path.name for path in files}  # without any `..`
    shared = os.path.commonpath([place.parent for place in places.values()])
    targets = {path: out / place.relative_to(shared) for path, place in places.items()}
    for path, target in targets.items():
        if target.exists():
            raise UserError(f"{target} is there already: remove it, or name another --out (OUT=).")
        if target.suffix.lower() not in SUFFIXES:
            raise UserError(f"{path} does not end like a picture, so its copy cannot be written.")
    return targets


def _files(given: list[Path]) -> Iterator[Path]:
    for path in given:
        if path.is_dir():
            yield from sorted(p for p in path.rglob("*") if p.suffix.lower() in SUFFIXES)
        elif path.exists():
            yield path
        else:
            raise UserError(f"{path} is not there.")
