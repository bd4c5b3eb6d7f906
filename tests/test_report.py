"""The report's page: self-contained, in agreement with the metrics, shown by a real browser."""

import base64
import io
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from unittest import mock

import cv2
import numpy as np
import pytest

from configs import recipe
from configs.settings import Settings
from data_prep.annotations import Annotation
from evaluation import __main__ as command_line
from evaluation import detections, plots, report, sweep, visualization
from evaluation.detections import DetectFunction, ImageDetections
from evaluation.error_analysis import missed_faces
from evaluation.metrics import Score, score_boxes, score_landmarks, score_single_faces
from evaluation.report import Evaluation
from mtcnn_detector.cascade import Faces
from mtcnn_detector.errors import UserError
from mtcnn_detector.pixels import Image

Box = tuple[float, float, float, float]
ROOT = Path(__file__).parents[1]
WEIGHTS = ROOT / ".consumers" / "mtcnn-0.1.1" / "mtcnn" / "data" / "mtcnn_weights.npy"
LANDMARKS = np.array([(30, 40), (70, 40), (50, 60), (35, 80), (65, 80)], float)
FACE: Box = (20, 20, 80, 100)
HOSTILE = "<b>&amp; co"  # would be shown as a tag and an entity if it was not escaped


class Page(HTMLParser):
    """The contents of a page: its text, its images, the tags that are not closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.words: list[str] = []
        self.images: list[Image] = []
        self.open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "img":
            source = re.fullmatch("data:image/(?:png|jpeg);base64,(.*)", dict(attrs)["src"] or "")
            assert source is not None
            coded = np.frombuffer(base64.b64decode(source[1]), np.uint8)
            image = cv2.imdecode(coded, cv2.IMREAD_COLOR)
            assert image is not None
            self.images.append(image)  # type: ignore[arg-type]
        elif tag not in ("meta", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


def annotation(folder: Path, name: str) -> Annotation:
    path = folder / f"{name}.png"
    cv2.imwrite(str(path), np.full((120, 160, 3), 90, np.uint8))
    boxes, landmarks = np.array([FACE], np.float32), LANDMARKS[None].astype(np.float32)
    return Annotation(path, f"set/{name}.png", boxes, np.zeros(1, bool), landmarks, "labels:1")


def detected(*faces: tuple[Box, float]) -> ImageDetections:
    boxes = np.array([box for box, _ in faces], float).reshape(-1, 4)
    scores = np.array([score for _, score in faces], float)
    before = (np.zeros((0, 4)), np.zeros((0, 4)))
    return ImageDetections(
        "", 0.1, Faces(boxes, scores, np.tile(LANDMARKS + 2, (len(faces), 1, 1))), before
    )


def recipe_of(labels: str) -> Settings:
    """A recipe whose sources are those of `evaluation`."""
    source = {"format": "wider", "labels": labels, "images": "images"}
    people = source | {"format": "mtfl", "labels": "people.txt", "sample_types": ["landmark"]}
    sources = json.dumps({"scenes": source, "people": people})
    return recipe.load(ROOT / "configs" / "mtcnn.yaml", [f"data.validation={sources}"])


def score_of(annotations: list[Annotation], found: dict[str, ImageDetections]) -> Score:
    """The score on `scenes`, of which the boxes count, and on `people`, of which the landmarks."""
    landmarks = score_landmarks(annotations, found)
    assert landmarks is not None
    boxes, single = score_boxes(annotations, found, {}), score_single_faces(annotations, found)
    return Score({"scenes": boxes}, {"people": single}, {"people": landmarks})


@pytest.fixture
def evaluation(tmp_path: Path) -> Evaluation:
    """Two weights files on two images: the first one misses a face that the other finds."""
    annotations = [annotation(tmp_path, name) for name in ("first", "second<>")]
    keys = [one.key for one in annotations]
    outputs = {
        "mine.npy": [detected((FACE, 0.9)), detected(((100, 0, 140, 50), 0.875))],
        "theirs": [detected((FACE, 0.8)), detected((FACE, 0.7125))],
    }
    scores = {}
    for label, output in outputs.items():
        found = dict(zip(keys, output, strict=True))
        scores[label] = score_of(annotations, found)
    files = {"mine.npy": Path("a/mine.npy"), "theirs": Path("b/w.npy")}
    return Evaluation(files, scores, recipe_of("own.txt"), "Our detector", "run")


@pytest.fixture
def without_plots(monkeypatch: pytest.MonkeyPatch) -> None:
    """No plots by matplotlib, which take seconds."""
    monkeypatch.setattr(plots, "available", lambda: False)


def read(evaluation: Evaluation, folder: Path) -> Page:
    return Page(report.write(evaluation, folder).read_text(encoding="utf-8"))


@pytest.mark.usefixtures("without_plots")
def test_the_page_holds_inputs_metrics_and_errors(evaluation: Evaluation, tmp_path: Path) -> None:
    content = read(evaluation, tmp_path / "report")
    assert not content.open, "every tag is closed"
    for text in (
        "Evaluation of mine.npy on scenes, people",
        "faces from 20 px, scale factor 0.709, thresholds 0.6, 0.7, 0.7",
        "mine.npy: a/mine.npy",
        "scenes: 2 images, data/own.txt",
        "people: 2 images, data/people.txt",
        "scenes: faces found 1 of 2 2 of 2",
        "scenes: false alarms 1 on 2 images 0 on 2 images",
        # The missed face: 80 px high, not proposed by the first net, found by the other weights.
        "longer side, px lost by pnet all 64 to 128 1 1 all 1 1",
        "The other weights find 1 of them, which come first here; they miss 0 that these find",
        "64 to 128 (px): 1 of 1 80 px: lost by pnet the other weights: 0.713 second<>.png",
        "0.875, 50 px no labelled face there second<>.png",
        "people: the worst landmarks",
    ):
        assert text in content.text, text
    figures = (tmp_path / "report" / "run-scenes-people.md").read_text()
    assert figures.startswith("| | mine.npy | theirs |\n")
    assert "| scenes: faces found | 1 of 2 | 2 of 2 |" in figures


def test_the_page_holds_its_images(evaluation: Evaluation, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    content = read(evaluation, tmp_path / "report")
    tile = (visualization.TILE, visualization.TILE, 3)
    shapes = [image.shape for image in content.images]
    # One missed face, one false alarm, the landmarks of one face; three curves and the sheet.
    assert shapes.count(tile) == 3 and len(shapes) == 7


@pytest.mark.filterwarnings("error")
def test_a_detector_that_finds_nothing(evaluation: Evaluation, tmp_path: Path) -> None:
    annotations = evaluation.scores["theirs"].boxes["scenes"].annotations
    nothing = {one.key: detected() for one in annotations}
    scores = {"w.npy": score_of(annotations, nothing)}
    blind = Evaluation(
        {"w.npy": Path("w.npy")}, scores, recipe_of("own.txt"), "Our detector", "run"
    )
    content = read(blind, tmp_path / "report")
    assert "scenes: faces found 0 of 2" in content.text
    assert "people: landmark NME, of the eye distance nan %" in content.text


@pytest.mark.usefixtures("without_plots")
def test_a_report_on_other_inputs_is_replaced_with_a_note(
    evaluation: Evaluation, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for labels in ("own.txt", "own.txt", "other.txt"):
        report.write(replace(evaluation, settings=recipe_of(labels)), tmp_path / "report")
    notes = [line for line in capsys.readouterr().out.splitlines() if line.startswith("note:")]
    assert len(notes) == 1
    assert 'is replaced (data.scenes: "data/own.txt" -> "data/other.txt").' in notes[0]
    content = json.loads((tmp_path / "report" / "run-scenes-people.json").read_text())
    assert content["figures"]["theirs"]["scenes: faces found"] == "2 of 2"
    assert content["inputs"]["detector.min_face_size"] == 20


def test_without_matplotlib_only_the_plots_are_missing(
    evaluation: Evaluation,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    content = read(evaluation, tmp_path / "report")
    assert plots.MISSING.replace("`", "") in content.text.replace("  ", " ")
    assert plots.MISSING in capsys.readouterr().err
    assert len(content.images) == 4


@pytest.mark.usefixtures("without_plots")
def test_one_weights_file_without_errors(evaluation: Evaluation, tmp_path: Path) -> None:
    first = evaluation.scores["theirs"]
    files = {"w.npy": Path("w.npy")}
    single = Evaluation(files, {"w.npy": first}, recipe_of("own.txt"), "Our detector", "run")
    content = read(single, tmp_path / "report")
    assert "scenes: faces found 2 of 2" in content.text
    assert "The other weights" not in content.text


def test_a_tile_shows_the_region_of_an_error_and_its_box(tmp_path: Path) -> None:
    dark = annotation(tmp_path, "dark")
    result = score_boxes([dark], {dark.key: detected()}, {})
    (miss,) = missed_faces(result)
    tile = visualization.error_tile(miss)
    size = visualization.TILE
    # The face is 60 by 80 px, the tile 2.4 times 80 wide, the face in its middle.
    left, top = (int(size / 2 - side / 2 * size / 192) for side in (60, 80))
    assert tile[size // 2, left].tolist() == [255, 60, 60]
    assert tile[top, size // 2].tolist() == [255, 60, 60]
    assert tile[size // 2, size // 2].tolist() == [90, 90, 90]
    assert tile[0, 0].tolist() == [0, 0, 0], "outside the image"


@pytest.mark.usefixtures("without_plots")
def test_the_curves_of_a_runs_training_are_on_the_page(
    evaluation: Evaluation, tmp_path: Path
) -> None:
    for net, shade in (("pnet", 10), ("onet", 200)):
        (tmp_path / "a" / net).mkdir(parents=True)
        cv2.imwrite(str(tmp_path / "a" / net / "curves.png"), np.full((30, 77, 3), shade, np.uint8))
    files = {"mine.npy": tmp_path / "a" / "mine.npy", "theirs": Path("b/w.npy")}
    content = read(replace(evaluation, weights=files), tmp_path / "report")
    curves = [int(image[0, 0, 0]) for image in content.images if image.shape == (30, 77, 3)]
    assert curves == [10, 200], "of P-Net and O-Net, in this order"
    assert "mine.npy: training" in content.text and "theirs: training" not in content.text


def test_another_object_is_named_everywhere(evaluation: Evaluation, tmp_path: Path) -> None:
    scores = {label: replace(score, object="plate") for label, score in evaluation.scores.items()}
    content = read(replace(evaluation, scores=scores), tmp_path / "report")
    assert "scenes: plates found 1 of 2 2 of 2" in content.text
    assert "A plate is found when" in content.text and "no labelled plate there" in content.text
    assert "face" not in content.text.lower()


@pytest.mark.usefixtures("without_plots")
def test_the_best_confidence_is_offered(evaluation: Evaluation, tmp_path: Path) -> None:
    content = read(evaluation, tmp_path / "report")
    # One of two faces at 0.9, then a false alarm: precision 1, recall 1/2.
    assert "The highest F1, 0.667 at 0.900 confidence," in content.text


def test_unknown_landmarks_are_left_out_of_the_images(tmp_path: Path) -> None:
    first = annotation(tmp_path, "first")
    first.landmarks[0, 2:] = np.nan
    found = detected((FACE, 0.9))
    found.faces.landmarks[0, 3] = np.nan
    score = score_landmarks([first], {first.key: found})
    assert score is not None
    tile = visualization.landmarks_tile(score.faces[0])
    assert tile.shape == (visualization.TILE, visualization.TILE, 3)
    boxes = score_boxes([first], {first.key: found}, {})
    assert visualization.draw_sheet(Score({"scenes": boxes}), tmp_path / "sheet.jpg")


def test_a_sheet_of_strips(tmp_path: Path) -> None:
    strips = []
    for name, (height, width) in {"tall": (1500, 2), "wide": (2, 500)}.items():
        strips.append(annotation(tmp_path, name))
        cv2.imwrite(str(strips[-1].image), np.zeros((height, width, 3), np.uint8))
    boxes = score_boxes(strips, {one.key: detected() for one in strips}, {})
    assert visualization.draw_sheet(Score({"scenes": boxes}), tmp_path / "sheet.jpg")
    sheet = cv2.imread(str(tmp_path / "sheet.jpg"))
    assert sheet is not None and sheet.shape[:2] == (360, 16_001)


@pytest.mark.usefixtures("without_plots")
def test_names_are_escaped(evaluation: Evaluation, tmp_path: Path) -> None:
    files = {HOSTILE: Path(HOSTILE)}
    scores = {HOSTILE: evaluation.scores["theirs"]}
    hostile = Evaluation(files, scores, recipe_of(HOSTILE), HOSTILE, "run")
    target = report.write(hostile, tmp_path / "report")
    text = target.read_text(encoding="utf-8")
    assert HOSTILE not in text
    # The title twice, the runtime, the label and the path of the weights, the column's header, and
    # the labels file of two sources.
    assert Page(text).text.count(HOSTILE) == 7
    assert text.count("&lt;b&gt;&amp;amp; co") >= 7


def test_plots_of_odd_names_and_of_weights_without_landmarks(evaluation: Evaluation) -> None:
    mine, theirs = evaluation.scores.values()
    scores = {"$%$.npy": mine, "_old.npy": replace(theirs, landmarks={})}
    legends: list[list[str]] = []
    with mock.patch.object(plots, "_save", lambda figure, _: legends.append(legend_of(figure))):
        plots.precision_recall(scores, "scenes", io.BytesIO())
        plots.recall_by_size(scores, "scenes", io.BytesIO())
        plots.landmark_errors(scores, "people", io.BytesIO())
    assert legends[0] == ["\\$%\\$.npy: AP 0.500", " _old.npy: AP 1.000"]
    assert legends[1] == ["\\$%\\$.npy", " _old.npy"]
    assert len(legends[2]) == 1


def legend_of(figure: Any) -> list[str]:
    """The texts of the legend, after all of the figure was drawn."""
    figure.canvas.draw()
    return [text.get_text() for text in figure.axes[0].get_legend().get_texts()]


CHROMIUM = shutil.which("chromium")


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")
def test_a_browser_shows_the_page_and_all_its_images(
    evaluation: Evaluation, tmp_path: Path
) -> None:
    target = report.write(evaluation, tmp_path / "report")
    content = Page(target.read_text(encoding="utf-8"))
    script = (
        "<script>onload = () => { const images = [...document.images];"
        "document.title = [images.filter(i => i.complete && i.naturalWidth > 0).length,"
        "images.length, document.body.scrollWidth <= innerWidth].join(' '); }</script></body>"
    )
    checked = tmp_path / "checked.html"
    checked.write_text(target.read_text(encoding="utf-8").replace("</body>", script))
    dom = browse(checked, "--dump-dom")
    count = len(content.images)
    assert f"<title>{count} {count} true</title>" in dom, "all decode; no horizontal scrolling"
    browse(target, f"--screenshot={tmp_path / 'page.png'}")
    shown = cv2.imread(str(tmp_path / "page.png"))
    assert shown is not None and shown.shape[1] == 1200
    # Curves, tiles and the sheet are in colour on white.
    assert (shown == 255).all(axis=2).mean() > 0.3 and np.ptp(shown, axis=2).max() > 100


def browse(page: Path, *flags: str) -> str:
    """The output of a headless browser that opens a page."""
    assert CHROMIUM is not None
    profile = f"--user-data-dir={page.parent / 'profile'}"
    options = [profile, "--headless", "--no-sandbox", "--disable-gpu", "--window-size=1200,3000"]
    quiet = ("background-networking", "component-update", "extensions", "sync", "dev-shm-usage")
    options += ["--no-first-run", *(f"--disable-{part}" for part in quiet)]
    done = subprocess.run(
        [CHROMIUM, *options, *flags, page.as_uri()], capture_output=True, text=True, timeout=240
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """`python -m evaluation ...` with real weights on two images of noise."""
    if not WEIGHTS.is_file():
        pytest.skip("mtcnn 0.1.1 is not in .consumers: `make consumers` puts it there")
    noise = np.random.default_rng(0).integers(0, 255, (2, 60, 80, 3), np.uint8)
    for name, image in zip("ab", noise, strict=True):
        cv2.imwrite(str(tmp_path / f"{name}.png"), image)
    labels = tmp_path / "own.txt"
    labels.write_text("a.png\n1\n5 5 30 30 0 0 0 0 0 0\nb.png\n0\n")

    def run(name: str, *words: str) -> Path:
        arguments = [
            "--weights",
            str(WEIGHTS),
            "--labels",
            str(labels),
            "--run",
            str(tmp_path / "run"),
        ]
        monkeypatch.setattr(sys, "argv", ["evaluation", name, *arguments, *words])
        monkeypatch.chdir(ROOT)
        command_line.main()
        return tmp_path / "run" / "evaluation"

    return run


def unable(*_: object) -> DetectFunction:
    raise AssertionError("all images were in the log")


def test_the_command_writes_the_report_and_the_second_time_from_the_log(
    command: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = command("score")
    made = {path.name for path in folder.iterdir()} - {".lock"}
    assert made == {*(f"run-own.{ending}" for ending in ("html", "json", "md", "jpg")), "logs"}
    printed = capsys.readouterr().out
    assert "| own: faces found | 0 of 1 |" in printed and str(folder / "run-own.html") in printed
    page_before = (folder / "run-own.html").read_text(encoding="utf-8")
    monkeypatch.setattr(detections, "load_cascade", unable)
    command("score")
    assert (folder / "run-own.html").read_text(encoding="utf-8") == page_before
    with pytest.raises(AssertionError, match="were in the log"):
        command("score", "--set", "detector.min_face_size=30")


def test_the_command_sweeps(
    command: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    pytest.importorskip("matplotlib")
    first = sweep.PARAMETERS["min_face_size"]._replace(values=(20, 40))
    monkeypatch.setattr(sweep, "PARAMETERS", {"min_face_size": first})
    folder = command("sweep", "--count", "1") / "sweep"
    text = (folder / "sweep.md").read_text()
    assert text in capsys.readouterr().out and "mtcnn_weights.npy on 1 images" in text
    assert [line.split("|")[2].strip() for line in text.splitlines()[4:]] == ["**20**", "40"]
    assert cv2.imread(str(folder / "sweep.png")) is not None
    with pytest.raises(UserError, match="COUNT must be at least 1"):
        command("sweep", "--count", "0")
