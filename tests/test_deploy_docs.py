"""The snippets of docs/deploy.md run as they stand there and find the face of a photograph."""

import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from export.formats import FORMATS
from mtcnn_detector import MTCNN, pixels
from mtcnn_detector.weights import weight_files
from tests.pictures import photographs
from tests.test_consumers import CONSUMERS

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[1]
WEIGHTS = ROOT / "weights" / "mtcnn_weights.npy"
TEXT = (ROOT / "docs" / "deploy.md").read_text(encoding="utf-8")
SNIPPETS = re.findall(r"<!-- run with: (\S+) -->\n```python\n(.*?)```", TEXT, flags=re.DOTALL)
EXPORTS = ["ipazc", "ipazc-1.0", "facenet-pytorch", "onnx", "tflite", "savedmodel-cascade"]
# Faces as the packages return them -> boxes x1 y1 x2 y2; nothing of snippets that find none.
REPORT = """
import json
if "faces" in globals():
    boxes = [[x, y, x + w, y + h] for x, y, w, h in (face["box"] for face in faces)]
if "boxes" in globals():
    print(json.dumps([[float(value) for value in box] for box in boxes]))
"""


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a photograph and the exports of our weights in runs/mtcnn."""
    if not photographs():
        pytest.skip("needs scikit-image's photograph")
    folder = tmp_path_factory.mktemp("deploy")
    pixels.write_image(folder / "photograph.jpg", next(iter(photographs().values())))
    nets = weight_files.read(WEIGHTS)
    for name in EXPORTS:
        if name == "onnx" and importlib.util.find_spec("onnx") is None:
            continue
        FORMATS[name].write(folder / "runs" / "mtcnn" / FORMATS[name].target, nets, {})
    return folder


@pytest.fixture(scope="module")
def expected(home: Path) -> np.ndarray[Any, Any]:
    """Boxes of our detector, x1 y1 x2 y2."""
    image = pixels.read_image(home / "photograph.jpg")
    assert image is not None
    faces = MTCNN(WEIGHTS).detect_faces(image)
    assert len(faces) == 1
    x, y, width, height = faces[0]["box"]
    return np.array([[x, y, x + width, y + height]])


def search_path(package: str) -> list[str]:
    """Folders to import from; skips where the package is not installed."""
    if "facenet" in package and importlib.util.find_spec("torchvision") is None:
        pytest.skip("torchvision, which facenet-pytorch imports, is not installed")
    if (CONSUMERS / package).is_dir():
        return [str(CONSUMERS / package)]
    if "-" in package or importlib.util.find_spec(package) is None:
        pytest.skip(f"{package} is not installed")
    return [str(ROOT)] if package == "openvino" else []  # ours alone runs with OpenVINO


@pytest.mark.parametrize("number", range(len(SNIPPETS)), ids=[name for name, _ in SNIPPETS])
def test_a_snippet_finds_the_face(home: Path, expected: np.ndarray[Any, Any], number: int) -> None:
    package, code = SNIPPETS[number]
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join(search_path(package)),
        "TF_CPP_MIN_LOG_LEVEL": "3",
    }
    command = [sys.executable, "-P", "-c", code + REPORT]
    done = subprocess.run(command, cwd=home, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-1500:]
    if not re.search(r"^(faces|boxes)\b", code, flags=re.MULTILINE):
        assert "score" in done.stdout or "(5,) (5, 4)" in done.stdout
        return
    boxes = np.array(json.loads(done.stdout.splitlines()[-1]))
    # facenet-pytorch and mtcnn 1.0.0 take other crops than 0.1.1, some pixels off.
    np.testing.assert_allclose(boxes, expected, atol=8)


def test_every_format_is_listed() -> None:
    for name, export_format in FORMATS.items():
        assert re.search(
            rf"^\| `{re.escape(name)}`.*`{export_format.target}/?`", TEXT, re.MULTILINE
        )
    assert len(SNIPPETS) >= 10
