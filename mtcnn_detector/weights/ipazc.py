"""Weights files of ipazc's `mtcnn`: versions 0.1.x, 1.0.0 and 0.0.x."""

from ..net import NETS, NetName
from . import serialization
from .layout import PARTS, PRELUS, SWAPPED, Form, Layout, Places, listed, named

LAYERS: dict[NetName, str] = {
    "pnet": "conv1 conv2 conv3 conv4-1 conv4-2",
    "rnet": "conv1 conv2 conv3 fc1 fc2-1 fc2-2",
    "onet": "conv1 conv2 conv3 conv4 fc1 fc2-1 fc2-2 fc2-3",
}


def _by_layer(name: NetName) -> Places:
    return named(name, LAYERS, PRELUS, lambda layer, array: (layer, PARTS[array]))


VERSION_0_1 = Layout(
    "ipazc's (mtcnn 0.1.x)",
    serialization.dump_npy,
    lambda name: listed(name, ("cls", "box", "landmarks")),
    Form(SWAPPED),
    keys={name: name for name in NETS},
)
VERSION_1_0 = Layout(
    "ipazc's (mtcnn 1.0.0)",
    serialization.dump_lz4,
    lambda name: listed(name, ("box", "landmarks", "cls")),
    Form((0, 1, 2, 3)),
    files={name: f"{name}.lz4" for name in NETS},
)
VERSION_0_0 = Layout(
    "ipazc's (mtcnn 0.0.x)",
    serialization.dump_npy,
    _by_layer,
    Form(SWAPPED, flat_alphas=True),
    keys={"pnet": "PNet", "rnet": "RNet", "onet": "ONet"},
)
