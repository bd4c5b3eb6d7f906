"""What follows from a net's settings alone, without TensorFlow: its arrays, its map to the image.

Also the three nets of the paper, which every layout of other packages holds.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

from configs.settings import Layer, Net, NetName

HEADS = {"face": 2, "box": 4, "points": 10}  # outputs; in the order in which files hold them


def _conv(filters: int, kernel: int = 3) -> Layer:
    return Layer(conv=filters, kernel=kernel)


def _pool(size: int, padding: Any = "same") -> Layer:
    return Layer(pool=size, stride=2, padding=padding)


# The nets of the paper: what ipazc's layout holds, and all that it can hold.
PAPER_NETS: dict[NetName, Net] = {
    "pnet": Net(12, (_conv(10), _pool(2), _conv(16), _conv(32)), points=False),
    "rnet": Net(
        24,
        (_conv(28), _pool(3), _conv(48), _pool(3, "valid"), _conv(64, 2), Layer(dense=128)),
        points=False,
    ),
    "onet": Net(
        48,
        (
            *(_conv(32), _pool(3), _conv(64), _pool(3, "valid")),
            *(_conv(64), _pool(2), _conv(128, 2), Layer(dense=256)),
        ),
    ),
}


def shapes(net: Net) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Name and shape of every array of a net, in the order in which files hold them."""
    side, width, flat = net.size, 3, 0
    for number, layer in enumerate(net.layers, 1):
        if layer.dense:
            flat = flat or side * side * width
            yield f"layer{number}/kernel", (flat, layer.dense)
            flat = width = layer.dense
            yield from _bias_and_alpha(number, width, (width,))
            continue
        kernel = layer.pool or layer.kernel
        side = (
            -(-side // layer.stride)
            if layer.padding == "same"
            else ((side - kernel) // layer.stride + 1)
        )
        if layer.conv:
            yield f"layer{number}/kernel", (kernel, kernel, width, layer.conv)
            width = layer.conv
            yield from _bias_and_alpha(number, width, (1, 1, width))
    for name, outputs in HEADS.items():
        if name == "points" and not net.points:
            continue
        yield f"{name}/kernel", (width, outputs) if flat else (1, 1, width, outputs)
        yield f"{name}/bias", (outputs,)


def _bias_and_alpha(
    number: int, width: int, alpha: tuple[int, ...]
) -> Iterator[tuple[str, tuple[int, ...]]]:
    yield f"layer{number}/bias", (width,)
    yield f"prelu{number}/alpha", alpha


class CellMap(NamedTuple):
    """Output cell x sees the input pixels from `offset + stride * x`, `size` of them."""

    stride: int
    offset: int
    size: int


def cell_map(net: Net) -> CellMap:
    """What a fully convolutional net's output cells see, derived from its layers."""
    stride, offset, size = 1, 0, 1
    for layer in net.layers:
        kernel = layer.pool or layer.kernel
        before = max(kernel - layer.stride, 0) // 2 if layer.padding == "same" else 0
        offset -= before * stride
        size += (kernel - 1) * stride
        stride *= layer.stride
    return CellMap(stride, offset, size)


def is_convolutional(net: Net) -> bool:
    """Whether the net runs over whole pictures, as P-Net does."""
    return all(layer.dense is None for layer in net.layers)
