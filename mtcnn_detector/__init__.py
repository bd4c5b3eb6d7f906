"""Face detection with MTCNN weights: pixels and a weights file in, faces out."""

from .detector import MTCNN
from .errors import UserError

__all__ = ["MTCNN", "UserError"]
