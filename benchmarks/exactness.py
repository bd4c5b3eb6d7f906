"""`python -m benchmarks.exactness`: does the detector find what mtcnn 0.1.1 finds?

Both run over WIDER's validation images with the same weights and settings. Every face that one
of them reports above 0.75 must be reported by the other, its box within 2 px or at IoU 0.95; what
is not is listed, one by one, with the nearest face of the other.
"""

import argparse
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from benchmarks import image_files
from data_prep.annotations import Annotation, read
from mtcnn_detector.boxes import iou
from mtcnn_detector.errors import UserError
from mtcnn_detector.settings import DetectorSettings
from pipeline import tf_setup
from pipeline.cli import run_cli

IMAGES = "WIDER_val/images"
LABELS = "wider_face_split/wider_face_val_bbx_gt.txt"
SURE, PIXELS, OVERLAP = 0.75, 2, 0.95


class Reported(NamedTuple):
    """The faces of one detector on one image."""

    boxes: np.ndarray  # (N, 4) whole pixels, as the package returns them
    scores: np.ndarray  # (N,)


def main() -> None:
    """Run both, compare, list."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.exactness",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    package = image_files.CONSUMERS / "mtcnn-0.1.1"
    wider = image_files.DATA / "wider"
    parser.add_argument("--wider", type=Path, default=wider, help="(%(default)s)")
    parser.add_argument(
        "--package", type=Path, default=package, help="holds mtcnn 0.1.1 (%(default)s)"
    )
    parser.add_argument("--out", type=Path, default=Path("runs/exactness"), help="%(default)s")
    arguments = parser.parse_args()
    for path in (arguments.wider / IMAGES, arguments.wider / LABELS, arguments.package / "mtcnn"):
        if not path.exists():
            raise UserError(f"{path} is not there: --wider and --package say where.")
    tf_setup.import_tensorflow()
    labelled = read("wider", arguments.wider / LABELS, arguments.wider / IMAGES, None, "wider")
    print(report(labelled, *both(labelled, arguments.package, arguments.out)))


def both(
    labelled: list[Annotation], package: Path, out: Path
) -> tuple[dict[str, Reported], dict[str, Reported]]:
    """Ours, always anew, and the package's, of which what is there already is kept."""
    from evaluation import detections

    weights = package / "mtcnn" / "data" / "mtcnn_weights.npy"
    theirs = detections.detect_all(
        detections.load_package(weights, DetectorSettings(), package),
        labelled,
        out / "mtcnn-0.1.1.jsonl",
    )
    log = out / "ours.jsonl"
    log.unlink(missing_ok=True)
    ours = detections.detect_all(
        detections.load_cascade(weights, DetectorSettings()), labelled, log
    )
    return _whole(ours), _whole(theirs)


def _whole(found: dict[str, Any]) -> dict[str, Reported]:
    """Boxes as the package hands them out: whole pixels, towards zero, not below it."""
    return {
        key: Reported(np.trunc(np.maximum(seen.faces.boxes, 0)), seen.faces.scores)
        for key, seen in found.items()
    }


def report(
    labelled: list[Annotation], ours: dict[str, Reported], theirs: dict[str, Reported]
) -> str:
    """The shares and the exceptions."""
    lines = []
    for name, left, right in (("mtcnn 0.1.1", theirs, ours), ("ours", ours, theirs)):
        sure, missed = 0, []
        for image in labelled:
            faces, others = left[image.key], right[image.key]
            for row in np.flatnonzero(faces.scores > SURE):
                sure += 1
                if not same(faces.boxes[row], others.boxes).any():
                    missed.append(f"    {image.key}: {told(faces, int(row), others)}")
        share = 100 * (1 - len(missed) / max(sure, 1))
        lines += [f"of {sure} faces of {name} above {SURE}: {share:.2f} % of the other", *missed]
    return "\n".join([f"{len(labelled)} images", *lines])


def same(box: np.ndarray, others: np.ndarray) -> np.ndarray:
    """(4,) and (N, 4) -> (N,) whether they are the same face's box."""
    apart = np.abs(others - box).max(axis=1)
    return np.asarray((apart <= PIXELS) | (iou(box[None], others)[0] >= OVERLAP))


def told(faces: Reported, row: int, others: Reported) -> str:
    """A face and the nearest one of the other detector."""
    box = faces.boxes[row]
    text = f"{box.astype(int).tolist()} {faces.scores[row]:.3f}"
    if not len(others.scores):
        return f"{text}; the other has no face"
    overlap = iou(box[None], others.boxes)[0]
    best = int(overlap.argmax())
    nearest = others.boxes[best].astype(int).tolist()
    return f"{text}; nearest {nearest} {others.scores[best]:.3f}, IoU {overlap[best]:.3f}"


if __name__ == "__main__":
    run_cli(main)
