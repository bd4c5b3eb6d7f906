"""Weights files of facenet-pytorch: a torch state dict for each net."""

from ..net import NETS, NetName
from . import torch_files
from .layout import PRELUS, Form, Layout, Places, named

LAYERS: dict[NetName, str] = {
    "pnet": "conv1 conv2 conv3 conv4_1 conv4_2",
    "rnet": "conv1 conv2 conv3 dense4 dense5_1 dense5_2",
    "onet": "conv1 conv2 conv3 conv4 dense5 dense6_1 dense6_2 dense6_3",
}
PARTS = {"kernel": "weight", "bias": "bias", "alpha": "weight"}


def _places(name: NetName) -> Places:
    return named(name, LAYERS, PRELUS, lambda layer, array: (f"{layer}.{PARTS[array]}",))


FACENET_PYTORCH = Layout(
    "facenet-pytorch's",
    torch_files.dump_torch,
    _places,
    Form((3, 2, 0, 1), (1, 0), flat_alphas=True),
    files={name: f"{name}.pt" for name in NETS},
)
