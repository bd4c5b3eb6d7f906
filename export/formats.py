"""The formats of an export: what each writes, how what it wrote is run again to be checked."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mtcnn_detector.backend import CompiledNet, Predict
from mtcnn_detector.net import NETS, NetName
from mtcnn_detector.pixels import Image
from mtcnn_detector.weights import weight_files
from mtcnn_detector.weights.weight_files import TrainedNet

Nets = Mapping[NetName, TrainedNet]
CalibrationBatches = Mapping[
    NetName, Sequence[Image]
]  # batches that the nets see, for int8's ranges


@dataclass(frozen=True)
class Format:
    """One format.

    Args:
        target: the file or folder in the run's folder.
        write: the three nets to a path; raises `UserError` where the format cannot hold them.
        runner: (path, net) of what was written -> a function of a batch of pixels.
        loads: how it is loaded, for the last line of an export; `{}` is the target.
        tolerance: by how much outputs may differ; of int8's it is asked what faces they find.
    """

    target: str
    write: Callable[[Path, Nets, CalibrationBatches], None]
    runner: Callable[[Path, NetName], Predict]
    loads: str
    tolerance: float = 1e-4


def _run_layout(path: Path, name: NetName) -> Predict:
    return CompiledNet(name, weight_files.read(path)[name])


def _layout(key: str, target: str, loads: str) -> Format:
    def write(path: Path, nets: Nets, _: CalibrationBatches) -> None:
        weight_files.write(key, path, nets)

    return Format(target, write, _run_layout, loads, tolerance=1e-5)


def _write_savedmodel(path: Path, nets: Nets, _: CalibrationBatches) -> None:
    from export.tensorflow_formats import write_savedmodel

    for name in NETS:
        write_savedmodel(path / name, name, nets[name])


def _run_savedmodel(path: Path, name: NetName) -> Predict:
    from export.tensorflow_formats import run_savedmodel

    return run_savedmodel(path / name)


def _write_tflite(path: Path, nets: Nets, seen: CalibrationBatches) -> None:
    from export.tensorflow_formats import tflite

    path.mkdir(parents=True, exist_ok=True)
    for name in NETS:
        model = tflite(name, nets[name], seen.get(name, ()))
        (path / f"{name}.tflite").write_bytes(model)


def _run_tflite(path: Path, name: NetName) -> Predict:
    from export.tensorflow_formats import run_tflite

    return run_tflite(path / f"{name}.tflite")


def _write_onnx(path: Path, nets: Nets, _: CalibrationBatches) -> None:
    from export.onnx_format import onnx_model

    path.mkdir(parents=True, exist_ok=True)
    for name in NETS:
        (path / f"{name}.onnx").write_bytes(onnx_model(name, nets[name]))


def _run_onnx(path: Path, name: NetName) -> Predict:
    from export.onnx_format import run_onnx

    return run_onnx(path / f"{name}.onnx")


INT8 = "tflite-int8"
_LITERT = "tf.lite.Interpreter('{}/pnet.tflite').get_signature_runner()(pixels=...) runs P-Net."


def _write_own(path: Path, nets: Nets, _: CalibrationBatches) -> None:
    weight_files.write_own_folder(path, nets)


FORMATS: dict[str, Format] = {
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
    "own": Format(
        "mtcnn_weights",
        _write_own,
        _run_layout,
        "`python -m evaluation detect --weights {}` detects with it.",
        tolerance=1e-5,
    ),
    "savedmodel": Format(
        "savedmodel",
        _write_savedmodel,
        _run_savedmodel,
        "tf.saved_model.load('{}/pnet').signatures['serving_default'] runs P-Net.",
    ),
    "tflite": Format("tflite", _write_tflite, _run_tflite, _LITERT),
    INT8: Format(INT8, _write_tflite, _run_tflite, _LITERT),
    "onnx": Format(
        "onnx",
        _write_onnx,
        _run_onnx,
        "onnxruntime.InferenceSession('{}/pnet.onnx').run(None, {{'pixels': ...}}) runs P-Net.",
    ),
}
