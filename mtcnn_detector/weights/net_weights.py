"""Trained nets: a description and its *natural* weights, and the checks of these.

Natural weights are a dictionary from `<layer>/<array>` to float32 arrays: kernels
[kh, kw, in, out], dense kernels [in, out] with rows in (h, w, c) order, as in Keras.
"""

from dataclasses import asdict
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..architecture import PAPER_NETS
from ..errors import UserError
from ..net import Layer, Net, NetName

Weights = dict[str, NDArray[np.float32]]


class TrainedNet(NamedTuple):
    """A net's description and its natural weights."""

    net: Net
    weights: Weights


def checked(value: Any, shape: tuple[int, ...], description: str) -> NDArray[np.float32]:
    """The value as a float32 array, if it is a float array of finite numbers and of this shape.

    Raises:
        UserError: it is not; `description` names it in the message.
    """
    if not isinstance(value, np.ndarray) or value.shape != shape or value.dtype.kind != "f":
        is_array = isinstance(value, np.ndarray)
        found = f"{value.dtype} {value.shape}" if is_array else type(value).__name__
        raise UserError(f"{description} should be float32 {shape}; it is {found}.")
    with np.errstate(over="ignore"):  # becomes infinite, which is refused
        array = np.asarray(value, np.float32)
    if not np.isfinite(array).all():
        raise UserError(f"{description} holds values that are not finite numbers.")
    return array


def refuse_unless_paper_net(owner: str, name: NetName, net: Net) -> None:
    """Refuse a net that is not the paper's, the only ones that other packages build.

    Raises:
        UserError: naming the first layer that differs; `owner` is the package, possessive.
    """
    wanted = PAPER_NETS[name]
    if net.size != wanted.size:
        raise UserError(
            f"{owner} layout holds a {name} of {wanted.size} pixels, not {net.size}; our own "
            "layout and the deployment formats hold any net."
        )
    for number, (layer, paper) in enumerate(zip(net.layers, wanted.layers, strict=False), 1):
        if layer != paper:
            raise UserError(
                f"{owner} layout cannot hold {name}.layer{number}: {_text(layer)}, "
                f"it needs {_text(paper)}."
            )
    if len(net.layers) > len(wanted.layers):
        number = len(wanted.layers) + 1
        raise UserError(
            f"{owner} layout cannot hold {name}.layer{number}: {_text(net.layers[number - 1])}; "
            f"it has {number - 1} layers there."
        )
    if len(net.layers) < len(wanted.layers):
        raise UserError(
            f"{owner} layout holds {len(wanted.layers)} layers in {name}, not {len(net.layers)}."
        )


def _text(layer: Layer) -> str:
    return ", ".join(f"{key} {value}" for key, value in asdict(layer).items() if value is not None)
