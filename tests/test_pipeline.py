"""The whole pipeline in small, as a user types it: `make train`, Ctrl-C, again, `make evaluate`.

Twenty composed scenes, twenty steps for each net from our own weights. Everything that the test
looks at is made by one pass over all stages, the fixture `run`.
"""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from data_prep import annotations, sample_faces
from mtcnn_detector import MTCNN
from mtcnn_detector.boxes import FloatArray, iou
from mtcnn_detector.net import NETS, NetName
from mtcnn_detector.pixels import Image, read_image
from mtcnn_detector.weights import weight_files

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]
WEIGHTS = ROOT / "weights" / "mtcnn_weights.npy"
CONSUMER = ROOT / ".consumers" / "mtcnn-0.1.1"
STAGES = [*(f"records/{net}" for net in NETS), *NETS]  # folders with a manifest
STEPS = 20
VALIDATION_SCENES = 8

RECIPE = f"""
base: {ROOT}/configs/demo.yaml
data: {{folder: SCENES}}
pnet:
  records: {{negatives_per_image: 20, negatives_per_face: 5}}
  train: {{init: {WEIGHTS}, steps: {STEPS}, batch: 64, steps_per_epoch: 10, warmup_steps: 5}}
rnet:
  records: {{positives_per_face: 10, landmarks_per_face: 5}}
  train: {{init: {WEIGHTS}, steps: {STEPS}, batch: 64, steps_per_epoch: 10, warmup_steps: 5}}
onet:
  records: {{positives_per_face: 10, landmarks_per_face: 5}}
  train: {{init: {WEIGHTS}, steps: {STEPS}, batch: 64, steps_per_epoch: 10, warmup_steps: 5}}
"""


class Run(NamedTuple):
    """A run's folder and what its commands printed."""

    folder: Path
    scenes: Path
    interrupted: str
    resumed: str
    evaluated: str


def make(target: str, folder: Path, *variables: str) -> subprocess.Popen[str]:
    """Start `make` in a process group of its own, with the Python that runs the tests."""
    (folder / "ready").touch()  # newer than pyproject.toml: nothing is installed
    command = ["make", "--no-print-directory", "-C", str(ROOT), target, "WORKERS=2"]
    command += [f"VENV={sys.prefix}", f"READY={folder / 'ready'}", f"RUN={folder / 'run'}"]
    return subprocess.Popen(
        [*command, f"CONFIG={folder / 'recipe.yaml'}", *variables],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        env={name: value for name, value in os.environ.items() if not name.startswith("MAKE")},
    )


def interrupt_when(path: Path, process: subprocess.Popen[str]) -> str:
    """Press Ctrl-C as soon as a file is there; the output."""
    end = time.monotonic() + 300
    while not path.exists() and process.poll() is None and time.monotonic() < end:
        time.sleep(0.02)
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGINT)
    output, _ = process.communicate(timeout=60)
    assert path.exists() and process.returncode != 0, output[-3000:]
    return output


def finish(process: subprocess.Popen[str]) -> str:
    output, _ = process.communicate(timeout=600)
    assert process.returncode == 0, output[-3000:]
    return output


def complete(folder: Path) -> bool:
    manifest = folder / "manifest.json"
    return manifest.is_file() and bool(json.loads(manifest.read_text())["complete"])


def windows(boxes: Sequence[Sequence[float]]) -> FloatArray:
    """x y width height -> (N, 4) float32 corners."""
    array = np.array(boxes, np.float32).reshape(-1, 4)
    array[:, 2:] += array[:, :2]
    return array


def pixels_of(path: Path) -> Image:
    image = read_image(path)
    assert image is not None, path
    return image


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("pipeline")
    sample_faces.compose(folder / "scenes", 20, VALIDATION_SCENES, seed=3)
    recipe = RECIPE.replace("SCENES", str(folder / "scenes"))
    (folder / "recipe.yaml").write_text(recipe)
    first = make("train", folder)
    interrupted = interrupt_when(folder / "run" / "rnet" / "manifest.json", first)
    assert [complete(folder / "run" / s) for s in ("pnet", "rnet", "records/onet")] == [1, 0, 0]
    resumed = finish(make("train", folder))
    evaluated = finish(make("evaluate", folder, "AGAINST=none"))
    return Run(folder / "run", folder / "scenes", interrupted, resumed, evaluated)


def test_a_ctrl_c_ends_the_command_without_a_traceback(run: Run) -> None:
    assert "Traceback" not in run.interrupted
    assert "train-rnet: recall" not in run.interrupted, "it came before the training's end"


def test_the_same_command_again_does_only_what_is_left(run: Run) -> None:
    for stage in ("pnet-data", "train-pnet", "rnet-data"):
        assert f"{stage}: " in run.resumed
        assert "nothing to do" in run.resumed.split(f"{stage}: ")[1].splitlines()[0], stage
    assert "nothing to do" not in run.resumed.split("train-rnet: ")[-1]
    assert all(complete(run.folder / stage) for stage in STAGES)


@pytest.mark.parametrize("net", NETS)
def test_every_net_was_trained_for_all_of_its_steps(run: Run, net: NetName) -> None:
    with (run.folder / net / "log.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == STEPS // 10
    assert all(np.isfinite(float(row["loss"])) for row in rows)
    trained = weight_files.read(run.folder / net / "weights.npz")[net].weights
    before = weight_files.read(WEIGHTS)[net].weights
    moved = [np.abs(trained[key] - value).max() for key, value in before.items()]
    assert 0 < max(moved) < 0.5, "a fine-tuning moves weights a little"


def test_the_later_nets_learn_from_what_the_nets_before_them_find(run: Run) -> None:
    """Negatives of R-Net and O-Net come from mining; windows at random are P-Net's alone."""
    for net in NETS:
        manifest = json.loads((run.folder / "records" / net / "manifest.json").read_text())
        counts = manifest["counts"]["train"]
        assert all(counts[kind] > 0 for kind in ("positive", "negative", "part", "landmark")), net


def test_the_real_package_finds_the_faces_with_the_exported_weights(run: Run) -> None:
    """In a process of its own, as TensorFlow's state is global; compared with our detector."""
    if not (CONSUMER / "mtcnn").is_dir():
        pytest.skip(f"{CONSUMER.relative_to(ROOT)} is not there: `make consumers` installs it")
    images = sorted((run.scenes / "WIDER_val" / "images").rglob("*.jpg"))
    weights = str(run.folder / "mtcnn_weights.npy")
    code = (
        "import json, sys; sys.path[:0] = sys.argv[1:3]\n"
        "from mtcnn import MTCNN; from mtcnn_detector.pixels import Image, read_image\n"
        "from pathlib import Path\n"
        "detector = MTCNN(weights_file=sys.argv[3])\n"
        "faces = [detector.detect_faces(read_image(Path(path))) for path in sys.argv[4:]]\n"
        "print('RESULT', json.dumps([[face['box'] for face in found] for found in faces]))"
    )
    command = [sys.executable, "-c", code, str(CONSUMER), str(ROOT), weights, *map(str, images)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout.split("RESULT")[1])
    detector = MTCNN(weights)
    for path, boxes in zip(images, found, strict=True):
        ours = [face["box"] for face in detector.detect_faces(pixels_of(path))]
        overlaps = iou(windows(ours), windows(boxes))
        # Sums of another order may decide otherwise on a window that all but ties with another.
        assert overlaps.shape[0] == overlaps.shape[1]
        assert (overlaps.max(axis=1, initial=0) > 0.8).all()


def test_the_faces_of_people_never_seen_are_found(run: Run) -> None:
    labels = run.scenes / "wider_face_split" / "wider_face_val_bbx_gt.txt"
    detector = MTCNN(run.folder / "mtcnn_weights.npy")
    found = total = 0
    for labelled in annotations.read("wider", labels, run.scenes / "WIDER_val" / "images"):
        boxes = [face["box"] for face in detector.detect_faces(pixels_of(labelled.image))]
        overlaps = iou(labelled.boxes, windows(boxes))
        total += len(overlaps)
        found += int((overlaps.max(axis=1, initial=0) > 0.5).sum())
    assert total >= 10
    assert found / total > 0.8


def test_the_report_has_its_figures_and_pictures(run: Run) -> None:
    folder = run.folder / "evaluation"
    page = (folder / "run-scenes.html").read_text(encoding="utf-8")
    assert "<html" in page and "detections" in page
    assert str(folder / "run-scenes.html") in run.evaluated
    assert pixels_of(folder / "run-scenes.jpg").size > 0
    assert "AP" in (folder / "run-scenes.md").read_text(encoding="utf-8")
