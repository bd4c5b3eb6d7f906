"""Objects that are no faces: plates, four times as wide as high, from labels to boxes."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from configs import recipe
from data_prep import build_records
from evaluation import recall
from mtcnn_detector import MTCNN
from mtcnn_detector.boxes import FloatArray, iou
from mtcnn_detector.net import NETS
from mtcnn_detector.pixels import read_image
from tests import plates
from train import loop

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]
RECIPE = f"""
base: {ROOT}/configs/mtcnn.yaml
data:
  folder: FOLDER
  object: plate
  landmarks: false
  train: {{plates: {{format: coco, labels: labels.json, images: images}}}}
  validation: {{}}
pnet:
  train: {{steps: 600, batch: 256, warmup_steps: 50, steps_per_epoch: 200, ema_decay: 0.98}}
rnet:
  records: {{mined_negatives_per_image: 40}}
  train: {{steps: 400, batch: 128, warmup_steps: 40, steps_per_epoch: 200, ema_decay: 0.98}}
onet:
  records: {{mined_negatives_per_image: 20}}
  train: {{steps: 250, batch: 64, warmup_steps: 30, steps_per_epoch: 125, ema_decay: 0.98}}
"""


def corners(boxes: Sequence[Sequence[float]]) -> FloatArray:
    """x y width height -> (N, 4) corners."""
    array = np.array(boxes, float).reshape(-1, 4)
    array[:, 2:] += array[:, :2]
    return array


def test_plates_are_found_by_nets_that_saw_nothing_else(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plates.compose(tmp_path, 70, seed=1)
    config, run = tmp_path / "plates.yaml", tmp_path / "run"
    config.write_text(RECIPE.replace("FOLDER", str(tmp_path)))
    settings = recipe.load(config)
    for name in NETS:
        build_records.prepare(settings, name, run, workers=1, force=False)
        loop.train(settings, name, run, force=False)
        recall.write_report(settings, name, run)
        # Crops are compared with the square about a plate, or none would survive P-Net and R-Net.
        survival = json.loads((run / name / "recall.json").read_text())
        assert survival["survival"] > 0.8, (name, capsys.readouterr().out)
        text = (run / name / "recall.md").read_text()
        assert text.startswith("Plates of ") and "face" not in text
    detector = MTCNN(run, min_face_size=30)
    found, ratios, labelled = 0, [], 0
    plates.compose(tmp_path / "new", 20, seed=2)
    content = json.loads((tmp_path / "new" / "labels.json").read_text())
    for entry in content["images"]:
        image = read_image(tmp_path / "new" / "images" / entry["file_name"])
        assert image is not None
        true = [one["bbox"] for one in content["annotations"] if one["image_id"] == entry["id"]]
        boxes = [one["box"] for one in detector.detect_faces(image)]
        overlap = iou(corners(true), corners(boxes)).max(axis=1, initial=0)
        found, labelled = found + int((overlap >= 0.5).sum()), labelled + len(true)
        ratios += [width / height for _, _, width, height in boxes]
    assert found > 0.7 * labelled, f"{found} of {labelled}"
    assert 3 < np.median(ratios) < 5
