"""A detector over many pictures, resumable: one JSON line a picture."""

import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from configs.errors import UserError
from configs.settings import Detector
from data_prep.annotations import Annotation
from models import layouts, pixels
from models.cascade import Cascade, Faces

Floats = NDArray[np.floating]


Detect = Callable[[pixels.Image], Faces]


def ours(weights: Path, settings: Detector) -> Detect:
    """Our cascade with a weights file that holds all three nets."""
    trained = layouts.read(weights)
    if len(trained) < 3:
        raise UserError(f"{weights} holds only {', '.join(trained)}; a detector needs all three.")
    cascade = Cascade(trained, settings)
    return cascade.detect


def package(weights: Path, settings: Detector, folder: Path) -> Detect:
    """The real mtcnn 0.1.1 out of `folder` (`pip install --no-deps --target`).

    Only its slow `predict` calls are replaced by traced ones of the same Keras models.
    """
    sys.path.insert(0, str(folder))
    try:
        from mtcnn import MTCNN
    except ImportError as error:
        raise UserError(
            f"{folder} holds no usable mtcnn ({error}): `make consumers` installs it there."
        ) from None
    found = Path(sys.modules["mtcnn"].__file__ or "")
    if folder.resolve() not in found.resolve().parents:
        raise UserError(f"mtcnn was imported from {found}, not from {folder}.")
    thresholds, smallest = list(settings.thresholds), settings.min_face_size
    mtcnn = MTCNN(str(weights), smallest, thresholds, settings.scale_factor)
    for net in ("_pnet", "_rnet", "_onet"):
        setattr(mtcnn, net, _Traced(getattr(mtcnn, net)))
    return lambda image: _as_found(mtcnn.detect_faces(image))


class _Traced:
    """A Keras model whose `predict` is a traced call."""

    def __init__(self, model: Any) -> None:
        import tensorflow as tf

        signature = [tf.TensorSpec([None, None, None, 3], tf.float32)]
        self._call = tf.function(lambda x: model(x, training=False), input_signature=signature)

    def predict(self, batch: Floats) -> list[Floats]:
        """The outputs of a batch."""
        return [output.numpy() for output in self._call(batch.astype(np.float32))]


def _as_found(faces: Sequence[dict[str, Any]]) -> Faces:
    corners = np.array([face["box"] for face in faces], np.float64).reshape(-1, 4)
    corners[:, 2:] += corners[:, :2]
    points = [list(face["keypoints"].values()) for face in faces]
    scores = np.array([face["confidence"] for face in faces], np.float64)
    return Faces(corners, scores, np.array(points, np.float64).reshape(-1, 5, 2))


def detect_all(detect: Detect, pictures: Sequence[Annotation], log: Path) -> dict[str, Faces]:
    """The faces on every picture by its key; what `log` already holds is not looked at again.

    Raises:
        UserError: a picture does not decode, or the log is damaged.
    """
    done = read_log(log)
    left = [picture for picture in pictures if picture.key not in done]
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("a", encoding="utf-8") as file:
        for picture in tqdm(left, unit="img", desc=log.stem):
            image = pixels.read_image(picture.image)
            if image is None:
                raise UserError(f"{picture.image} ({picture.where}) is missing or unreadable.")
            done[picture.key] = found = detect(image)
            lists = {name: value.tolist() for name, value in found._asdict().items()}
            file.write(json.dumps({"key": picture.key, **lists}) + "\n")
    return {picture.key: done[picture.key] for picture in pictures}


def read_log(log: Path) -> dict[str, Faces]:
    """The faces by picture that `detect_all` wrote."""
    if not log.exists():
        return {}
    text = log.read_text(encoding="utf-8")
    whole = text[: text.rfind("\n") + 1]  # a kill can leave half a line
    if whole != text:
        log.write_text(whole, encoding="utf-8")
    try:
        rows = [json.loads(line) for line in whole.splitlines()]
        return {row["key"]: _from_lists(row) for row in rows}
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{log} is damaged ({error}): remove it and repeat the command.") from None


def _from_lists(row: dict[str, list[float]]) -> Faces:
    boxes, scores, points = (np.array(row[name], np.float64) for name in Faces._fields)
    return Faces(boxes.reshape(-1, 4), scores, points.reshape(-1, 5, 2))
