"""Nets exported to ONNX, LiteRT or SavedModel, read and run by OpenVINO.

Their interface is that of the pipeline's exports: `pixels` [N, H, W, 3] RGB, 0 to 255, in;
`score` [N, ...], `box` [N, ..., 4] and, of an O-Net that has them, `landmarks` [N, ..., 10] out.
"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from .backend import BUILD_LOCK, CompiledNet, Outputs, Precision
from .errors import UserError
from .net import NETS, Layer, Net, NetName
from .openvino_import import ov
from .validation import BadValueError

# What a net is called in a folder of each format, and the file by which the format is recognised.
FORMATS = {
    "ONNX": ("{}.onnx", ""),
    "LiteRT": ("{}.tflite", ""),
    "SavedModel": ("{}", "saved_model.pb"),
}
CONVOLUTIONS, POOL = ("Convolution", "GroupConvolution"), "MaxPool"
MAX_SIZE = 1 << 12  # pixels; larger than any net's input
HEADS = {4: "box", 10: "landmarks"}  # by the size of the last axis; the score has no such axis


def is_export(path: Path) -> bool:
    """Whether a path is a folder of exported nets, or of one of them."""
    return any(model_path(path, name) is not None for name in NETS)


def load(folder: Path, precision: Precision = "exact") -> dict[NetName, "ExportedNet"]:
    """The exported nets of a folder, by name.

    Raises:
        UserError: a net is missing, cannot be read or has another interface.
    """
    paths = {name: model_path(folder, name) for name in NETS}
    missing = [name for name, path in paths.items() if path is None]
    if missing:
        raise UserError(
            f"{folder} holds exported nets, but no {' and no '.join(missing)}: export all three."
        )
    found = {name: path for name, path in paths.items() if path}
    nets = {name: ExportedNet(name, path, precision) for name, path in found.items()}
    _refuse_copies(found)
    return nets


def _refuse_copies(paths: Mapping[NetName, Path]) -> None:
    """Refuse an R-Net in O-Net's place, which nothing tells from an O-Net without landmarks."""
    _, before, last = (paths[name] for name in NETS)
    contents = [path / "saved_model.pb" if path.is_dir() else path for path in (before, last)]
    if contents[0].read_bytes() == contents[1].read_bytes():
        raise UserError(
            f"{last} gives what {before.name} gives, byte for byte; {NETS[-1]} must give outputs "
            "of its own."
        )


def model_path(folder: Path, name: NetName) -> Path | None:
    """Where a net lies in a folder of exported nets."""
    for pattern, inside in FORMATS.values():
        path = folder / pattern.format(name)
        if (path / inside).is_file():
            return path.resolve()
    return None


class ExportedNet(CompiledNet):
    """One exported net, ready to run on RGB batches; P-Net runs without its padding.

    Args:
        name: which net of the cascade.
        path: a model file, or a SavedModel's folder.
        precision: see `CompiledNet`.

    Raises:
        UserError: OpenVINO cannot read it, or its interface is another.
    """

    def __init__(self, name: NetName, path: Path, precision: Precision = "exact") -> None:
        with BUILD_LOCK:
            self._load(name, path, precision)

    def _load(self, name: NetName, path: Path, precision: Precision) -> None:
        model = _read(path)
        try:
            self.name, self.net = name, _description(model)
        except (BadValueError, ValueError) as error:
            raise UserError(f"{path} is no {name} exported by this pipeline: {error}.") from None
        self._made_from = (name, path, precision)
        self._heads = _heads(model, path)
        if (name == NETS[0]) != self.net.convolutional:
            kind = "must be fully convolutional" if name == NETS[0] else "must end in dense layers"
            raise UserError(f"{path} holds another net: {name} {kind}.")
        heads = ["score", "box", *["landmarks"] * (name == NETS[-1] and self.net.landmarks)]
        if sorted(self._heads) != sorted(heads):
            raise UserError(
                f"{path} gives {', '.join(self._heads)}; {name} must give {', '.join(heads)}."
            )
        if self.net.convolutional:
            _remove_padding(model)
        self._prepare(model, precision)

    def _outputs(self, arrays: list[NDArray[Any]]) -> Outputs:
        return Outputs.from_heads(dict(zip(self._heads, arrays, strict=True)))


def _read(path: Path) -> ov.Model:
    try:
        return ov.Core().read_model(path)
    except Exception as error:  # OpenVINO raises RuntimeError with pages of text
        reason = " ".join(str(error).split())[-120:]
        raise UserError(f"{path} cannot be read by OpenVINO (… {reason}).") from None


def _heads(model: ov.Model, path: Path) -> list[str]:
    """The names of the heads in the order of the model's outputs.

    They are told apart by shape: LiteRT's reader replaces their names.
    """
    ranks = [len(output.get_partial_shape()) for output in model.outputs]
    heads = []
    for output, rank in zip(model.outputs, ranks, strict=True):
        last = output.get_partial_shape()[rank - 1]
        heads.append("score" if rank < max(ranks) else HEADS.get(_length(last), "?"))
    if "?" in heads:
        raise UserError(f"{path} is no net of the cascade: a head has neither 4 nor 10 values.")
    return heads


def _length(dimension: Any) -> int:
    return dimension.get_length() if dimension.is_static else -1


def _description(model: ov.Model) -> Net:
    """The net's layers, as far as they decide which pixels a cell sees.

    The heads count as layers: a convolution of 1x1 changes nothing of that.
    """
    shape = model.inputs[0].get_partial_shape()
    if len(model.inputs) != 1 or len(shape) != 4 or _length(shape[3]) != 3:
        raise ValueError(f"its input is {shape}, not [N, H, W, 3]")
    layers = tuple(layer for node in model.get_ordered_ops() if (layer := _layer(node)))
    landmarks = any(_length(output.get_partial_shape()[-1]) == 10 for output in model.outputs)
    net = Net(MAX_SIZE, layers, landmarks)
    return replace(net, size=net.sees if net.convolutional else _length(shape[1]))


def _layer(node: Any) -> Layer | None:
    """The layer that an operation of the graph is, if it is one."""
    kind, attributes = node.get_type_name(), node.get_attributes()
    if kind == "MatMul":
        return Layer(dense=_length(node.get_output_partial_shape(0)[-1]))
    if kind not in (*CONVOLUTIONS, POOL):
        return None
    padding = attributes["auto_pad"]
    sides = [*attributes["pads_begin"], *attributes["pads_end"]]
    if padding == "same_lower" or (padding == "explicit" and any(sides)):
        raise ValueError("its layers are padded otherwise than to the same size")
    common = {"stride": attributes["strides"][0]}
    common["padding"] = "same" if padding == "same_upper" else "valid"
    if kind == POOL:
        return Layer(pool=attributes["kernel"][0], **common)
    kernel = _length(node.get_input_partial_shape(1)[-1])
    return Layer(conv=_length(node.get_output_partial_shape(0)[1]), kernel=kernel, **common)


def _remove_padding(model: ov.Model) -> None:
    """P-Net runs on tiles, which have no border of the image to be padded at."""
    for node in model.get_ordered_ops():
        if node.get_type_name() in (*CONVOLUTIONS, POOL):
            node.set_attribute("auto_pad", "valid")
    model.validate_nodes_and_infer_types()
