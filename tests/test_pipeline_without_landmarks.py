"""The whole pipeline in small on labels without landmarks: refused, then one SET, then faces."""

import json
import time
from pathlib import Path

import numpy as np
import pytest

from configs import recipe
from data_prep import sample_faces
from mtcnn_detector import MTCNN
from mtcnn_detector.weights import weight_files
from tests.test_exports_without_landmarks import shipped_without
from tests.test_pipeline import RECIPE, WEIGHTS, finish, make, pixels_of

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Scenes without a file of landmarks; a recipe whose O-Net starts without a head for them."""
    folder = tmp_path_factory.mktemp("without")
    sample_faces.compose(folder / "scenes", 14, 4, seed=3)
    for file in (folder / "scenes" / "wider_face_split").glob("retinaface*"):
        file.unlink()
    weight_files.write_own_folder(folder / "start", shipped_without())
    text = RECIPE.replace("SCENES", str(folder / "scenes"))
    text = text.replace(str(WEIGHTS), str(folder / "start"))
    (folder / "recipe.yaml").write_text(text)
    return folder


def test_from_start_to_a_detector_that_says_so(folder: Path) -> None:
    started = time.monotonic()
    refused = make("pnet-data", folder)
    output, _ = refused.communicate(timeout=120)
    assert refused.returncode != 0 and time.monotonic() - started < 60, output
    sentence = next(line for line in output.splitlines() if line.startswith("error: "))
    assert "five landmarks" in sentence and "is not there, which `make data` brings" in sentence
    pasted = f"`make train CONFIG={folder / 'recipe.yaml'} RUN={folder / 'run'} SET="
    assert f"{pasted}data.landmarks=false`" in sentence
    assert not (folder / "run" / "records").exists()

    finish(make("train", folder, "SET=data.landmarks=false"))
    kept = recipe.load(folder / "run" / "recipe.yaml")
    assert kept.onet.train.batch_fractions == (0.314286, 0.542857, 0.142857, 0)
    weights = folder / "run" / "mtcnn_weights.npy"
    assert not weight_files.read_net(weights, "onet").net.landmarks
    assert finish(make("status", folder)).count("no landmark head") == 2  # O-Net and the export
    assert "no landmark head" in finish(make("inspect", folder, f"FILE={weights}"))
    evaluated = finish(make("evaluate", folder, "AGAINST=none", "SET=data.landmarks=false"))
    assert "| scenes: landmarks | none: no head for them |" in evaluated
    images = sorted((folder / "scenes" / "WIDER_val" / "images").rglob("*.jpg"))
    faces = [face for path in images for face in MTCNN(weights).detect_faces(pixels_of(path))]
    assert len(faces) > 3
    assert all(face["keypoints"] == {} for face in faces)
    assert np.isfinite([face["box"] for face in faces]).all()
    words = [f"IMAGES={images[0]}", f"WEIGHTS={weights}", f"OUT={folder / 'drawn'}"]
    detected = finish(make("detect", folder, *words))
    rows = [json.loads(line) for line in detected.splitlines() if line.startswith('{"image"')]
    assert [face["keypoints"] for face in rows[0]["faces"]] == [{}] * len(rows[0]["faces"])
    aligned = make("detect", folder, *words, f"CROPS={folder / 'crops'}", "ALIGN=112")
    output, _ = aligned.communicate(timeout=120)
    assert aligned.returncode != 0 and "gives no landmarks, so faces cannot be aligned" in output
