"""`python -m evaluation detect`: faces in images or a video, as JSON lines, drawn, cut out."""

import argparse
import itertools
import json
import os
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from tqdm import tqdm

from evaluation.cli_inputs import refuse_stale
from evaluation.detections import DetectFunction, cascade
from evaluation.face_crops import write_crops
from evaluation.video import detect_video
from mtcnn_detector import pixels, single_net
from mtcnn_detector.cascade import Faces
from mtcnn_detector.detector import as_dictionaries
from mtcnn_detector.drawing import draw_faces
from mtcnn_detector.errors import UserError
from mtcnn_detector.net import NETS, NetName
from mtcnn_detector.pixels import SUFFIXES, Image
from mtcnn_detector.settings import DetectorSettings
from pipeline import known_weights
from pipeline.cli import split_paths

MAX_ALIGNED = 4096  # pixels
NO_LANDMARKS = (
    "{weights} gives no landmarks, so faces cannot be aligned: leave out ALIGN=, or name weights "
    "with a landmark head."
)
KNOWN = ", ".join(sorted(SUFFIXES))
DEFAULTS = DetectorSettings()


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of the command."""
    parser.add_argument("images", nargs="*", help="image files or folders")
    parser.add_argument(
        "--video", metavar="FILE", help="a video file, or the number of a camera, such as 0"
    )
    parser.add_argument(
        "--weights",
        type=Path,
        required=True,
        help="a file with all three nets, a folder of exported nets, or a run",
    )
    parser.add_argument(
        "--min-face-size", type=int, default=DEFAULTS.min_face_size, help="pixels (%(default)s)"
    )
    parser.add_argument(
        "--thresholds",
        type=float,
        nargs=3,
        default=DEFAULTS.thresholds,
        metavar=("P", "R", "O"),
        help="minimum probability of a face after each net (0.6 0.7 0.7)",
    )
    parser.add_argument(
        "--scale-factor", type=float, default=DEFAULTS.scale_factor, help="(%(default)s)"
    )
    parser.add_argument(
        "--out",
        type=Path,
        metavar="FOLDER",
        help="write annotated copies there; to FOLDER-2 and so on where it is not empty",
    )
    parser.add_argument(
        "--crops", type=Path, metavar="FOLDER", help="write each face there as an image"
    )
    parser.add_argument(
        "--align",
        type=int,
        metavar="SIZE",
        help="--crops aligned by their landmarks, SIZE pixels square, such as 112 or 160",
    )
    parser.add_argument(
        "--net",
        choices=NETS,
        help="run only this net, on each image as one crop; --weights is any file that holds it, "
        "also a run's weights.npz",
    )


def detect(arguments: argparse.Namespace) -> None:
    """Detect faces in images or a video, or run a single net on images."""
    _check(arguments)
    if arguments.video:
        _detect_video(arguments)
        return
    paths = split_paths(arguments.images)
    files = list(dict.fromkeys(_files(paths)))
    if not files:
        raise UserError(f"no image ({KNOWN}) in {', '.join(map(str, paths))}.")
    if arguments.net:
        _predict_crops(files, arguments.net, arguments.weights)
    else:
        _detect(files, arguments)


def _predict_crops(files: Sequence[Path], name: NetName, weights: Path) -> None:
    engine = single_net.load(name, weights)
    for path, image in _read(files):
        height, width = image.shape[:2]
        side = engine.net.size
        print(f"{name} on {path}, {width} x {height} resized to {side} x {side}")
        print(single_net.predict_crop(engine, image))


def _detect(files: Sequence[Path], arguments: argparse.Namespace) -> None:
    detect_stages = _detector(arguments)
    out, crops = _free_folder(arguments.out), _free_folder(arguments.crops)
    targets = _targets(files, out) if out else {}
    stems = _below(files, crops) if crops else {}
    faces_found = images = 0
    for path, image in _read(files):
        *_, faces = detect_stages(image)
        faces_found, images = faces_found + len(faces.scores), images + 1
        row = {"image": str(path), "faces": as_dictionaries(faces)}
        if crops:
            written = write_crops(image, faces, stems[path], arguments.align)
            row["crops"] = [str(crop) for crop in written]
        print(json.dumps(row), flush=True)
        if targets:
            pixels.write_image(targets[path], draw_faces(image, faces))
    where = f"; annotated copies in {out}" if out else ""
    where += f"; crops in {crops}" if crops else ""
    tqdm.write(f"{faces_found} faces on {images} images{where}", file=sys.stderr)


def _detect_video(arguments: argparse.Namespace) -> None:
    detect_stages = _detector(arguments)
    out, crops = _free_folder(arguments.out), _free_folder(arguments.crops)

    def write(number: int, image: Image, faces: Faces) -> dict[str, list[str]]:
        if crops is None:
            return {}
        written = write_crops(image, faces, crops / f"{number:06d}", arguments.align)
        return {"crops": [str(crop) for crop in written]}

    detect_video(arguments.video, lambda image: detect_stages(image)[-1], out, write)


def _detector(arguments: argparse.Namespace) -> DetectFunction:
    first, second, third = arguments.thresholds
    settings = DetectorSettings(
        arguments.min_face_size, arguments.scale_factor, (first, second, third)
    )
    nets = cascade(arguments.weights, settings)
    if not nets.gives_landmarks:
        if arguments.align is not None:
            raise UserError(NO_LANDMARKS.format(weights=arguments.weights))
        print(f"note: {arguments.weights} has no landmark head.", file=sys.stderr)
    _tell_shifts(arguments.weights)
    return nets.stages


def _tell_shifts(weights: Path) -> None:
    """Say where a run's nets are not yet what its export makes of them."""
    shifts = [known_weights.shift_to_come(weights, net) for net in NETS]
    if any(shifts):
        amounts = ", ".join(f"{shift:g}" for shift in shifts)
        print(
            f"note: the nets of {weights} are taken as they were trained; their export has scores "
            f"shifted by {amounts} (export.score_shift): name that file to have them so.",
            file=sys.stderr,
        )


def _check(arguments: argparse.Namespace) -> None:
    """Refuse arguments that do not fit together."""
    if bool(arguments.video) == bool(arguments.images):
        raise UserError(
            "name either images (IMAGES=, files or folders) or a video (VIDEO=), not both."
        )
    if arguments.video and arguments.net:
        raise UserError("a single net (--net) runs on images, not on a video.")
    if arguments.align is not None and not arguments.crops:
        raise UserError("ALIGN= is for CROPS=, a folder for the aligned faces: name it, too.")
    if arguments.align is not None and not 1 <= arguments.align <= MAX_ALIGNED:
        raise UserError(f"ALIGN= must lie between 1 and {MAX_ALIGNED} pixels.")
    refuse_stale(arguments.weights)


def _read(files: Sequence[Path]) -> Iterator[tuple[Path, Image]]:
    """The images that decode, under a progress bar; a warning names each of the others."""
    unreadable = 0
    for path in tqdm(files, unit="img", disable=len(files) < 2):
        image = pixels.read_image(path, upright=True)
        if image is not None:
            yield path, image
            continue
        unreadable += 1
        tqdm.write(f"warning: {path} does not decode; left out.", file=sys.stderr)
    if unreadable == len(files):
        raise UserError("none of the images could be read.")


def _free_folder(out: Path | None) -> Path | None:
    """`out`, or the first of `out-2`, `out-3`, ... that holds nothing yet; None stays None."""
    if out is None:
        return None
    if out.exists() and not out.is_dir():
        raise UserError(f"{out} is a file: name a folder for what is written by OUT= or CROPS=.")
    named = out if out.name not in ("", "..") else out.resolve()  # `.` has no name to add to
    numbered = (Path(f"{named}-{number}") for number in itertools.count(2))
    return next(
        folder
        for folder in itertools.chain([out], numbered)
        if not folder.exists() or (folder.is_dir() and not any(folder.iterdir()))
    )


def _targets(files: Sequence[Path], out: Path) -> dict[Path, Path]:
    """Paths of the annotated copies, see `_below`."""
    targets = _below(files, out)
    for path, target in targets.items():
        if target.suffix.lower() not in SUFFIXES:
            raise UserError(f"{path}: its copy cannot be written; known endings are {KNOWN}.")
    return targets


def _below(files: Sequence[Path], out: Path) -> dict[Path, Path]:
    """Paths below `out`, as those of the files are below the folder common to all of them."""
    absolute = {path: path.parent.resolve() / path.name for path in files}  # without any `..`
    shared = os.path.commonpath([place.parent for place in absolute.values()])
    return {path: out / place.relative_to(shared) for path, place in absolute.items()}


def _files(paths: Sequence[Path]) -> Iterator[Path]:
    """The files named, and the images in the folders named; a warning counts the other files."""
    for path in paths:
        if path.is_dir():
            files = [file for file in sorted(path.rglob("*")) if file.is_file()]
            yield from (file for file in files if file.suffix.lower() in SUFFIXES)
            _warn_of_skipped(path, files)
        elif path.exists():
            yield path
        else:
            raise UserError(f"{path} is not there.")


def _warn_of_skipped(folder: Path, files: Sequence[Path]) -> None:
    skipped = Counter(
        file.suffix.lower() or "without an ending"
        for file in files
        if file.suffix.lower() not in SUFFIXES and not file.name.startswith(".")
    )
    if skipped:
        counts = ", ".join(f"{count} {suffix}" for suffix, count in sorted(skipped.items()))
        tqdm.write(
            f"warning: {folder}: skipped {counts}; only {KNOWN} are read from a folder.",
            file=sys.stderr,
        )
