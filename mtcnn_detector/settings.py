"""Settings of the detector."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from .validation import require


@dataclass(frozen=True)
class DetectorSettings:
    """Settings of the cascade; the meaning is that of the arguments of `MTCNN`."""

    min_face_size: int = 20
    scale_factor: float = 0.709
    thresholds: tuple[float, float, float] = (0.6, 0.7, 0.7)

    def __post_init__(self) -> None:
        require(self.min_face_size >= 1, "min_face_size", "must be at least 1 pixel")
        require(0 < self.scale_factor < 1, "scale_factor", "must lie between 0 and 1")
        inside = all(0 <= t < 1 for t in self.thresholds)
        require(inside, "thresholds", "must lie between 0 and 1")

    def at(self, thresholds: Sequence[float]) -> "DetectorSettings":
        """These settings with other thresholds; 0 for nets beyond them."""
        first, second, third = (*thresholds, 0.0, 0.0, 0.0)[:3]
        return replace(self, thresholds=(first, second, third))
