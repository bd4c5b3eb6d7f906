"""`python -m benchmarks.alignment`: where labelled eyes lie in aligned faces, beside the template.

Faces of an MTFL list are detected and aligned by the detected landmarks; the labelled eyes are
moved along. Their mean says whether faces sit where recognition nets expect them, their spread how
steady that is; crops of the boxes, resized as facenet-pytorch does, show what alignment gains.
"""

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from tqdm import tqdm

from data_prep import annotations
from data_prep.annotations import Annotation
from mtcnn_detector import MTCNN, pixels
from mtcnn_detector.align import TEMPLATE, TEMPLATE_SIZE, similarity
from mtcnn_detector.boxes import FloatArray, iou
from mtcnn_detector.cascade import Faces
from pipeline.cli import run_cli

MIN_OVERLAP = 0.3  # IoU of a detection with MTFL's tight boxes


def main() -> None:
    """Detect, align and print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.alignment", description=__doc__)
    parser.add_argument("--labels", type=Path, required=True, help="a list in MTFL's format")
    parser.add_argument("--images", type=Path, required=True, help="folder of its images")
    parser.add_argument("--weights", type=Path, default=Path("weights/mtcnn_weights.npy"))
    parser.add_argument("--count", type=int, default=100, help="images (%(default)s)")
    arguments = parser.parse_args()
    labelled = annotations.read("mtfl", arguments.labels, arguments.images)
    chosen = labelled[:: max(1, len(labelled) // arguments.count)][: arguments.count]
    rows = list(_eyes(MTCNN(arguments.weights), chosen))
    print(f"{len(rows)} of {len(chosen)} labelled faces found; sides of {TEMPLATE_SIZE} pixels\n")
    print("| | left eye | right eye | spread |\n| --- | --- | --- | --- |")
    print(f"| ArcFace's template | {_point(TEMPLATE[0])} | {_point(TEMPLATE[1])} | |")
    for place, name in enumerate(("aligned", "crops of the boxes")):
        eyes = np.array([row[place] for row in rows])
        mean, spread = eyes.mean(axis=0), eyes.std(axis=0).mean()
        print(f"| {name} | {_point(mean[0])} | {_point(mean[1])} | {spread:.1f} |")


def _eyes(detector: MTCNN, chosen: list[Annotation]) -> Iterator[tuple[FloatArray, FloatArray]]:
    """The labelled eyes (2, 2) in each aligned face and in the crop of its box."""
    for annotation in tqdm(chosen, unit="img"):
        image = pixels.read_image(annotation.image)
        if image is None:
            print(f"warning: {annotation.image} does not decode; left out.", file=sys.stderr)
            continue
        face = _face_on(annotation, detector.cascade.detect(image))
        if face is None:
            continue
        box, landmarks = face
        eyes = annotation.landmarks[0, :2].astype(np.float64)
        matrix = similarity(landmarks, TEMPLATE)
        aligned = eyes @ matrix[:, :2].T + matrix[:, 2]
        yield aligned, (eyes - box[:2]) / (box[2:] - box[:2]) * TEMPLATE_SIZE


def _face_on(annotation: Annotation, faces: Faces) -> tuple[FloatArray, FloatArray] | None:
    """Box and landmarks of the best detection on the labelled face."""
    on_face = np.flatnonzero(iou(faces.boxes, annotation.boxes[:1])[:, 0] >= MIN_OVERLAP)
    if not len(on_face):
        return None
    best = on_face[faces.scores[on_face].argmax()]
    return faces.boxes[best], faces.landmarks[best]


def _point(xy: FloatArray) -> str:
    return f"{xy[0]:.1f}, {xy[1]:.1f}"


if __name__ == "__main__":
    run_cli(main)
