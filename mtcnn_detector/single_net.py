"""One net on one crop: its raw outputs, and box and landmarks decoded from them."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from . import boxes, pixels
from .architecture import for_crops
from .backend import CompiledNet
from .detector import LANDMARKS
from .net import NetName
from .weights import weight_files


@dataclass(frozen=True)
class CropPrediction:
    """Outputs of a net for a crop, raw and decoded to pixels of the crop."""

    probability: float
    offsets: tuple[float, ...]  # 4, in the net's frame (see `boxes.FRAMES`)
    box: tuple[float, ...]  # x1 y1 x2 y2 in the crop
    fractions: tuple[float, ...]  # 10: x1..x5, y1..y5; none of a net without landmarks
    landmarks: tuple[tuple[float, float], ...]  # 5 points in the crop, or none

    def __str__(self) -> str:
        lines = [
            f"  face    {self.probability:.4f}: probability that this is a face",
            f"  box     {_row(self.offsets, 4)}: offsets of the face's corners from the crop's",
            f"          {_row(self.box, 1)}: x1 y1 x2 y2 of the face in the crop, pixels",
        ]
        if self.landmarks:
            lines.append(
                f"  landmarks  {_row(self.fractions, 3)}: five x, five y, shares of the crop"
            )
        for name, (x, y) in zip(LANDMARKS, self.landmarks, strict=False):
            lines.append(f"          {x:.1f} {y:.1f}: {name.replace('_', ' ')}, pixels of the crop")
        return "\n".join(lines)


def _row(values: tuple[float, ...], digits: int) -> str:
    return " ".join(f"{value:.{digits}f}" for value in values)


def load(name: NetName, weights: Path) -> CompiledNet:
    """A net from any weights file that has it, compiled for crops.

    Raises:
        UserError: the file cannot be read, or has no such net.
    """
    trained = weight_files.read_net(weights, name)
    return CompiledNet(
        name, trained._replace(net=for_crops(trained.net))
    )  # P-Net: one cell, without padding


def predict_crop(engine: CompiledNet, crop: pixels.Image) -> CropPrediction:
    """Predict on one (H, W, 3) RGB crop, resized to the net's input as in the detector."""
    size = engine.net.size
    outputs = engine(pixels.resize(crop.astype(np.float32), size, size)[None])
    offsets = outputs.box.reshape(4).astype(np.float64)
    height, width = crop.shape[:2]
    window = np.array([[0.0, 0, width, height]])
    sides = np.array([[width, height, width, height]], np.float64)
    box = window + boxes.face_offsets(engine.name, offsets[None], sides) * sides
    fractions, landmarks = np.zeros(0), np.zeros((0, 2))
    if outputs.landmarks is not None:
        fractions = outputs.landmarks.reshape(10).astype(np.float64)
        landmarks = boxes.decode_landmarks(fractions[None], window)[0]
    return CropPrediction(
        float(outputs.score.reshape(())),
        tuple(offsets.tolist()),
        tuple(box[0].tolist()),
        tuple(fractions.tolist()),
        tuple((x, y) for x, y in landmarks.tolist()),
    )
