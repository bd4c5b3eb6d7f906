"""A trained net as everything in here holds it, and what is asked of its arrays.

Inside the project weights are *natural*: a dictionary from `<layer>/<array>` to float32 arrays,
kernels [kh, kw, in, out], dense rows in (h, w, c) order, as Keras holds them.
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
    """A net's settings and its natural weights."""

    net: Net
    weights: Weights


def checked(given: Any, shape: tuple[int, ...], what: str) -> NDArray[np.float32]:
    """An array as float32, if it is one of finite numbers and of this shape.

    Raises:
        UserError: it is not; `what` names it in the sentence.
    """
    if not isinstance(given, np.ndarray) or given.shape != shape or given.dtype.kind != "f":
        array = isinstance(given, np.ndarray)
        found = f"{given.dtype} {given.shape}" if array else type(given).__name__
        raise UserError(f"{what} should be float32 {shape}; it is {found}.")
    with np.errstate(over="ignore"):  # becomes infinite, which is refused
        held = np.asarray(given, np.float32)
    if not np.isfinite(held).all():
        raise UserError(f"{what} holds values that are not finite numbers.")
    return held


def refuse_unless_paper_net(whose: str, name: NetName, net: Net) -> None:
    """Say which layer when a net is not the paper's, which is all that other packages build.

    Raises:
        UserError: naming the layer; `whose` layout is to hold the net.
    """
    wanted = PAPER_NETS[name]
    if net.size != wanted.size:
        raise UserError(
            f"{whose} layout holds a {name} of {wanted.size} pixels, not {net.size}; our own "
            "layout and the deployment formats hold any net."
        )
    for number, (given, held) in enumerate(zip(net.layers, wanted.layers, strict=False), 1):
        if given != held:
            raise UserError(
                f"{whose} layout cannot hold {name}.layer{number}: {_told(given)}, "
                f"it needs {_told(held)}."
            )
    if len(net.layers) > len(wanted.layers):
        number = len(wanted.layers) + 1
        raise UserError(
            f"{whose} layout cannot hold {name}.layer{number}: {_told(net.layers[number - 1])}; "
            f"it has {number - 1} layers there."
        )
    if len(net.layers) < len(wanted.layers):
        raise UserError(
            f"{whose} layout holds {len(wanted.layers)} layers in {name}, not {len(net.layers)}."
        )


def _told(layer: Layer) -> str:
    return ", ".join(f"{key} {value}" for key, value in asdict(layer).items() if value is not None)
