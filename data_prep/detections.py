"""A strong detector's faces added to the labels of a source: ignored regions and landmarks.

Labels miss faces, and a miner takes exactly those for its hardest background. Where the detector
finds a face that nobody labelled, the region is ignored: neither a face nor background. A labelled
face without landmarks gets the detector's. No label is changed or dropped.

The file is JSON, plain or gzipped: `{path: [[x1, y1, x2, y2, score, x1, y1, ..., x5, y5], ...]}`,
paths relative to the images folder, pixels, landmarks in the order of the annotations.
"""

import gzip
import json
import zlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from data_prep.annotations import Annotation
from mtcnn_detector.boxes import FloatArray, iou
from mtcnn_detector.errors import UserError

SAME_FACE = 0.4  # IoU from which a detection is about a labelled face
MIN_IGNORED, MIN_LANDMARKS = 0.2, 0.6  # scores: to ignore a region, to take over landmarks
WIDTH = 15
DAMAGED = (gzip.BadGzipFile, zlib.error, EOFError, ValueError, AttributeError, TypeError)


def add_detections(
    found: Sequence[Annotation], file: Path, use_landmarks: bool = True
) -> list[Annotation]:
    """Annotations with what the detections in `file` add to them, with or without landmarks.

    Raises:
        UserError: the file cannot be read, is of another form, or has none of the images.
    """
    detected = _read(file)
    if not use_landmarks:
        for rows in detected.values():
            rows[:, 5:] = np.nan
    paths = [annotation.key.partition("/")[2] for annotation in found]
    if detected.keys().isdisjoint(paths):
        raise UserError(f"{file} has none of the images that it should add detections to.")
    return [
        _with_detections(annotation, detected[path]) if path in detected else annotation
        for annotation, path in zip(found, paths, strict=True)
    ]


def _read(file: Path) -> dict[str, FloatArray]:
    try:
        content = file.read_bytes()
        text = gzip.decompress(content) if content[:2] == b"\x1f\x8b" else content
        rows = json.loads(text)
        return {path: np.array(r, np.float32).reshape(-1, WIDTH) for path, r in rows.items()}
    except DAMAGED:  # before OSError, of which gzip's error is one
        wanted = "{path: [[x1, y1, x2, y2, score, ten numbers of landmarks], ...]}"
        raise UserError(f"{file} is damaged or of another form: expected {wanted}.") from None
    except OSError as error:
        raise UserError(f"detections {file} cannot be read: {error.strerror}.") from None


def _with_detections(annotation: Annotation, detected: FloatArray) -> Annotation:
    detected = detected[detected[:, 4] >= MIN_IGNORED]
    overlap = iou(detected[:, :4].astype(np.float64), annotation.boxes.astype(np.float64))
    new = detected[overlap.max(axis=1, initial=0) < SAME_FACE]
    landmarks = annotation.landmarks.copy()
    certain = np.where(detected[:, 4:5] >= MIN_LANDMARKS, overlap, 0)
    for face in np.flatnonzero(~np.isfinite(landmarks).all(axis=(1, 2))):
        if certain[:, face].max(initial=0) >= SAME_FACE:
            landmarks[face] = detected[certain[:, face].argmax(), 5:].reshape(5, 2)
    unknown = np.full((len(new), 5, 2), np.nan, np.float32)
    return replace(
        annotation,
        boxes=np.concatenate([annotation.boxes, new[:, :4]]),
        ignored=np.concatenate([annotation.ignored, np.ones(len(new), np.bool_)]),
        landmarks=np.concatenate([landmarks, unknown]),
    )
