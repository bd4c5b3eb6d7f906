"""Detections of labelled images: logged, resumed, scored, drawn; bad input in a sentence."""

import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from configs import recipe
from configs.settings import Settings
from data_prep.annotations import Annotation
from evaluation import __main__ as command_line
from evaluation import detections, figures, metrics, visualization
from evaluation.detections import ImageDetections, detect_all, read_log
from export.formats import FORMATS
from mtcnn_detector import backend
from mtcnn_detector.cascade import Faces
from mtcnn_detector.errors import UserError
from mtcnn_detector.net import NETS
from mtcnn_detector.pixels import Image
from mtcnn_detector.settings import DetectorSettings
from pipeline import manifest
from tests.weights_files import lively, saved

ROOT = Path(__file__).parent.parent
LANDMARKS = np.array([(30, 40), (70, 40), (50, 60), (35, 80), (65, 80)], float)  # eyes 40 px apart


BLUE = (200, 0, 0)  # as OpenCV has it
Box = tuple[float, float, float, float]


def found(*faces: tuple[Box, float]) -> Faces:
    """Faces from rows of box, score."""
    boxes = np.array([box for box, _ in faces], float).reshape(-1, 4)
    scores = np.array([score for _, score in faces], float)
    return Faces(boxes, scores, np.tile(LANDMARKS, (len(faces), 1, 1)))


def labelled_image(
    folder: Path, number: int, faces: Sequence[Box] = (), shape: tuple[int, int] = (120, 160)
) -> Annotation:
    path = folder / f"{number}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    image = np.zeros((*shape, 3), np.uint8)
    image[250:] = BLUE
    image[0, 0] = number  # tells the fake detector which image it is given
    cv2.imwrite(str(path), image)
    boxes = np.array(faces, np.float32).reshape(-1, 4)
    ignored = np.zeros(len(boxes), bool)
    landmarks = np.full((len(boxes), 5, 2), np.nan)
    return Annotation(path, f"set/{number}.png", boxes, ignored, landmarks, f"labels:{number}")


# The output of the nets before the last: the face in the corner, and nothing else.
PROPOSALS = found(((1, 1, 60, 60), 0.9))._replace(landmarks=np.full((1, 5, 2), np.nan))


class FakeDetector:
    """A detector whose output depends on the image's first pixel; it records what it saw."""

    def __init__(self, outputs: Mapping[int, Faces]) -> None:
        self.outputs = outputs
        self.seen: list[int] = []

    def __call__(self, image: Image) -> list[Faces]:
        self.seen.append(int(image[0, 0, 0]))
        return [PROPOSALS, PROPOSALS, self.outputs[self.seen[-1]]]


OUTPUTS = {1: found(((0, 0, 9, 9), 0.9), ((5, 5, 20.5, 20), 0.25)), 2: found(), 3: found()}


def assert_equal(detected: Mapping[str, ImageDetections], outputs: Mapping[str, Faces]) -> None:
    assert list(detected) == list(outputs)
    for key, one in detected.items():
        assert one.seconds >= 0
        assert [boxes.tolist() for boxes in one.proposals] == [[[1, 1, 60, 60]]] * 2
        for field, same in zip(one.faces, outputs[key], strict=True):
            np.testing.assert_array_equal(field, same)
            assert field.shape == same.shape


def test_detection_goes_on_after_a_half_written_line(tmp_path: Path) -> None:
    every, log = [labelled_image(tmp_path, n) for n in (1, 2, 3)], tmp_path / "deep" / "log.jsonl"
    wanted = {f"set/{n}.png": OUTPUTS[n] for n in (1, 2, 3)}
    assert_equal(detect_all(FakeDetector(OUTPUTS), every, log), wanted)
    lines = log.read_text().splitlines(keepends=True)
    log.write_text(lines[0] + lines[1][:25])  # killed while it wrote the second line
    again = FakeDetector(OUTPUTS)
    assert_equal(detect_all(again, every, log), wanted)
    assert again.seen == [2, 3]
    assert log.read_text().startswith(lines[0]) and len(log.read_text().splitlines()) == 3
    assert_equal(read_log(log), wanted)


def test_a_kill_loses_no_finished_image(tmp_path: Path) -> None:
    every, log = [labelled_image(tmp_path, n) for n in (1, 2, 3)], tmp_path / "log.jsonl"

    class Killed(FakeDetector):
        logged: list[str]

        def __call__(self, image: Image) -> list[Faces]:
            if len(self.seen) == 2:
                # A kill leaves what another process can read at this moment.
                self.logged = list(read_log(log))
            return super().__call__(image)

    detect_all(killed := Killed(OUTPUTS), every, log)
    assert killed.logged == ["set/1.png", "set/2.png"]


def test_an_image_that_has_changed_is_detected_again(tmp_path: Path) -> None:
    every, log = [labelled_image(tmp_path, n) for n in (1, 2, 3)], tmp_path / "log.jsonl"
    detect_all(FakeDetector(OUTPUTS), every, log)
    labelled_image(tmp_path, 2, shape=(90, 90))
    again = FakeDetector(OUTPUTS | {2: found(((3, 3, 30, 30), 0.8))})
    assert detect_all(again, every, log)["set/2.png"].faces.scores.tolist() == [0.8]
    assert again.seen == [2]
    assert read_log(log)["set/2.png"].faces.scores.tolist() == [0.8]


def test_an_image_in_another_view_is_detected_again(tmp_path: Path) -> None:
    stored, log = [labelled_image(tmp_path, n) for n in (1, 2)], tmp_path / "log.jsonl"
    detect_all(FakeDetector(OUTPUTS), stored, log)
    before = log.read_text()
    upright = [stored[0], replace(stored[1], upright=True)]
    for views, seen in ((upright, [2]), (upright, []), (stored, [2])):
        again = FakeDetector(OUTPUTS)
        detect_all(again, views, log)
        assert again.seen == seen
    assert log.read_text().startswith(before), "logs of images as stored stay valid"


def test_a_detector_is_started_only_for_images_that_are_left(tmp_path: Path) -> None:
    every, log = [labelled_image(tmp_path, n) for n in (1, 2)], tmp_path / "log.jsonl"
    started: list[tuple[Path, DetectorSettings]] = []

    def start(weights: Path, settings: DetectorSettings) -> FakeDetector:
        started.append((weights, settings))
        return FakeDetector(OUTPUTS)

    runtime = detections.Runtime(start, "code")
    for _ in range(2):
        run = detections.lazy_detector(runtime, Path("w.npy"), DetectorSettings())
        detect_all(run, every, log)
        assert started == [(Path("w.npy"), DetectorSettings())]


def test_logged_images_are_not_detected_again(tmp_path: Path) -> None:
    every, log = [labelled_image(tmp_path, n) for n in (1, 2, 3)], tmp_path / "log.jsonl"
    detect_all(FakeDetector(OUTPUTS), every[:2], log)
    again = FakeDetector(OUTPUTS)
    assert list(detect_all(again, every[1:], log)) == ["set/2.png", "set/3.png"]
    assert again.seen == [3]


def test_an_unreadable_image_is_named(tmp_path: Path) -> None:
    broken = labelled_image(tmp_path, 1)
    broken.image.write_bytes(b"no picture")
    with pytest.raises(UserError, match=r"1\.png \(labels:1\) is missing or unreadable: mend it"):
        detect_all(FakeDetector(OUTPUTS), [broken], tmp_path / "log.jsonl")


@pytest.mark.parametrize("line", ["{]", '{"key": "a"}', "7", '{"key": "a", "boxes": "b"}'])
def test_a_damaged_log_is_refused_in_a_sentence(tmp_path: Path, line: str) -> None:
    log = tmp_path / "log.jsonl"
    log.write_text(line + "\n")
    with pytest.raises(UserError, match=r"is damaged .*: remove it and repeat the command"):
        read_log(log)


def test_a_folder_without_the_package_is_refused_in_a_sentence(tmp_path: Path) -> None:
    # In a process of its own: the import path is changed.
    script = (
        "import sys; from pathlib import Path; from pipeline.cli import run_cli\n"
        "from mtcnn_detector.settings import DetectorSettings; from evaluation import detections\n"
        "weights = Path('weights/mtcnn_weights.npy')\n"
        "run_cli(lambda: detections.load_package(weights, DetectorSettings(), Path(sys.argv[1])))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "none")],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 1
    last = done.stderr.splitlines()[-1]
    assert last.startswith("error: ") and "Traceback" not in done.stderr
    assert "holds no usable mtcnn" in last or "was imported from" in last


def test_the_packages_dictionaries_become_arrays() -> None:
    names = ("left_eye", "right_eye", "nose", "mouth_left", "mouth_right")
    face = {
        "box": [10, 20, 30, 40],
        "confidence": 0.5,
        "keypoints": dict(zip(names, map(tuple, LANDMARKS), strict=True)),
    }
    faces = detections._as_faces([face])
    assert faces.boxes.tolist() == [[10, 20, 40, 60]]
    assert faces.scores.tolist() == [0.5]
    np.testing.assert_array_equal(faces.landmarks, LANDMARKS[None])
    assert [field.shape for field in detections._as_faces([])] == [(0, 4), (0,), (0, 5, 2)]


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """A recipe over two images in WIDER's layout and two with landmarks."""
    for number in (1, 2):
        labelled_image(tmp_path / "images", number)
    for number in (3, 4):
        labelled_image(tmp_path / "people", number)
    (tmp_path / "wider.txt").write_text(
        "1.png\n2\n10 10 40 40 0 0 0 0 0 0\n80 10 40 40 0 0 0 0 0 0\n"
        "2.png\n1\n20 20 50 50 0 0 0 0 0 0\n"
    )
    landmarks = " ".join(f"{value:g}" for value in LANDMARKS.ravel())
    (tmp_path / "people.txt").write_text(
        f"3.png 20 80 20 100 {landmarks}\n4.png 20 80 20 100 {landmarks}\n"
    )
    (tmp_path / "own.yaml").write_text(
        f"base: {ROOT / 'configs' / 'mtcnn.yaml'}\n"
        f"data:\n  folder: {tmp_path}\n  validation:\n"
        "    scenes: {format: wider, labels: wider.txt, images: images}\n"
        "    people: {format: mtfl, labels: people.txt, images: people, sample_types: [landmark]}\n"
    )
    return recipe.load(tmp_path / "own.yaml")


def scored(settings: Settings, folder: Path) -> metrics.Score:
    moved = found(((20, 20, 80, 52), 0.8))  # IoU 0.4: enough where the landmarks are judged
    moved.landmarks[0, 2] += (6, 8)  # the nose by 10 px: 2 px in the mean, of 40
    outputs = {
        # Both faces of the first image at 0.9 and 0.72; a false alarm at 0.8, another at 0.5.
        1: found(((10, 10, 50, 50), 0.9), ((130, 90, 150, 110), 0.8), ((80, 10, 120, 50), 0.72)),
        2: found(((20, 20, 70, 70), 0.6), ((90, 20, 120, 50), 0.5)),
        3: moved,
        4: found(((100, 0, 140, 40), 0.99)),
    }
    return metrics.score(settings, FakeDetector(outputs), folder)


def test_score_by_hand(settings: Settings, tmp_path: Path) -> None:
    rows = figures.figures(scored(settings, tmp_path / "logs"))
    # Precision 1 at a third, 2/3 at two thirds, 3/4 at the whole: the envelope is 1, 3/4, 3/4.
    assert rows == {
        "scenes: faces found": "3 of 3",
        "scenes: false alarms": "2 on 2 images",
        "scenes: AP": "0.833",
        "scenes: AP50-95": "0.833",
        # Precision 3/4 and recall 1 at the lowest face: 6/7.
        "scenes: best F1": "0.857 at confidence 0.600",
        "people: faces found (IoU 0.3)": "1 of 2",
        "people: landmark NME, of the eye distance": "5.00 %",
        "people: failures (NME over 10 %)": "0.00 %",
    }
    assert {path.name for path in (tmp_path / "logs").iterdir()} == {
        "scenes.jsonl",
        "people.jsonl",
    }


def test_table_has_a_column_for_each_weights_file() -> None:
    text = figures.table({"a.npy": {"AP": "0.5", "found": "1"}, "b.npy": {"AP": "0.6"}})
    assert text.splitlines() == [
        "| | a.npy | b.npy |",
        "| --- | --- | --- |",
        "| AP | 0.5 | 0.6 |",
        "| found | 1 |  |",
    ]


def test_without_widers_ground_truth_the_other_metrics_remain(
    settings: Settings, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = (
        (tmp_path / "own.yaml")
        .read_text()
        .replace("images: images}", "images: images, wider_ground_truth: .}")
    )
    (tmp_path / "own.yaml").write_text(text)
    rows = figures.figures(scored(recipe.load(tmp_path / "own.yaml"), tmp_path / "logs"))
    assert rows["scenes: AP"] == "0.833" and len(rows) == 8
    assert "wider_easy_val.mat is not there" in capsys.readouterr().err


def test_detections_of_other_weights_settings_or_code_have_their_own_log(tmp_path: Path) -> None:
    one, other = tmp_path / "one.npy", tmp_path / "other.npy"
    one.write_bytes(b"1")
    other.write_bytes(b"2")
    detectors = (
        DetectorSettings(),
        DetectorSettings(min_face_size=40),
        DetectorSettings(thresholds=(0.5, 0.5, 0.3)),
        DetectorSettings(thresholds=(0.5, 0.5, 0.3000001)),
        DetectorSettings(scale_factor=0.7),
    )

    def folder(weights: Path, detector: DetectorSettings, code: str) -> Path:
        runtime = detections.Runtime(detections.load_cascade, code)
        return detections.log_folder(tmp_path, weights, detector, runtime)

    folders = {folder(w, d, c) for w in (one, other) for d in detectors for c in ("new", "old")}
    assert len(folders) == 20
    again = folder(one, DetectorSettings(), "new")
    assert again in folders and again.parent == tmp_path
    assert '"min_face_size": 20' in (again / "detector.json").read_text()


def test_a_change_of_the_detectors_code_is_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(
        ROOT / "mtcnn_detector", tmp_path / "library", ignore=lambda *_: ["__pycache__"]
    )
    monkeypatch.setattr(backend, "__file__", str(tmp_path / "library" / "backend.py"))
    before = detections.our_runtime().code
    assert before == detections.our_runtime().code
    with (tmp_path / "library" / "cascade.py").open("a") as file:
        file.write("# changed")
    assert detections.our_runtime().code != before


def test_another_version_of_a_library_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    codes = {detections.our_runtime().code}
    monkeypatch.setattr(manifest, "versions", lambda: {"versions": {"numpy": "3.0"}})
    codes.add(detections.our_runtime().code)
    assert len(codes) == 2


@pytest.mark.parametrize("layout", ["facenet", "own"])
def test_the_package_gets_no_file_of_another_layout(layout: str, tmp_path: Path) -> None:
    FORMATS[layout].write(tmp_path / "w", {name: lively(name, 1) for name in NETS}, {})
    with pytest.raises(UserError, match=r"w is not as mtcnn 0\.1\.1 loads it"):
        detections.load_package(tmp_path / "w", DetectorSettings(), tmp_path)


def test_the_package_gets_no_file_that_runs_code(tmp_path: Path) -> None:
    saved(tmp_path / "w.npy", {"pnet": Path("anything")})
    with pytest.raises(UserError, match="refused"):
        detections.load_package(tmp_path / "w.npy", DetectorSettings(), tmp_path)


def test_the_sheet_shows_found_faces_green_and_missed_ones_red(
    settings: Settings, tmp_path: Path
) -> None:
    for number in (1, 2):
        labelled_image(tmp_path / "images", number, shape=(360, 480))  # as high as a tile
    outputs = {1: found(((10, 10, 50, 50), 0.9)), 2: found()}
    fake, folder = FakeDetector(outputs | {3: found(), 4: found()}), tmp_path / "logs"
    result = metrics.score(settings, fake, folder)
    visualization.draw_sheet(result, tmp_path / "sheet.jpg")
    sheet = cv2.imread(str(tmp_path / "sheet.jpg"))
    assert sheet is not None and sheet.shape[0] == visualization.SHEET_HEIGHT
    # JPEG washes thin lines out: only the strongest of blue, green and red is certain.
    green, red = 1, 2
    for (x, y), channel in {(10, 40): green, (80, 30): red, (480 + 20, 45): red}.items():
        assert sheet[y, x].argmax() == channel and sheet[y, x].max() > 120
    assert sheet[200, 300].max() < 20
    np.testing.assert_allclose(sheet[300, 300], BLUE, atol=20)


@pytest.mark.parametrize(
    "words, sentence",
    [
        (["score"], "`make export-weights CONFIG=FOLDER/own.yaml RUN=FOLDER/run` writes a run's"),
        (["score", "--weights", "none.npy"], "none.npy is not there"),
        (
            ["recall", "rnet"],
            "rnet is not there: `make train-rnet CONFIG=FOLDER/own.yaml RUN=FOLDER/run`",
        ),
    ],
)
def test_an_error_names_the_command_that_makes_what_is_missing(
    settings: Settings,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    words: list[str],
    sentence: str,
) -> None:
    arguments = ["--config", str(tmp_path / "own.yaml"), "--run", str(tmp_path / "run")]
    monkeypatch.setattr(sys, "argv", ["evaluation", *words, *arguments])
    with pytest.raises(UserError) as stopped:
        command_line.main()
    assert sentence in str(stopped.value).replace(str(tmp_path), "FOLDER")
