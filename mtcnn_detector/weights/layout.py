"""How another package lays out weights: where each array is in its files, in which axis order.

All these packages build the paper's nets, and hold nothing else. They want O-Net's landmark head:
of a net without it, its arrays are zeros, and zeros are read as no head. The packages then place
all five landmarks of a face at a corner of its box.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..architecture import PAPER_NETS, shapes
from ..errors import UserError
from ..net import NetName
from .net_weights import TrainedNet, Weights, checked, refuse_unless_paper_net

Place = tuple[str | int, ...]  # the keys and indices that lead from a net's part to an array
Places = dict[str, Place]  # by our name of the array

SWAPPED = (1, 0, 2, 3)  # kernel axes of packages that transpose their images
LANDMARK_HEAD = ("landmarks/kernel", "landmarks/bias")
PARTS = {"kernel": "weights", "bias": "biases", "alpha": "alpha"}  # of a layer, in Caffe's terms
PRELUS: dict[NetName, str] = {
    "pnet": "prelu1 prelu2 prelu3",
    "rnet": "prelu1 prelu2 prelu3 prelu4",
    "onet": "prelu1 prelu2 prelu3 prelu4 prelu5",
}


@dataclass(frozen=True)
class Form:
    """Axis orders of the arrays; all these packages flatten in (w, h, c) order."""

    conv: tuple[int, int, int, int]  # the axes of [kh, kw, in, out] in their order
    dense: tuple[int, int] = (0, 1)  # the axes of [in, out] in their order
    flat_alphas: bool = False  # (C,) instead of (1, 1, C)

    def shape(self, key: str, natural: tuple[int, ...]) -> tuple[int, ...]:
        """The shape in the file of an array of this natural shape."""
        return self.to_file(key, np.broadcast_to(np.float32(0), natural)).shape

    def to_file(self, key: str, array: NDArray[Any]) -> NDArray[Any]:
        """A natural array in the file's axis order (but for a first dense layer's rows)."""
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
    """The layout of one package's weights.

    Args:
        owner: the package in the possessive, for messages.
        dump: serialises the content of a file.
        places: where the arrays of a net are in its part of the content.
        form: their axis orders.
        keys: of the nets' parts, where one file has all three.
        files: file names of the nets in one folder, where each net has its own file.
    """

    owner: str
    dump: Callable[[Any], bytes]
    places: Callable[[NetName], Places]
    form: Form
    keys: Mapping[NetName, str] = field(default_factory=dict)
    files: Mapping[NetName, str] = field(default_factory=dict)

    def part(self, name: NetName, trained: TrainedNet) -> Any:
        """A net in this layout: lists and dictionaries of arrays.

        Raises:
            UserError: naming the net and the first layer or array that the layout cannot hold.
        """
        refuse_unless_paper_net(self.owner, name, trained.net)
        places, arrays = self.places(name), {}
        for key, shape in shapes(PAPER_NETS[name]):
            described = f"{name}, to be written: the array {key}"
            absent = key in LANDMARK_HEAD and not trained.net.landmarks
            found = np.zeros(shape, np.float32) if absent else trained.weights.get(key)
            array = checked(found, shape, described)
            in_file = self.form.to_file(key, _swap_flattening(name, key, array))
            arrays[places[key]] = np.ascontiguousarray(in_file)
        return _nested(arrays)

    def trained(self, name: NetName, part: Any, origin: str) -> TrainedNet:
        """The net out of its part of a file.

        Raises:
            UserError: naming the first array that is missing or wrong; `origin` is the file.
        """
        places, weights = self.places(name), Weights()
        for key, shape in shapes(PAPER_NETS[name]):
            found, wanted = look_up(part, places[key]), self.form.shape(key, shape)
            described = f"{name}'s array {place_text(places[key])} ({key})"
            if found is None:
                raise UserError(f"{origin}, but {described}, float32 {wanted}, is missing.")
            array = checked(found, wanted, f"{origin}, but {described}")
            natural = self.form.from_file(key, array, shape)
            weights[key] = np.ascontiguousarray(_swap_flattening(name, key, natural))
        return _without_empty_head(TrainedNet(PAPER_NETS[name], weights))

    def count_matches(self, name: NetName, part: Any) -> int:
        """How many of a net's arrays this part has, in the right place and shape."""
        places = self.places(name)
        return sum(
            getattr(look_up(part, places[key]), "shape", None) == self.form.shape(key, shape)
            for key, shape in shapes(PAPER_NETS[name])
        )


def listed(name: NetName, heads: tuple[str, ...]) -> Places:
    """Places in a list of all arrays, layer by layer, then the heads in this order."""
    keys = [key for key, _ in shapes(PAPER_NETS[name])]
    rank = {head: place for place, head in enumerate(heads, 1)}
    keys.sort(key=lambda key: rank.get(key.partition("/")[0], 0))
    return {key: (index,) for index, key in enumerate(keys)}


def named(
    name: NetName,
    layers: Mapping[NetName, str],
    alphas: Mapping[NetName, str],
    place: Callable[[str, str], Place],
) -> Places:
    """Places by name.

    Args:
        name: which net.
        layers: of each net the layers in their order, the heads last.
        alphas: of each net the PReLUs in their order.
        place: (layer, our name of one of its arrays) -> where the array is.
    """
    names, places = iter(layers[name].split()), Places()
    alpha = iter(alphas[name].split())
    for key, _ in shapes(PAPER_NETS[name]):
        _, _, array = key.partition("/")
        if array == "kernel":
            layer = next(names)
        places[key] = place(next(alpha) if array == "alpha" else layer, array)
    return places


def look_up(content: Any, place: Place) -> Any:
    """The value at a place, or None."""
    for step in place:
        if isinstance(content, dict):
            content = content.get(step)
        elif isinstance(content, list | tuple) and isinstance(step, int):
            content = content[step] if step < len(content) else None
        else:
            return None
    return content


def place_text(place: Place) -> str:
    """A place as messages name it."""
    return "/".join(str(step) for step in place)


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


def _without_empty_head(trained: TrainedNet) -> TrainedNet:
    """The net without a landmark head of zeros, which stands for none."""
    weights = dict(trained.weights)
    head = [weights.pop(key) for key in LANDMARK_HEAD if key in weights]
    if not head or any(array.any() for array in head):
        return trained
    return TrainedNet(replace(trained.net, landmarks=False), weights)


def _swap_flattening(name: NetName, key: str, array: NDArray[Any]) -> NDArray[Any]:
    """Rows of the first dense layer from (h, w, c) to (w, h, c) order or back: its own inverse."""
    layers = PAPER_NETS[name].layers
    first_dense = next((n for n, layer in enumerate(layers, 1) if layer.dense), 0)
    if key != f"layer{first_dense}/kernel":
        return array
    channels = layers[first_dense - 2].conv or 0
    side = round((array.shape[0] / channels) ** 0.5)
    spread = array.reshape(side, side, channels, -1).transpose(1, 0, 2, 3)
    return spread.reshape(array.shape)
