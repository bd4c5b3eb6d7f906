"""The description of a net: input size, layers and heads."""

from dataclasses import dataclass
from typing import Literal

from .validation import require

NetName = Literal["pnet", "rnet", "onet"]
NETS: tuple[NetName, ...] = ("pnet", "rnet", "onet")  # the order of the cascade
HEADS = {"cls": 2, "box": 4, "landmarks": 10}  # widths, in the order of files


@dataclass(frozen=True)
class Layer:
    """One layer of a net: exactly one of `conv`, `separable`, `pool`, `dense` is set.

    All but a pool are followed by batch normalisation, if `norm` is set, and by PReLU.
    """

    conv: int | None = None
    separable: int | None = None  # a depthwise convolution, then a pointwise one, as one layer
    pool: int | None = None
    dense: int | None = None
    kernel: int = 3
    stride: int = 1
    padding: Literal["valid", "same"] = "valid"
    norm: Literal["batch"] | None = None
    relu: Literal["before", "instead"] | None = None  # an extra ReLU before PReLU, or in its place

    def __post_init__(self) -> None:
        kinds = ("conv", "separable", "pool", "dense")
        kind = [key for key in kinds if getattr(self, key) is not None]
        problem = "separable, pool or dense: a layer is exactly one of the four"
        require(len(kind) == 1, "conv", problem)
        require(getattr(self, kind[0]) >= 1, kind[0], "must be at least 1")
        require(self.kernel >= 1 and self.stride >= 1, "kernel", "and stride must be at least 1")
        plain = self.norm is None and self.relu is None
        require(not self.pool or plain, "pool", "has neither norm nor relu")

    @property
    def reach(self) -> int:
        """Size in one direction of the window of inputs that an output sees."""
        return self.pool or self.kernel

    def outputs(self, side: int) -> int:
        """Number of outputs along a side of `side` inputs; 0 where they are too few."""
        if self.padding == "same":
            return -(-side // self.stride)
        return max((side - self.reach) // self.stride + 1, 0)


@dataclass(frozen=True)
class Net:
    """A net of the cascade: its input size in pixels and its layers before the heads."""

    size: int
    layers: tuple[Layer, ...]
    landmarks: bool = True  # a landmark head; P-Net's and R-Net's serve training only

    def __post_init__(self) -> None:
        require(self.size >= 8, "size", "must be at least 8 pixels")
        require(bool(self.layers), "layers", "cannot be empty")
        side, flat = self.size, False
        for number, layer in enumerate(self.layers, 1):
            flat = flat or layer.dense is not None
            ordered = not flat or layer.dense is not None
            require(ordered, "layers", f"may only go on with dense ones, but layer{number} is none")
            side = 1 if flat else layer.outputs(side)
            problem = f"leave nothing of {self.size} pixels after layer{number}: raise size"
            require(side > 0 or self.convolutional, "layers", problem)

    @property
    def convolutional(self) -> bool:
        """Whether the net is fully convolutional and runs on whole images, as P-Net does."""
        return all(layer.dense is None for layer in self.layers)

    @property
    def sees(self) -> int:
        """Receptive field of the convolutions: side of the square that one output depends on."""
        side = 1
        for layer in reversed(self.layers):
            side = side if layer.dense else (side - 1) * layer.stride + layer.reach
        return side

    @property
    def heads(self) -> dict[str, int]:
        """Names and widths of its heads."""
        return {
            name: width for name, width in HEADS.items() if name != "landmarks" or self.landmarks
        }

    @property
    def named(self) -> dict[str, Layer]:
        """The layers with weights, by their names: `layer<number>`, counted from 1."""
        numbered = enumerate(self.layers, 1)
        return {f"layer{number}": layer for number, layer in numbered if not layer.pool}
