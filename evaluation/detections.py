"""Detections of a labelled data set: a resumable log with one JSON line per image."""

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
from tqdm import tqdm

from data_prep.annotations import Annotation
from mtcnn_detector import backend, exported, pixels
from mtcnn_detector.boxes import FloatArray
from mtcnn_detector.cascade import Cascade, Faces
from mtcnn_detector.detector import MTCNN
from mtcnn_detector.errors import UserError
from mtcnn_detector.net import NETS
from mtcnn_detector.settings import DetectorSettings
from mtcnn_detector.weights import weight_files
from pipeline import manifest
from pipeline.make_command import make_command

# RGB image -> the output of each net in turn; the last one is the faces. The mtcnn package
# returns nothing but the faces.
DetectFunction = Callable[[pixels.Image], list[Faces]]


@dataclass(frozen=True)
class Runtime:
    """A way to run weights: a function that loads them, and a digest of the code that runs."""

    start: Callable[[Path, DetectorSettings], DetectFunction]
    code: str


class ImageDetections(NamedTuple):
    """The detections on one image."""

    image_digest: str  # of the image file and the view of it
    seconds: float  # time of the detector alone, without reading the file
    faces: Faces
    proposals: tuple[FloatArray, ...] = ()  # (N, 4) boxes after each net but the last


def lazy_detector(runtime: Runtime, weights: Path, settings: DetectorSettings) -> DetectFunction:
    """A detector that loads its weights with the first image: all may be in the log already."""
    started = functools.cache(lambda: runtime.start(weights, settings))
    return lambda image: started()(image)


def our_runtime() -> Runtime:
    """Our cascade under the installed OpenVINO."""
    return Runtime(load_cascade, _code_digest(Path(backend.__file__).parent))


def package_runtime(folder: Path) -> Runtime:
    """The original package mtcnn 0.1.1, installed in `folder`."""
    code = _code_digest(folder / "mtcnn")
    return Runtime(lambda weights, settings: load_package(weights, settings, folder), code)


def _code_digest(folder: Path) -> str:
    digest = manifest.digest([Path(__file__), *sorted(folder.rglob("*.py"))])
    versions = (f"{name} {version}" for name, version in manifest.versions()["versions"].items())
    return ", ".join([digest, *versions])


def load_cascade(weights: Path, settings: DetectorSettings) -> DetectFunction:
    """Our cascade with any weights that `MTCNN` takes, folders of exported nets included."""
    return cascade(weights, settings).stages


def cascade(weights: Path, settings: DetectorSettings) -> Cascade:
    """Our detector's cascade, which knows whether it gives landmarks."""
    thresholds, smallest = settings.thresholds, settings.min_face_size
    return MTCNN(weights, smallest, thresholds, settings.scale_factor).cascade


def digest_weights(weights: Path) -> str:
    """SHA-256 of a weights file, or of the files of the nets in a folder."""
    if exported.is_export(weights):
        return manifest.digest_tree(weights)
    return manifest.digest(weight_files.files(weights))


def load_package(weights: Path, settings: DetectorSettings, folder: Path) -> DetectFunction:
    """mtcnn 0.1.1 from `folder` (`pip install --no-deps --target`).

    Its slow `predict` calls are replaced by traced calls of the same Keras models. The package
    unpickles its weights file, so a file that our safe reader does not recognise is refused.
    """
    if exported.is_export(weights) or any(
        found.layout != "ipazc" for found in weight_files.look(weights).values()
    ):
        raise UserError(
            f"{weights} is not as mtcnn 0.1.1 loads it: `{make_command('export-weights')}` "
            "writes such a file."
        )
    sys.path.insert(0, str(folder))
    try:
        import mtcnn as package
    except ImportError as error:
        raise UserError(
            f"{folder} holds no usable mtcnn ({error}): `make consumers` puts one "
            "into .consumers/mtcnn-0.1.1."
        ) from None
    module = Path(sys.modules["mtcnn"].__file__ or "")
    if folder.resolve() not in module.resolve().parents:
        raise UserError(f"mtcnn was imported from {module}, not from {folder}.")
    thresholds, smallest = list(settings.thresholds), settings.min_face_size
    with_landmarks = weight_files.read_net(weights, NETS[-1]).net.landmarks
    mtcnn = package.MTCNN(str(weights), smallest, thresholds, settings.scale_factor)
    for net in ("_pnet", "_rnet", "_onet"):
        setattr(mtcnn, net, _Traced(getattr(mtcnn, net)))
    return lambda image: [_as_faces(mtcnn.detect_faces(image), with_landmarks)]


class _Traced:
    """A Keras model whose `predict` is a traced call."""

    def __init__(self, model: Any) -> None:
        import tensorflow as tf

        signature = [tf.TensorSpec([None, None, None, 3], tf.float32)]
        self._call = tf.function(lambda x: model(x, training=False), input_signature=signature)

    def predict(self, batch: FloatArray) -> list[FloatArray]:
        """The outputs for a batch (N, H, W, 3)."""
        return [output.numpy() for output in self._call(batch.astype(np.float32))]


def _as_faces(dictionaries: Sequence[dict[str, Any]], with_landmarks: bool = True) -> Faces:
    """The package's list of dictionaries as arrays; it gives landmarks without a head, too."""
    corners = np.array([face["box"] for face in dictionaries], np.float64).reshape(-1, 4)
    corners[:, 2:] += corners[:, :2]
    landmarks = [list(face["keypoints"].values()) for face in dictionaries]
    scores = np.array([face["confidence"] for face in dictionaries], np.float64)
    points = np.array(landmarks, np.float64).reshape(-1, 5, 2)
    return Faces(corners, scores, points if with_landmarks else np.full_like(points, np.nan))


def log_folder(root: Path, weights: Path, settings: DetectorSettings, runtime: Runtime) -> Path:
    """The folder for the detections of these weights at these settings by this code.

    Its name contains a digest of all that decides the detections, so a log is never resumed by
    another detector; `detector.json` inside holds the same in readable form.
    """
    description = {
        "weights": digest_weights(weights),
        "code": runtime.code,
        **asdict(settings),
    }
    content = json.dumps(description, indent=1)
    folder = root / f"{weights.stem}-{hashlib.sha256(content.encode()).hexdigest()[:12]}"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "detector.json").write_text(content + "\n", encoding="utf-8")
    return folder


def detect_all(
    detect: DetectFunction, annotations: Sequence[Annotation], log: Path
) -> dict[str, ImageDetections]:
    """Detections on every image, by its key; images that are in the log already are skipped.

    An image whose file, or its view (`exif`), has changed since it was logged is detected again.

    Raises:
        UserError: an image does not decode, or the log is damaged.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    logged = read_log(log)
    digests = {annotation.key: _image_digest(annotation) for annotation in annotations}
    left = [
        annotation
        for annotation in annotations
        if annotation.key not in logged
        or logged[annotation.key].image_digest != digests[annotation.key]
    ]
    done = len(annotations) - len(left)
    with log.open("a", encoding="utf-8", buffering=1) as file:  # a kill costs one image
        bar = tqdm(left, log.stem, len(annotations), leave=None, unit="img", initial=done)
        for annotation in bar:
            key = annotation.key
            logged[key] = _detect(detect, annotation, digests[key])
            file.write(json.dumps({"key": key, **_as_row(logged[key])}) + "\n")
    return {annotation.key: logged[annotation.key] for annotation in annotations}


def _image_digest(annotation: Annotation) -> str:
    """Changes with the file, and with whether EXIF rotates it; of most files, that of the file."""
    try:
        digest = manifest.digest([annotation.image])[:16]
    except OSError:
        raise _unreadable(annotation) from None
    return f"{digest}-upright" if annotation.upright else digest


def _detect(detect: DetectFunction, annotation: Annotation, digest: str) -> ImageDetections:
    image = annotation.load()
    if image is None:
        raise _unreadable(annotation)
    started = time.perf_counter()
    *before, faces = detect(image)
    seconds = round(time.perf_counter() - started, 4)
    return ImageDetections(digest, seconds, faces, tuple(stage.boxes for stage in before))


def _as_row(detections: ImageDetections) -> dict[str, Any]:
    lists = {name: value.tolist() for name, value in detections.faces._asdict().items()}
    proposals = [boxes.astype(int).tolist() for boxes in detections.proposals]  # whole pixels
    row = {"image_digest": detections.image_digest, "seconds": detections.seconds}
    return row | lists | {"proposals": proposals}


def _unreadable(annotation: Annotation) -> UserError:
    return UserError(
        f"{annotation.image} ({annotation.where}) is missing or unreadable: "
        "mend it, take it out of the labels, or name the right folder of images."
    )


def read_log(log: Path) -> dict[str, ImageDetections]:
    """The detections that `detect_all` logged, by image key; of two lines the later counts."""
    if not log.exists():
        return {}
    text = log.read_text(encoding="utf-8")
    whole = text[: text.rfind("\n") + 1]  # a kill can leave half a line
    if whole != text:
        log.write_text(whole, encoding="utf-8")
    try:
        rows = [json.loads(line) for line in whole.splitlines()]
        return {row["key"]: _from_row(row) for row in rows}
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{log} is damaged ({error}): remove it and repeat the command.") from None


def _from_row(row: dict[str, Any]) -> ImageDetections:
    boxes, scores, landmarks = (np.array(row[name], np.float64) for name in Faces._fields)
    faces = Faces(boxes.reshape(-1, 4), scores, landmarks.reshape(-1, 5, 2))
    proposals = (np.array(boxes, np.float64).reshape(-1, 4) for boxes in row["proposals"])
    return ImageDetections(row["image_digest"], row["seconds"], faces, tuple(proposals))
