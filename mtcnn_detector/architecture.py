"""Geometry of nets: shapes of their arrays, and the pixels that an output cell sees.

Also the three nets of the paper, the only ones in the layouts of other packages.
"""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any, NamedTuple

from .net import Layer, Net, NetName

NORM_EPSILON = 1e-3  # added to the variance by batch normalisation


def _conv(filters: int, kernel: int = 3) -> Layer:
    return Layer(conv=filters, kernel=kernel)


def _pool(size: int, padding: Any = "same") -> Layer:
    return Layer(pool=size, stride=2, padding=padding)


# The nets of the paper.
PAPER_NETS: dict[NetName, Net] = {
    "pnet": Net(12, (_conv(10), _pool(2), _conv(16), _conv(32)), landmarks=False),
    "rnet": Net(
        24,
        (_conv(28), _pool(3), _conv(48), _pool(3, "valid"), _conv(64, 2), Layer(dense=128)),
        landmarks=False,
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
            flat = layer.dense
        elif layer.separable:
            yield f"layer{number}/depthwise_kernel", (layer.kernel, layer.kernel, width, 1)
            yield f"layer{number}/pointwise_kernel", (1, 1, width, layer.separable)
        elif layer.conv:
            yield f"layer{number}/kernel", (layer.kernel, layer.kernel, width, layer.conv)
        width = layer.dense or layer.separable or layer.conv or width
        side = layer.outputs(side)
        if not layer.pool:
            yield from _after(layer, number, width)
    for name, outputs in net.heads.items():
        yield f"{name}/kernel", (width, outputs) if flat else (1, 1, width, outputs)
        yield f"{name}/bias", (outputs,)


def _after(layer: Layer, number: int, width: int) -> Iterator[tuple[str, tuple[int, ...]]]:
    """The arrays of a layer besides its kernel."""
    yield f"layer{number}/bias", (width,)
    if layer.norm:
        for array in ("gamma", "beta", "moving_mean", "moving_variance"):
            yield f"norm{number}/{array}", (width,)
    if layer.relu != "instead":
        yield f"prelu{number}/alpha", (width,) if layer.dense else (1, 1, width)


class CellMap(NamedTuple):
    """Along one axis: cell x, of `cells`, sees `size` pixels from `offset + stride * x` on."""

    stride: int
    offset: int
    size: int
    cells: int

    @property
    def seen(self) -> int:
        """Number of pixels from the first cell's first to the last cell's last."""
        return self.stride * (self.cells - 1) + self.size


def cell_map(net: Net, side: int) -> CellMap:
    """The pixels that a convolutional net's output cells see along a side of `side` pixels.

    Where a kernel is longer than its stride, padding starts one pixel earlier or later depending
    on whether the stride divides the side: therefore each side of an image has its own map.
    """
    stride, offset = 1, 0
    for layer in net.layers:
        if layer.padding == "same":
            padding = (layer.outputs(side) - 1) * layer.stride + layer.reach - side
            offset -= max(padding, 0) // 2 * stride
        side = layer.outputs(side)
        stride *= layer.stride
    return CellMap(stride, offset, net.sees, side)


def folded(net: Net) -> Net:
    """The description of a net after `folding.fold`."""
    return replace(net, layers=tuple(replace(x, norm=None, relu=None) for x in net.layers))


def for_crops(net: Net) -> Net:
    """The net for crops: a fully convolutional one loses its padding.

    A crop is exactly the window of one output cell. With padding, cells would see the crop's edge,
    which no cell inside an image does; without, a crop has the one cell that it has in the image.
    """
    if not net.convolutional:
        return net
    return replace(net, layers=tuple(replace(layer, padding="valid") for layer in net.layers))
