"""Finds faces with MTCNN weights: pixels and a weights file in, faces out."""

from mtcnn_detector.detector import MTCNN as MTCNN
