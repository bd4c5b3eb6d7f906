"""The layouts that other packages load: where each keeps which array, and which way round.

Read off the released packages; they all build the paper's nets, and hold nothing else.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..architecture import PAPER_NETS, shapes
from ..errors import UserError
from ..net import NETS, NetName
from . import serialization
from .net_weights import TrainedNet, Weights, checked, refuse_unless_paper_net

Place = tuple[str | int, ...]  # the keys and indices that lead from a net's part to an array
Places = dict[str, Place]  # by our name of the array


@dataclass(frozen=True)
class Form:
    """Which way round arrays are; all these packages flatten in (w, h, c) order."""

    conv: tuple[int, int, int, int]  # the axes of [kh, kw, in, out] in their order
    dense: tuple[int, int] = (0, 1)  # the axes of [in, out] in their order
    flat_alphas: bool = False  # (C,) instead of (1, 1, C)

    def shape(self, key: str, natural: tuple[int, ...]) -> tuple[int, ...]:
        """The shape that an array of this natural shape has in the file."""
        return self.to_file(key, np.broadcast_to(np.float32(0), natural)).shape

    def to_file(self, key: str, array: NDArray[Any]) -> NDArray[Any]:
        """A natural array as the file has it, but for the order of a first dense layer's rows."""
        if key.endswith("alpha"):
            return array.reshape(-1) if self.flat_alphas else array
        return array.transpose(self._axes(array.ndim))

    def from_file(self, key: str, array: NDArray[Any], shape: tuple[int, ...]) -> NDArray[Any]:
        """The inverse of `to_file`, into an array of this natural shape."""
        if key.endswith("alpha"):
            return array.reshape(shape)
        return array.transpose(np.argsort(self._axes(array.ndim)))

    def _axes(self, dimensions: int) -> tuple[int, ...]:
        return {4: self.conv, 2: self.dense}.get(dimensions, (0,))


@dataclass(frozen=True)
class Layout:
    """One package's layout.

    Args:
        whose: how a sentence names it.
        dump: the content of a file into its bytes.
        places: where the arrays of a net are, in its part of the content.
        form: which way round they are.
        keys: of the nets' parts, where one file has all three.
        files: of the nets, where each has its own; they lie in one folder.
    """

    whose: str
    dump: Callable[[Any], bytes]
    places: Callable[[NetName], Places]
    form: Form
    keys: Mapping[NetName, str] = field(default_factory=dict)
    files: Mapping[NetName, str] = field(default_factory=dict)

    def part(self, name: NetName, trained: TrainedNet) -> Any:
        """A net as this layout has it: lists and dictionaries of arrays.

        Raises:
            UserError: naming the net and the first layer or array that the layout cannot hold.
        """
        refuse_unless_paper_net(self.whose, name, trained.net)
        places, held = self.places(name), {}
        for key, shape in shapes(PAPER_NETS[name]):
            what = f"{name}, to be written: the array {key}"
            given = checked(trained.weights.get(key), shape, what)
            turned = self.form.to_file(key, _columns_first(name, key, given))
            held[places[key]] = np.ascontiguousarray(turned)
        return _nested(held)

    def trained(self, name: NetName, part: Any, origin: str) -> TrainedNet:
        """The net out of its part of a file.

        Raises:
            UserError: naming the first array that is missing or wrong; `origin` is the file.
        """
        places, weights = self.places(name), Weights()
        for key, shape in shapes(PAPER_NETS[name]):
            found, wanted = look_up(part, places[key]), self.form.shape(key, shape)
            what = f"{name}'s array {told(places[key])} ({key})"
            if found is None:
                raise UserError(f"{origin}, but {what}, float32 {wanted}, is missing.")
            given = checked(found, wanted, f"{origin}, but {what}")
            natural = self.form.from_file(key, given, shape)
            weights[key] = np.ascontiguousarray(_columns_first(name, key, natural))
        return TrainedNet(PAPER_NETS[name], weights)

    def fitting(self, name: NetName, part: Any) -> int:
        """How many of a net's arrays this part has, in the right place and shape."""
        places = self.places(name)
        return sum(
            getattr(look_up(part, places[key]), "shape", None) == self.form.shape(key, shape)
            for key, shape in shapes(PAPER_NETS[name])
        )


def _nested(arrays: Mapping[Place, NDArray[np.float32]]) -> Any:
    """Arrays by their places, in their order, as lists and dictionaries."""
    if () in arrays:
        return arrays[()]
    steps = dict.fromkeys(place[0] for place in arrays)
    inner = {
        step: _nested({place[1:]: array for place, array in arrays.items() if place[0] == step})
        for step in steps
    }
    if all(isinstance(step, int) for step in steps):
        return [inner[step] for step in sorted(steps)]
    return inner


def look_up(content: Any, place: Place) -> Any:
    """What is at a place, or None."""
    for step in place:
        if isinstance(content, dict):
            content = content.get(step)
        elif isinstance(content, list | tuple) and isinstance(step, int):
            content = content[step] if step < len(content) else None
        else:
            return None
    return content


def told(place: Place) -> str:
    """A place as a sentence names it."""
    return "/".join(str(step) for step in place)


def _columns_first(name: NetName, key: str, array: NDArray[Any]) -> NDArray[Any]:
    """The rows of the first dense layer in (w, h, c) order, or back; its own inverse."""
    layers = PAPER_NETS[name].layers
    first_dense = next((n for n, layer in enumerate(layers, 1) if layer.dense), 0)
    if key != f"layer{first_dense}/kernel":
        return array
    channels = layers[first_dense - 2].conv or 0
    side = round((array.shape[0] / channels) ** 0.5)
    spread = array.reshape(side, side, channels, -1).transpose(1, 0, 2, 3)
    return spread.reshape(array.shape)


def _listed(name: NetName, heads: tuple[str, ...]) -> Places:
    """A list of all arrays, layer by layer, then the heads in this order."""
    keys = [key for key, _ in shapes(PAPER_NETS[name])]
    rank = {head: place for place, head in enumerate(heads, 1)}
    keys.sort(key=lambda key: rank.get(key.partition("/")[0], 0))
    return {key: (index,) for index, key in enumerate(keys)}


def _named(
    name: NetName,
    layers: Mapping[NetName, str],
    alphas: Mapping[NetName, str],
    place: Callable[[str, str], Place],
) -> Places:
    """By name: `layers` and `alphas` are those of a net in their order, the heads last."""
    names, places = iter(layers[name].split()), Places()
    alpha = iter(alphas[name].split())
    for key, _ in shapes(PAPER_NETS[name]):
        _, _, array = key.partition("/")
        if array == "kernel":
            layer = next(names)
        places[key] = place(next(alpha) if array == "alpha" else layer, array)
    return places


PARTS = {"kernel": "weights", "bias": "biases", "alpha": "alpha"}
PRELUS: dict[NetName, str] = {
    "pnet": "prelu1 prelu2 prelu3",
    "rnet": "prelu1 prelu2 prelu3 prelu4",
    "onet": "prelu1 prelu2 prelu3 prelu4 prelu5",
}
IPAZC_LAYERS: dict[NetName, str] = {
    "pnet": "conv1 conv2 conv3 conv4-1 conv4-2",
    "rnet": "conv1 conv2 conv3 fc1 fc2-1 fc2-2",
    "onet": "conv1 conv2 conv3 conv4 fc1 fc2-1 fc2-2 fc2-3",
}
FACENET_LAYERS: dict[NetName, str] = {
    "pnet": "conv1 conv2 conv3 conv4-1 conv4-2",
    "rnet": "conv1 conv2 conv3 conv4 conv5-1 conv5-2",
    "onet": "conv1 conv2 conv3 conv4 conv5 conv6-1 conv6-2 conv6-3",
}
TORCH_LAYERS: dict[NetName, str] = {
    "pnet": "conv1 conv2 conv3 conv4_1 conv4_2",
    "rnet": "conv1 conv2 conv3 dense4 dense5_1 dense5_2",
    "onet": "conv1 conv2 conv3 conv4 dense5 dense6_1 dense6_2 dense6_3",
}


def _ipazc_0_0(name: NetName) -> Places:
    return _named(name, IPAZC_LAYERS, PRELUS, lambda layer, part: (layer, PARTS[part]))


def _facenet(name: NetName) -> Places:
    alphas = {**PRELUS, "pnet": "PReLU1 PReLU2 PReLU3"}
    return _named(name, FACENET_LAYERS, alphas, lambda layer, part: (layer, PARTS[part]))


def _facenet_pytorch(name: NetName) -> Places:
    parts = {"kernel": "weight", "bias": "bias", "alpha": "weight"}
    return _named(name, TORCH_LAYERS, PRELUS, lambda layer, part: (f"{layer}.{parts[part]}",))


SWAPPED = (1, 0, 2, 3)  # these packages feed their images transposed

LAYOUTS: dict[str, Layout] = {
    "ipazc": Layout(
        "ipazc's (mtcnn 0.1.x)",
        serialization.dump_npy,
        lambda name: _listed(name, ("cls", "box", "landmarks")),
        Form(SWAPPED),
        keys={name: name for name in NETS},
    ),
    "ipazc-1.0": Layout(
        "ipazc's (mtcnn 1.0.0)",
        serialization.dump_lz4,
        lambda name: _listed(name, ("box", "landmarks", "cls")),
        Form((0, 1, 2, 3)),
        files={name: f"{name}.lz4" for name in NETS},
    ),
    "ipazc-0.0": Layout(
        "ipazc's (mtcnn 0.0.x)",
        serialization.dump_npy,
        _ipazc_0_0,
        Form(SWAPPED, flat_alphas=True),
        keys={"pnet": "PNet", "rnet": "RNet", "onet": "ONet"},
    ),
    "facenet": Layout(
        "FaceNet's (src/align)",
        serialization.dump_npy,
        _facenet,
        Form(SWAPPED, flat_alphas=True),
        files={"pnet": "det1.npy", "rnet": "det2.npy", "onet": "det3.npy"},
    ),
    "facenet-pytorch": Layout(
        "facenet-pytorch's",
        serialization.dump_torch,
        _facenet_pytorch,
        Form((3, 2, 0, 1), (1, 0), flat_alphas=True),
        files={name: f"{name}.pt" for name in NETS},
    ),
}
