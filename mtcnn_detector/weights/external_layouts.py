"""The layouts of other packages by the names that commands give them."""

from . import facenet, facenet_pytorch, ipazc
from .layout import Layout

LAYOUTS: dict[str, Layout] = {
    "ipazc": ipazc.VERSION_0_1,
    "ipazc-1.0": ipazc.VERSION_1_0,
    "ipazc-0.0": ipazc.VERSION_0_0,
    "facenet": facenet.FACENET,
    "facenet-pytorch": facenet_pytorch.FACENET_PYTORCH,
}
