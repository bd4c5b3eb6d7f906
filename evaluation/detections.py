"""A detector over many pictures, resumable: one JSON line a picture."""

import functools
import hashlib
import json
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from data_prep.annotations import Annotation
from mtcnn_detector import backend, pixels
from mtcnn_detector.cascade import Cascade, Faces
from mtcnn_detector.errors import UserError
from mtcnn_detector.net import NETS
from mtcnn_detector.settings import DetectorSettings
from mtcnn_detector.weights import weight_files
from pipeline import manifest

Floats = NDArray[np.floating]
# What each net in turn lets through, the faces last; a package tells only those.
Detect = Callable[[pixels.Image], list[Faces]]


@dataclass(frozen=True)
class Runtime:
    """A way to run weights: how it is started, and what tells apart the code that then runs."""

    start: Callable[[Path, DetectorSettings], Detect]
    code: str


class ImageDetections(NamedTuple):
    """What was found on one picture."""

    picture: str  # digest of the picture file
    seconds: float  # that the detector took, without reading the file
    faces: Faces
    proposals: tuple[Floats, ...] = ()  # (N, 4) boxes that each net but the last let through


def when_needed(runtime: Runtime, weights: Path, settings: DetectorSettings) -> Detect:
    """A detector that is started at its first picture: there may be none left to look at."""
    started = functools.cache(lambda: runtime.start(weights, settings))
    return lambda image: started()(image)


def our_runtime() -> Runtime:
    """Our cascade; its faces and its time are those of the installed OpenVINO."""
    return Runtime(ours, _code_in(Path(backend.__file__).parent))


def package_runtime(folder: Path) -> Runtime:
    """The real mtcnn 0.1.1 that lies in `folder`."""
    code = _code_in(folder / "mtcnn")
    return Runtime(lambda weights, settings: package(weights, settings, folder), code)


def _code_in(folder: Path) -> str:
    digest = manifest.digest([Path(__file__), *sorted(folder.rglob("*.py"))])
    versions = (f"{name} {version}" for name, version in manifest.versions()["versions"].items())
    return ", ".join([digest, *versions])


def ours(weights: Path, settings: DetectorSettings) -> Detect:
    """Our cascade with a weights file that holds all three nets."""
    trained = weight_files.read(weights)
    if len(trained) < len(NETS):
        raise UserError(f"{weights} holds only {', '.join(trained)}; a detector needs all three.")
    return Cascade(trained, settings).stages


def package(weights: Path, settings: DetectorSettings, folder: Path) -> Detect:
    """The real mtcnn 0.1.1 out of `folder` (`pip install --no-deps --target`).

    Only its slow `predict` calls are replaced by traced ones of the same Keras models. It
    unpickles the file it is given: one that our reader does not know as its own never gets there.
    """
    if any(found.layout != "ipazc" for found in weight_files.look(weights).values()):
        raise UserError(
            f"{weights} is not as mtcnn 0.1.1 loads it: `make export-weights` writes it."
        )
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
    return lambda image: [_as_found(mtcnn.detect_faces(image))]


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
    landmarks = [list(face["keypoints"].values()) for face in faces]
    scores = np.array([face["confidence"] for face in faces], np.float64)
    return Faces(corners, scores, np.array(landmarks, np.float64).reshape(-1, 5, 2))


def log_folder(root: Path, weights: Path, settings: DetectorSettings, runtime: Runtime) -> Path:
    """Where the detections of these weights, at these settings, by this code lie.

    Whatever decides the detections is in the folder's name, so that no log of another detector
    is ever gone on with; `detector.json` in it says in words whose they are.
    """
    told = {
        "weights": manifest.digest(weight_files.files(weights)),
        "code": runtime.code,
        **asdict(settings),
    }
    content = json.dumps(told, indent=1)
    folder = root / f"{weights.stem}-{hashlib.sha256(content.encode()).hexdigest()[:12]}"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "detector.json").write_text(content + "\n", encoding="utf-8")
    return folder


def detect_all(
    detect: Detect, pictures: Sequence[Annotation], log: Path
) -> dict[str, ImageDetections]:
    """What is on every picture, by its key; pictures that `log` already holds are not looked at.

    A picture counts as held when its file has not changed since.

    Raises:
        UserError: a picture does not decode, or the log is damaged.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    held = read_log(log)
    digests = {picture.key: _digest(picture) for picture in pictures}
    left = [p for p in pictures if p.key not in held or held[p.key].picture != digests[p.key]]
    done = len(pictures) - len(left)
    with log.open("a", encoding="utf-8", buffering=1) as file:  # a kill costs one picture
        bar = tqdm(left, log.stem, len(pictures), leave=None, unit="img", initial=done)
        for picture in bar:
            held[picture.key] = seen = _look(detect, picture, digests[picture.key])
            file.write(json.dumps({"key": picture.key, **_row(seen)}) + "\n")
    return {picture.key: held[picture.key] for picture in pictures}


def _digest(picture: Annotation) -> str:
    try:
        return manifest.digest([picture.image])[:16]
    except OSError:
        raise _unreadable(picture) from None


def _look(detect: Detect, picture: Annotation, digest: str) -> ImageDetections:
    image = pixels.read_image(picture.image)
    if image is None:
        raise _unreadable(picture)
    started = time.perf_counter()
    *before, faces = detect(image)
    seconds = round(time.perf_counter() - started, 4)
    return ImageDetections(digest, seconds, faces, tuple(stage.boxes for stage in before))


def _row(seen: ImageDetections) -> dict[str, Any]:
    lists = {name: value.tolist() for name, value in seen.faces._asdict().items()}
    proposals = [boxes.astype(int).tolist() for boxes in seen.proposals]  # whole pixels
    return {"picture": seen.picture, "seconds": seen.seconds, **lists, "proposals": proposals}


def _unreadable(picture: Annotation) -> UserError:
    return UserError(
        f"{picture.image} ({picture.where}) is missing or unreadable: "
        "mend it, take it out of the labels, or name the right folder of pictures."
    )


def read_log(log: Path) -> dict[str, ImageDetections]:
    """What `detect_all` wrote, by picture; of a picture looked at twice, the later."""
    if not log.exists():
        return {}
    text = log.read_text(encoding="utf-8")
    whole = text[: text.rfind("\n") + 1]  # a kill can leave half a line
    if whole != text:
        log.write_text(whole, encoding="utf-8")
    try:
        rows = [json.loads(line) for line in whole.splitlines()]
        return {row["key"]: _seen(row) for row in rows}
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{log} is damaged ({error}): remove it and repeat the command.") from None


def _seen(row: dict[str, Any]) -> ImageDetections:
    boxes, scores, landmarks = (np.array(row[name], np.float64) for name in Faces._fields)
    faces = Faces(boxes.reshape(-1, 4), scores, landmarks.reshape(-1, 5, 2))
    proposals = (np.array(boxes, np.float64).reshape(-1, 4) for boxes in row["proposals"])
    return ImageDetections(row["picture"], row["seconds"], faces, tuple(proposals))
