"""Weights files of FaceNet's `src/align`: `det1.npy`, `det2.npy` and `det3.npy`."""

from ..net import NetName
from . import serialization
from .layout import PARTS, PRELUS, SWAPPED, Form, Layout, Places, named

LAYERS: dict[NetName, str] = {
    "pnet": "conv1 conv2 conv3 conv4-1 conv4-2",
    "rnet": "conv1 conv2 conv3 conv4 conv5-1 conv5-2",
    "onet": "conv1 conv2 conv3 conv4 conv5 conv6-1 conv6-2 conv6-3",
}
ALPHAS: dict[NetName, str] = {**PRELUS, "pnet": "PReLU1 PReLU2 PReLU3"}


def _places(name: NetName) -> Places:
    return named(name, LAYERS, ALPHAS, lambda layer, array: (layer, PARTS[array]))


FACENET = Layout(
    "FaceNet's (src/align)",
    serialization.dump_npy,
    _places,
    Form(SWAPPED, flat_alphas=True),
    files={"pnet": "det1.npy", "rnet": "det2.npy", "onet": "det3.npy"},
)
