"""The table of export formats: how each is written, run again for the check, and loaded."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from export.deployment import Nets, write_companions
from mtcnn_detector.backend import CompiledNet, Predict
from mtcnn_detector.errors import UserError
from mtcnn_detector.net import NETS, NetName
from mtcnn_detector.pixels import Image
from mtcnn_detector.weights import weight_files

Batches = Mapping[NetName, Sequence[Image]]  # calibration inputs, (N, H, W, 3) uint8 each
Write = Callable[[Path, Nets, Batches], None]
MEANINGLESS_POINTS = (
    "; the package that loads this file wants arrays of one, which are zeros here, and puts all "
    "five points of a face at the corner of its box, where they mean nothing"
)
INT8, CASCADE = "tflite-int8", "savedmodel-cascade"


@dataclass(frozen=True)
class ExportFormat:
    """One export format.

    Args:
        target: name of the file or folder, in the run's folder.
        write: writes the three nets to a path; raises `UserError` where the format cannot hold
            them. Only int8 uses the calibration batches.
        load: (path, net) -> a function that runs the written net on a batch of pixels;
            raises `UserError` where the file is a whole cascade.
        usage: how the target, `{}`, is loaded: the last sentence of an export.
        tolerance: maximum absolute difference of outputs; int8 is judged by its faces instead.
        without_landmarks: what an export of nets without a landmark head says besides that.
    """

    target: str
    write: Write
    load: Callable[[Path, NetName], Predict]
    usage: str
    tolerance: float = 1e-4
    without_landmarks: str = ""


def _load_weights(path: Path, name: NetName) -> Predict:
    return CompiledNet(name, weight_files.read(path)[name])


def _write_own(path: Path, nets: Nets, _: Batches) -> None:
    weight_files.write_own_folder(path, nets)


def _layout(layout: str, target: str, usage: str) -> ExportFormat:
    """A weights file that another package loads."""

    def write(path: Path, nets: Nets, _: Batches) -> None:
        weight_files.write(layout, path, nets)

    return ExportFormat(target, write, _load_weights, usage, 1e-5, MEANINGLESS_POINTS)


# The deployment formats import TensorFlow or ONNX, which takes seconds: only when they are used.


def _write_savedmodel(path: Path, nets: Nets, _: Batches) -> None:
    from export.tensorflow_formats import write_savedmodel

    for name in NETS:
        write_savedmodel(path / name, name, nets[name])
    write_companions(path, nets)


def _load_savedmodel(path: Path, name: NetName) -> Predict:
    from export.tensorflow_formats import load_savedmodel

    return load_savedmodel(path / name)


def _write_cascade(path: Path, nets: Nets, _: Batches) -> None:
    from export.tensorflow_cascade import write_cascade

    write_cascade(path, nets)


def _load_from_cascade(path: Path, name: NetName) -> Predict:
    raise UserError(f"{path} is a whole cascade, out of which no {name} can be taken.")


def _write_tflite(path: Path, nets: Nets, batches: Batches) -> None:
    from export.tensorflow_formats import tflite_model

    path.mkdir(parents=True, exist_ok=True)
    for name in NETS:
        model = tflite_model(name, nets[name], batches.get(name, ()))
        (path / f"{name}.tflite").write_bytes(model)
    write_companions(path, nets)


def _load_tflite(path: Path, name: NetName) -> Predict:
    from export.tensorflow_formats import load_tflite

    return load_tflite(path / f"{name}.tflite")


def _write_onnx(path: Path, nets: Nets, _: Batches) -> None:
    from export.onnx_format import onnx_model

    path.mkdir(parents=True, exist_ok=True)
    for name in NETS:
        (path / f"{name}.onnx").write_bytes(onnx_model(name, nets[name]))
    write_companions(path, nets)


def _load_onnx(path: Path, name: NetName) -> Predict:
    from export.onnx_format import load_onnx

    return load_onnx(path / f"{name}.onnx")


_TFLITE_USAGE = (
    "ai_edge_litert.interpreter.Interpreter('{}/pnet.tflite').get_signature_runner()(pixels=...) "
    "runs P-Net."
)
FORMATS: dict[str, ExportFormat] = {
    "ipazc": _layout("ipazc", "mtcnn_weights.npy", "MTCNN(weights_file='{}') loads it."),
    "ipazc-1.0": _layout(
        "ipazc-1.0", "ipazc-1.0", "StagePNet(weights='{}/pnet.lz4') and so on load it."
    ),
    "ipazc-0.0": _layout(
        "ipazc-0.0", "mtcnn_weights-0.0.npy", "MTCNN(weights_file=open('{}', 'rb')) loads it."
    ),
    "facenet": _layout(
        "facenet", "facenet", "align.detect_face.create_mtcnn(session, '{}') loads it."
    ),
    "facenet-pytorch": _layout(
        "facenet-pytorch",
        "facenet-pytorch",
        "mtcnn.pnet.load_state_dict(torch.load('{}/pnet.pt')) and so on load it.",
    ),
    "own": ExportFormat(
        "mtcnn_weights",
        _write_own,
        _load_weights,
        "`make detect IMAGES=image.jpg WEIGHTS={}` detects with it.",
        tolerance=1e-5,
    ),
    "savedmodel": ExportFormat(
        "savedmodel",
        _write_savedmodel,
        _load_savedmodel,
        "tf.saved_model.load('{}/pnet').signatures['serving_default'] runs P-Net.",
    ),
    CASCADE: ExportFormat(
        CASCADE,
        _write_cascade,
        _load_from_cascade,
        "tf.saved_model.load('{}').signatures['detect'](image=...) finds the faces of an image.",
    ),
    "tflite": ExportFormat("tflite", _write_tflite, _load_tflite, _TFLITE_USAGE),
    INT8: ExportFormat(INT8, _write_tflite, _load_tflite, _TFLITE_USAGE),
    "onnx": ExportFormat(
        "onnx",
        _write_onnx,
        _load_onnx,
        "onnxruntime.InferenceSession('{}/pnet.onnx').run(None, {{'pixels': ...}}) runs P-Net.",
    ),
}
