"""The page of `make app`: uploads, weights, and its use in a headless browser."""

import os
import pickle
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

from mtcnn_detector import MTCNN, UserError, pixels
from mtcnn_detector.settings import DetectorSettings
from mtcnn_detector.weights import weight_files
from tests import chromium
from tests.chromium import CHROMIUM, Page, wait_until
from tests.pictures import photographs

pytest.importorskip("gradio", reason="gradio is not installed (extra `app`)")
pytestmark = pytest.mark.slow

from app import playground  # noqa: E402
from app.__main__ import UPLOADS  # noqa: E402

ROOT = Path(__file__).parents[1]
WEIGHTS = ROOT / "weights" / "mtcnn_weights.npy"


def large_png(path: Path) -> Path:
    """A PNG file of 100 megapixels, a few kilobytes long."""
    cv2.imwrite(str(path), np.zeros((10_000, 10_000), np.uint8))
    return path


def text_file(path: Path) -> Path:
    """A text with the name of an image."""
    path.write_text("no pixels")
    return path


def damaged_png(path: Path) -> Path:
    """The beginning of a PNG file."""
    cv2.imwrite(str(path), np.zeros((60, 60, 3), np.uint8))
    path.write_bytes(path.read_bytes()[:60])
    return path


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (large_png, r"^The image has 100 megapixels, over the limit of 40: shrink it\.$"),
        (text_file, r"^The uploaded file is not an image that can be read\.$"),
        (damaged_png, r"^The uploaded image is damaged or of a kind that cannot be read\.$"),
    ],
)
def test_a_hostile_image_is_refused_in_one_sentence(
    tmp_path: Path, make: "type[Path]", sentence: str
) -> None:
    with pytest.raises(UserError, match=sentence):
        playground.read_upload(make(tmp_path / "image.png"))


class RunsCode:
    """Makes a folder when it is unpickled."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self._folder),)


def test_a_hostile_weights_file_is_refused_and_not_run(tmp_path: Path) -> None:
    path, folder = tmp_path / "weights.npy", tmp_path / "made"
    path.write_bytes(pickle.dumps(RunsCode(folder)))
    with pytest.raises(UserError) as caught:
        playground.Detectors().cascade(path, DetectorSettings())
    assert "\n" not in str(caught.value)
    assert not folder.exists()


def test_weights_of_the_project_and_of_runs_are_offered(tmp_path: Path) -> None:
    for name in ("weights/a.npy", "weights/README.md", "runs/x/mtcnn_weights.npy"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    for name in ("pnet", "rnet", "onet"):
        (tmp_path / "runs" / "y" / name).mkdir(parents=True)
        (tmp_path / "runs" / "y" / name / "weights.npz").write_bytes(b"")
    (tmp_path / "runs" / "z").mkdir()
    found = playground.weights_choices(tmp_path)
    assert list(found) == ["weights/a.npy", "runs/x/mtcnn_weights.npy", "runs/y"]
    assert found["runs/y"] == tmp_path / "runs" / "y"


def test_a_run_whose_net_has_changed_is_read_again(tmp_path: Path) -> None:
    nets, detectors = weight_files.read(WEIGHTS), playground.Detectors()
    weight_files.write_own_folder(tmp_path, nets)
    before, again = (detectors.cascade(tmp_path, DetectorSettings()) for _ in range(2))
    assert again._first is before._first
    weight_files.write_own(tmp_path / "rnet" / "weights.npz", nets["rnet"], "rnet")
    later = time.time_ns() + 10**9
    os.utime(tmp_path / "rnet" / "weights.npz", ns=(later, later))
    assert detectors.cascade(tmp_path, DetectorSettings())._first is not before._first


def test_results_are_those_of_the_detector() -> None:
    if not photographs():
        pytest.skip("needs scikit-image's photograph")
    image, settings = next(iter(photographs().values())), DetectorSettings(30, 0.8, (0.5, 0.6, 0.7))
    detectors = playground.Detectors()
    cascade = detectors.cascade(WEIGHTS, settings)
    results = playground.detect(cascade, image)
    expected = MTCNN(WEIGHTS, 30, (0.5, 0.6, 0.7), 0.8).cascade.stages(image)
    assert [result.title for result in results] == ["P-Net", "R-Net", "O-Net"]
    for result, faces in zip(results, expected, strict=True):
        np.testing.assert_array_equal(result.faces.boxes, faces.boxes)
        assert result.milliseconds > 0
    drawn = playground.drawings(image, results)
    assert len(drawn) == 4
    assert all((canvas != image).any() for canvas in drawn)
    assert (detectors.cascade(WEIGHTS, DetectorSettings()).detector) == DetectorSettings()
    assert cascade.detector == settings, "settings of one user are not those of another"
    text = playground.summary("mine", results)
    assert text.startswith("**mine**: 1 face in ")
    assert f"| P-Net | {len(expected[0].scores)} | " in text


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """The page, started by its command, where the environment names a proxy that is not there."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "app", "--port", str(port)]
    before = set(Path(tempfile.gettempdir()).glob(f"{UPLOADS}*"))
    env = os.environ | {"http_proxy": "http://127.0.0.1:9"}
    with subprocess.Popen(command, cwd=ROOT, env=env, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            line = server.stdout.readline()
            assert line.startswith(f"http://127.0.0.1:{port} is the page")
            yield line.split()[0]
        finally:
            server.send_signal(signal.SIGINT)
            server.wait(60)
    assert set(Path(tempfile.gettempdir()).glob(f"{UPLOADS}*")) <= before, "uploads were kept"


@pytest.mark.parametrize("place", [("192.0.2.1", "7860"), ("127.0.0.1", "99999")])
def test_a_place_where_it_cannot_listen_is_told(place: tuple[str, str]) -> None:
    command = [sys.executable, "-m", "app", "--host", place[0], "--port", place[1]]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 1
    last = done.stderr.splitlines()[-1]
    assert last.startswith(f"error: The page cannot listen at {':'.join(place)}: ")


def test_nothing_listens_to_other_computers(address: str) -> None:
    with urllib.request.urlopen(address) as answer:
        assert answer.status == 200
    port = int(address.rpartition(":")[2])
    name = socket.gethostbyname(socket.gethostname())
    if name.startswith("127."):
        pytest.skip("this computer has no other address")
    with socket.socket() as other, pytest.raises(OSError):
        other.connect((name, port))


def counts(page: Page, table: str = "first") -> list[int]:
    """Boxes after each net, as the page's table has them; none before a result."""
    text = page.evaluate(f"document.querySelector('#{table}-table')?.innerText ?? ''")
    return [int(n) for n in re.findall(r"^[PRO]-Net\s+(\d+)\s", text, flags=re.MULTILINE)]


def set_slider(page: Page, name: str, value: float) -> None:
    """Type a value into the number field of a slider."""
    page.evaluate(
        f"(() => {{ const field = document.querySelector('#{name} input[type=number]');"
        f"field.focus(); field.value = '{value}';"
        "field.dispatchEvent(new Event('input', {bubbles: true}));"
        "field.dispatchEvent(new Event('change', {bubbles: true}));"
        "field.blur(); })()"
    )


def choose(page: Page, name: str, option: str) -> None:
    """Open a dropdown and choose an option."""
    page.evaluate(f"document.querySelector('#{name} input').focus()")
    found = (
        f"[...document.querySelectorAll('#{name} [role=option]')]"
        f".find(element => element.innerText.includes('{option}'))"
    )
    wait_until(lambda: page.evaluate(f"!!{found}"), f"the option {option}")
    page.evaluate(f"{found}.dispatchEvent(new MouseEvent('mousedown', {{bubbles: true}}))")


@pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")
def test_an_image_goes_in_and_a_slider_changes_the_boxes(address: str, tmp_path: Path) -> None:
    if not photographs():
        pytest.skip("needs scikit-image's photograph")
    pytest.importorskip("websockets")
    image = next(iter(photographs().values()))
    pixels.write_image(tmp_path / "photograph.png", image)
    expected = [len(faces.scores) for faces in MTCNN(WEIGHTS).cascade.stages(image)]
    with chromium.open_page(address, tmp_path / "profile") as page:
        wait_until(
            lambda: page.evaluate("!!document.querySelector('#image input[type=file]')"), "the page"
        )
        page.upload("#image input[type=file]", tmp_path / "photograph.png")
        assert wait_until(lambda: counts(page), "a result") == expected
        set_slider(page, "min-face", 60)
        fewer = wait_until(
            lambda: (found := counts(page)) != expected and found, "another number of boxes"
        )
        assert fewer[0] < expected[0]
        drawn = "document.querySelector('#first-Faces img')?.naturalWidth"
        assert wait_until(lambda: page.evaluate(drawn), "the drawing") == image.shape[1]
        choose(page, "second-weights", "weights/mtcnn_weights.npy")
        both = wait_until(lambda: counts(page, "second"), "a result of the second weights")
        assert both == fewer
        if folder := os.environ.get("SCREENSHOTS"):
            page.screenshot(Path(folder) / "app.png")
        page.upload("#image input[type=file]", text_file(tmp_path / "text.png"))
        sentence = "document.body.innerText.includes('not an image that can be read')"
        wait_until(lambda: page.evaluate(sentence), "the sentence")
