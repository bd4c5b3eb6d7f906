"""Face detection with MTCNN weights: pixels and a weights file in, faces out."""

from .align import align
from .detector import MTCNN
from .errors import UserError

__all__ = ["MTCNN", "UserError", "align"]
