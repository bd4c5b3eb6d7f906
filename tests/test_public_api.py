"""The public class: arguments are checked, it works across threads and processes, and is silent."""

import multiprocessing
import pickle
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import openvino as ov
import pytest

from mtcnn_detector import MTCNN, UserError, backend
from mtcnn_detector.net import NETS
from mtcnn_detector.weights import weight_files
from tests.weights_files import lively

ROOT = Path(__file__).parents[1]
EAGER = (0.3, 0.3, 0.3)
IMAGE = np.random.default_rng(0).integers(0, 256, (90, 120, 3), np.uint8)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "mtcnn_weights.npy"
    weight_files.write("ipazc", path, {name: lively(name, 5 + i) for i, name in enumerate(NETS)})
    return path


@pytest.fixture(scope="module")
def detector(weights: Path) -> MTCNN:
    return MTCNN(weights, steps_threshold=EAGER)


@pytest.mark.parametrize(
    ("arguments", "error", "sentence"),
    [
        ({"weights_file": None}, TypeError, "weights_file must be the path"),
        ({"weights_file": 3}, TypeError, "weights_file must be the path"),
        ({"weights_file": 300 * "a"}, UserError, "weights_file a+ cannot be read: File name too"),
        ({"min_face_size": "20"}, TypeError, "min_face_size must be a number, not str"),
        ({"min_face_size": None}, TypeError, "min_face_size must be a number"),
        ({"min_face_size": True}, TypeError, "min_face_size must be a number"),
        ({"min_face_size": [20]}, TypeError, "min_face_size must be a number"),
        ({"min_face_size": 0}, ValueError, "min_face_size must be at least 1 pixel; got 0"),
        ({"min_face_size": float("nan")}, ValueError, "min_face_size must be a finite number"),
        ({"scale_factor": 1}, ValueError, "scale_factor must lie between 0 and 1"),
        ({"scale_factor": 0.0}, ValueError, "scale_factor must lie between 0 and 1"),
        ({"scale_factor": "0.7"}, TypeError, "scale_factor must be a number"),
        ({"steps_threshold": 0.6}, TypeError, "steps_threshold must be three numbers"),
        ({"steps_threshold": np.array(0.6)}, TypeError, "steps_threshold must be three numbers"),
        ({"steps_threshold": "0.6"}, TypeError, "steps_threshold must be three numbers"),
        ({"steps_threshold": (0.6, 0.7)}, ValueError, "three numbers.*got 2"),
        ({"steps_threshold": (0.6, 0.7, 0.7, 0.7)}, ValueError, "three numbers.*got 4"),
        ({"steps_threshold": (0.6, 0.7, 1)}, ValueError, "steps_threshold must lie between"),
        ({"steps_threshold": (0.6, None, 0.7)}, TypeError, "steps_threshold must be a number"),
        ({"precision": "half"}, ValueError, 'must be "exact" or "fast"; got \'half\''),
    ],
)
def test_bad_arguments_are_refused_in_one_sentence(
    weights: Path, arguments: dict[str, Any], error: type[Exception], sentence: str
) -> None:
    with pytest.raises(error, match=sentence) as caught:
        MTCNN(**{"weights_file": weights, **arguments})
    assert str(caught.value).endswith(".")
    assert "\n" not in str(caught.value)


def test_numbers_of_numpy_and_fractions_are_accepted(weights: Path) -> None:
    plain = MTCNN(weights, 30, EAGER, 0.5)
    others = MTCNN(str(weights), np.int64(30), np.array(EAGER), np.float64(0.5))
    assert others.detect_faces(IMAGE) == plain.detect_faces(IMAGE)
    assert isinstance(MTCNN(weights, 20.5).detect_faces(IMAGE), list)


class _Tensor:
    shape, dtype = (3, 4, 4), "torch.float32"


_Tensor.__module__ = "torch"

FLOATS = np.full((4, 5, 3), 0.5)


@pytest.mark.parametrize(
    ("image", "line"),
    [
        (FLOATS, "(image * 255).round().astype(numpy.uint8)"),
        (FLOATS * 400, "image.round().astype(numpy.uint8)"),
        (FLOATS * 400 - 10, "image.round().astype(numpy.uint8)"),
        (FLOATS - 1, "scale it to 0..255"),
        (np.full((4, 5, 3), 200, np.int64), "image.round().astype(numpy.uint8)"),
        (FLOATS > 0, "image.astype(numpy.uint8) * 255"),
        (np.zeros((3, 40, 50), np.uint8), "numpy.moveaxis(image, 0, -1)"),
        (_Tensor(), "image.permute(1, 2, 0).cpu().numpy()"),
        ("face.jpg", "cv2.cvtColor(cv2.imread(path), cv2.COLOR_BGR2RGB)"),
    ],
)
def test_an_image_of_another_kind_is_answered_with_the_line_that_converts_it(
    detector: MTCNN, image: Any, line: str
) -> None:
    with pytest.raises(ValueError, match="expected") as caught:
        detector.detect_faces(image)
    assert f"convert it with {line}" in str(caught.value) or line in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_lines_convert(detector: MTCNN) -> None:
    wanted = detector.detect_faces(IMAGE)
    numpy, image = np, IMAGE / 255
    assert detector.detect_faces((image * 255).round().astype(numpy.uint8)) == wanted
    image = np.moveaxis(IMAGE, -1, 0)
    assert detector.detect_faces(numpy.moveaxis(image, 0, -1)) == wanted


def test_an_image_of_pil_is_answered_with_its_line(detector: MTCNN) -> None:
    pil = pytest.importorskip("PIL.Image")
    image = pil.fromarray(IMAGE)
    with pytest.raises(ValueError, match=r'numpy\.asarray\(image\.convert\("RGB"\)\)'):
        detector.detect_faces(image)
    converted = np.asarray(image.convert("RGB"))
    assert detector.detect_faces(converted) == detector.detect_faces(IMAGE)


def test_a_batch_may_be_a_list_an_array_or_an_iterator(detector: MTCNN) -> None:
    images = [IMAGE, IMAGE[:, ::-1], IMAGE[::-1]]
    wanted = [detector.detect_faces(image) for image in images]
    assert any(wanted), "no faces compare nothing"

    def generator() -> Iterator[np.ndarray]:
        yield from images

    for batch in (images, tuple(images), np.stack(images), generator()):
        assert detector.detect_faces_batch(batch) == wanted
    assert detector.detect_faces_batch([]) == []


@pytest.mark.parametrize(
    ("batch", "error", "sentence"),
    [
        (IMAGE, ValueError, r"got a single array of shape \(90, 120, 3\): call detect_faces"),
        (IMAGE[..., 0], ValueError, "call detect_faces"),
        (None, TypeError, "expected a list, an iterator or an array"),
        ("folder", TypeError, "expected a list, an iterator or an array"),
        ([IMAGE, None], ValueError, "expected an RGB or grey image"),
    ],
)
def test_what_is_no_batch_is_refused(
    detector: MTCNN, batch: Any, error: type[Exception], sentence: str
) -> None:
    with pytest.raises(error, match=sentence):
        detector.detect_faces_batch(batch)


def test_a_pickled_detector_finds_the_same_in_a_spawned_process(detector: MTCNN) -> None:
    wanted = detector.detect_faces(IMAGE)
    assert wanted
    assert pickle.loads(pickle.dumps(detector)).detect_faces(IMAGE) == wanted
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert pool.map(detector.detect_faces, [IMAGE]) == [wanted]


def test_one_detector_serves_several_threads(detector: MTCNN) -> None:
    images = [np.roll(IMAGE, 7 * i, axis=1)[: 60 + i] for i in range(6)]
    wanted = [detector.detect_faces(image) for image in images]
    found: dict[int, Any] = {}

    def work(i: int) -> None:
        found[i] = [detector.detect_faces(images[i]) for _ in range(3)]

    threads = [threading.Thread(target=work, args=(i,)) for i in range(len(images))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [found[i] for i in range(len(images))] == [[faces] * 3 for faces in wanted]


AT_ONCE = """
import os, sys, threading
import numpy as np
sys.setswitchinterval(1e-6)
from mtcnn_detector import MTCNN
image = np.random.default_rng(0).integers(0, 256, (90, 120, 3), np.uint8)
together, found = threading.Barrier(4), []

def work():
    together.wait()
    found.append(MTCNN(sys.argv[1], steps_threshold=(0.3, 0.3, 0.3)).detect_faces(image))

threads = [threading.Thread(target=work, daemon=True) for _ in range(4)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join(60)
os._exit(0 if len(found) == 4 and found[0] and all(f == found[0] for f in found) else 1)
"""


def test_first_detectors_of_a_process_may_be_made_in_several_threads_at_once(
    weights: Path,
) -> None:
    """Not in this process, where OpenVINO has been used before."""
    command = [sys.executable, "-c", AT_ONCE, str(weights)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_graphs_are_compiled_and_first_run_by_one_thread_at_a_time(
    weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two threads at their first use of OpenVINO's bindings have waited for each other for ever."""
    active, most = 0, 0
    real = backend.CompiledNet._compiled

    def compiled(net: backend.CompiledNet, shape: backend.Shape) -> backend.Inference:
        nonlocal active, most
        active += 1
        most = max(most, active)
        time.sleep(0.05)
        try:
            return real(net, shape)
        finally:
            active -= 1

    monkeypatch.setattr(backend.CompiledNet, "_compiled", compiled)
    net = backend.CompiledNet("onet", weight_files.read(weights)["onet"])
    crops = np.zeros((2, 48, 48, 3), np.uint8)
    threads = [threading.Thread(target=net, args=(crops,)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == 1


def test_fast_is_near_exact_where_the_processor_computes_in_bfloat16(weights: Path) -> None:
    if "BF16" not in ov.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        pytest.skip("this processor does not compute in bfloat16")
    trained = weight_files.read(weights)["onet"]
    pixels = np.random.default_rng(1).integers(0, 256, (4, 48, 48, 3), np.uint8)
    exact = backend.CompiledNet("onet", trained)(pixels)
    fast = pickle.loads(pickle.dumps(backend.CompiledNet("onet", trained, "fast")))(pixels)
    difference = np.abs(fast.score - exact.score).max()
    assert 0 < difference < 0.05


def test_fast_is_refused_where_the_processor_does_not(
    weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Old(ov.Core):
        def get_property(self, *_: object) -> list[str]:
            return ["FP32", "INT8"]

    monkeypatch.setattr(ov, "Core", Old)
    with pytest.raises(UserError, match='precision="fast" needs a processor'):
        MTCNN(weights, precision="fast")


SILENT = """
import sys
import numpy as np
from mtcnn_detector import MTCNN
detector = MTCNN(sys.argv[1], steps_threshold=(0.3, 0.3, 0.3))
image = np.random.default_rng(0).integers(0, 256, (90, 120, 3), np.uint8)
assert detector.detect_faces(image)
assert detector.detect_faces_batch([image, image])
assert not {"tensorflow", "keras", "ai_edge_litert", "openvino_telemetry"} & set(sys.modules)
"""


def test_nothing_is_printed_and_no_tensorflow_imported(weights: Path) -> None:
    command = [sys.executable, "-c", SILENT, str(weights)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.slow
def test_the_installed_package_works_beside_another_folder_of_models(
    weights: Path, tmp_path: Path
) -> None:
    """Installed into a folder of its own, imported where `models` is something else."""
    pytest.importorskip("setuptools")
    source, target, elsewhere = (tmp_path / name for name in ("source", "target", "elsewhere"))
    for pattern in ("pyproject.toml", "README.md", "LICENSE", "mtcnn_detector/**/*"):
        for path in ROOT.glob(pattern):
            if path.is_file() and "__pycache__" not in path.parts:
                copy = source / path.relative_to(ROOT)
                copy.parent.mkdir(parents=True, exist_ok=True)
                copy.write_bytes(path.read_bytes())
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps"]
    install += ["--no-build-isolation", "--disable-pip-version-check", "--target", str(target)]
    done = subprocess.run([*install, str(source)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (target / "mtcnn_detector" / "py.typed").is_file()
    (elsewhere / "models").mkdir(parents=True)
    (elsewhere / "models" / "__init__.py").write_text("raise ImportError('not ours')\n")
    program = f"import sys; sys.path.insert(0, {str(target)!r})\n{SILENT}"
    program += (
        f"import mtcnn_detector; assert mtcnn_detector.__file__.startswith({str(target)!r})\n"
    )
    command = [sys.executable, "-c", program, str(weights)]
    done = subprocess.run(command, cwd=elsewhere, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
