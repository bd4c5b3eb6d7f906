"""Reads label files in tests, and compares what was read with the scenes."""

from pathlib import Path
from typing import Any

import numpy as np

from data_prep.annotations import Annotation, LabelSet, read_labels
from data_prep.label_request import LabelRequest
from tests.label_files import SCENES, points


def read(labels: Path, images: Path, format: str = "auto", **more: Any) -> LabelSet:
    found = read_labels(LabelRequest(format, (labels,), images, source="own", **more))
    found.require_whole()
    return found


def by_name(labels: LabelSet) -> dict[str, Annotation]:
    return {one.key.removeprefix("own/"): one for one in labels.annotations}


def check(labels: LabelSet, landmarks: bool) -> None:
    """The annotations are those of the scenes."""
    found = by_name(labels)
    assert found.keys() == {scene.name for scene in SCENES}
    for scene in SCENES:
        wanted = [[x, y, x + w, y + h] for x, y, w, h in scene.boxes]
        one = found[scene.name]
        assert one.image.is_file() and not one.upright
        np.testing.assert_allclose(one.boxes, np.reshape(wanted, (-1, 4)), atol=1e-3)
        assert not one.ignored.any()
        five = np.reshape([points(box) for box in scene.boxes], (-1, 5, 2))
        if landmarks:
            np.testing.assert_allclose(one.landmarks, five, atol=2e-3)
        else:
            assert np.isnan(one.landmarks).all()


def lenient(labels: Path, images: Path, format: str = "auto") -> LabelSet:
    return read_labels(LabelRequest(format, (labels,), images, source="own"))
