"""The report's page: it holds everything in itself, and says what the figures say."""

import base64
import json
import re
import sys
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import cv2
import numpy as np
import pytest

from configs import recipe
from data_prep.annotations import Annotation
from evaluation import __main__ as command_line
from evaluation import detections, page, plots, report, sweep, visualization
from evaluation.detections import ImageDetections
from evaluation.error_analysis import missed
from evaluation.metrics import Score, judge_boxes, judge_landmarks
from evaluation.report import Judged
from mtcnn_detector.cascade import Faces
from mtcnn_detector.errors import UserError

ROOT = Path(__file__).parents[1]
WEIGHTS = ROOT / ".consumers" / "mtcnn-0.1.1" / "mtcnn" / "data" / "mtcnn_weights.npy"
LANDMARKS = np.array([(30, 40), (70, 40), (50, 60), (35, 80), (65, 80)], float)
FACE, TOLD = (20, 20, 80, 100), "<b>&amp; co"


class Reader(HTMLParser):
    """What a browser would show: the text, and the pictures of the page itself."""

    def __init__(self, text):
        super().__init__()
        self.words, self.pictures, self.open = [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        given = dict(attrs)
        if tag == "img":
            (coded,) = re.fullmatch("data:image/(?:png|jpeg);base64,(.*)", given["src"]).groups()
            self.pictures.append(cv2.imdecode(np.frombuffer(base64.b64decode(coded), np.uint8), 1))
        elif tag not in ("meta", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)

    @property
    def text(self):
        return " ".join(" ".join(self.words).split())


def annotation(folder, name):
    path = folder / f"{name}.png"
    cv2.imwrite(str(path), np.full((120, 160, 3), 90, np.uint8))
    boxes, landmarks = np.array([FACE], np.float32), LANDMARKS[None].astype(np.float32)
    return Annotation(path, f"set/{name}.png", boxes, np.zeros(1, bool), landmarks, "labels:1")


def seen(*faces):
    boxes = np.array([box for box, _ in faces], float).reshape(-1, 4)
    scores = np.array([score for _, score in faces], float)
    before = (np.zeros((0, 4)), np.zeros((0, 4)))
    return ImageDetections(
        "", 0.1, Faces(boxes, scores, np.tile(LANDMARKS + 2, (len(faces), 1, 1))), before
    )


def recipe_of(labels):
    """A recipe whose sources are those of `judged`."""
    source = {"format": "wider", "labels": labels, "images": "images"}
    people = source | {"format": "mtfl", "labels": "people.txt", "sample_types": ["landmark"]}
    sources = json.dumps({"scenes": source, "people": people})
    return recipe.load(ROOT / "configs" / "mtcnn.yaml", [f"data.validation={sources}"])


@pytest.fixture
def judged(tmp_path):
    """Two weights files on two pictures: the first one misses a face that the other finds."""
    every = [annotation(tmp_path, name) for name in ("first", "second<>")]
    keys = [picture.key for picture in every]
    answers = {
        "mine.npy": [seen((FACE, 0.9)), seen(((100, 0, 140, 50), 0.875))],
        "theirs": [seen((FACE, 0.8)), seen((FACE, 0.7125))],
    }
    scores = {}
    for label, answer in answers.items():
        found = dict(zip(keys, answer, strict=True))
        boxes = {"scenes": judge_boxes(every, found, {})}
        scores[label] = Score(boxes, {"people": judge_landmarks(every, found)})
    files = {"mine.npy": Path("a/mine.npy"), "theirs": Path("b/w.npy")}
    return Judged(files, scores, recipe_of("own.txt"), "Our detector")


def read(judged, folder):
    return Reader(report.write(judged, folder).read_text(encoding="utf-8"))


def test_the_page_says_what_there_is_to_know(judged, tmp_path):
    content = read(judged, tmp_path / "report")
    assert not content.open, "every tag is closed"
    for told in (
        "Evaluation of mine.npy",
        "faces from 20 px, scale factor 0.709, thresholds 0.6, 0.7, 0.7",
        "mine.npy: a/mine.npy",
        "scenes: 2 pictures, data/own.txt",
        "people: 2 pictures, data/people.txt",
        "scenes: faces found 1 of 2 2 of 2",
        "scenes: false alarms 1 on 2 pictures 0 on 2 pictures",
        # The missed face: 80 px high, no proposal of the first net, found by the other weights.
        "longer side, px lost by pnet all 64 to 128 1 1 all 1 1",
        "The other weights find 1 of them, which come first here; they miss 0 that these find",
        "64 to 128 (px): 1 of 1 80 px: lost by pnet the other weights: 0.713 second<>.png",
        "0.875, 50 px no labelled face there second<>.png",
        "people: the worst landmarks",
    ):
        assert told in content.text, told
    figures = (tmp_path / "report" / "figures.md").read_text()
    assert figures.startswith("| | mine.npy | theirs |\n")
    assert "| scenes: faces found | 1 of 2 | 2 of 2 |" in figures


def test_the_page_holds_its_pictures(judged, tmp_path):
    pytest.importorskip("matplotlib")
    content = read(judged, tmp_path / "report")
    tile = (visualization.MISTAKE_TILE, visualization.MISTAKE_TILE, 3)
    shapes = [picture.shape for picture in content.pictures]
    # One missed face, one false alarm, the landmarks of one face; three curves and the sheet.
    assert shapes.count(tile) == 3 and len(shapes) == 7


@pytest.mark.filterwarnings("error")
def test_nothing_found_at_all(judged, tmp_path):
    every = judged.scores["theirs"].boxes["scenes"].pictures
    nothing = {picture.key: seen() for picture in every}
    boxes = {"scenes": judge_boxes(every, nothing, {})}
    scores = {"w.npy": Score(boxes, {"people": judge_landmarks(every, nothing)})}
    blind = Judged({"w.npy": Path("w.npy")}, scores, recipe_of("own.txt"), "Our detector")
    content = read(blind, tmp_path / "report")
    assert "scenes: faces found 0 of 2" in content.text
    assert "people: landmark NME, of the eye distance nan %" in content.text


def test_another_report_in_its_place_is_told(judged, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(plots, "at_hand", lambda: False)  # they take their time
    for labels in ("own.txt", "own.txt", "other.txt"):
        report.write(replace(judged, settings=recipe_of(labels)), tmp_path / "report")
    told = [line for line in capsys.readouterr().out.splitlines() if line.startswith("note:")]
    assert len(told) == 1
    assert 'is replaced (data.scenes: "data/own.txt" -> "data/other.txt").' in told[0]
    content = json.loads((tmp_path / "report" / "report.json").read_text())
    assert content["figures"]["theirs"]["scenes: faces found"] == "2 of 2"
    assert content["inputs"]["detector.min_face_size"] == 20


def test_without_matplotlib_the_rest_is_there(judged, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    content = read(judged, tmp_path / "report")
    assert plots.MISSING.replace("`", "") in content.text.replace("  ", " ")
    assert plots.MISSING in capsys.readouterr().err
    assert len(content.pictures) == 4


def test_alone_and_without_mistakes(judged, tmp_path):
    first = judged.scores["theirs"]
    files = {"w.npy": Path("w.npy")}
    alone = Judged(files, {"w.npy": first}, recipe_of("own.txt"), "Our detector")
    content = read(alone, tmp_path / "report")
    assert "scenes: faces found 2 of 2" in content.text
    assert "The other weights" not in content.text


def test_a_tile_shows_the_place_and_its_colours(tmp_path):
    picture = annotation(tmp_path, "dark")
    result = judge_boxes([picture], {picture.key: seen()}, {})
    (miss,) = missed(result)
    tile = visualization.mistake_tile(miss)
    size = visualization.MISTAKE_TILE
    # The face is 60 by 80 px, the tile 2.4 times 80 wide, the face in its middle.
    left, top = (int(size / 2 - side / 2 * size / 192) for side in (60, 80))
    assert tile[size // 2, left].tolist() == [255, 60, 60]
    assert tile[top, size // 2].tolist() == [255, 60, 60]
    assert tile[size // 2, size // 2].tolist() == [90, 90, 90]
    assert tile[0, 0].tolist() == [0, 0, 0], "outside the picture"


def test_words_are_never_taken_for_tags():
    parts = [
        page.heading(TOLD),
        page.paragraph(f"{TOLD} `{TOLD}`"),
        page.table([TOLD], [[TOLD]]),
        page.tiles([page.Tile(b"", [TOLD, TOLD], TOLD, Path(TOLD))]),
    ]
    text = page.page(TOLD, parts)
    assert TOLD not in text
    words = re.sub("<[^>]*>", " ", text.split("</style>")[1])
    assert words.count("&lt;b&gt;&amp;amp; co") == 9


@pytest.fixture
def command(tmp_path, monkeypatch):
    """`python -m evaluation ...` with real weights on two pictures of noise."""
    if not WEIGHTS.is_file():
        pytest.skip("mtcnn 0.1.1 is not in .consumers: `make consumers` puts it there")
    noise = np.random.default_rng(0).integers(0, 255, (2, 60, 80, 3), np.uint8)
    for name, image in zip("ab", noise, strict=True):
        cv2.imwrite(str(tmp_path / f"{name}.png"), image)
    labels = tmp_path / "own.txt"
    labels.write_text("a.png\n1\n5 5 30 30 0 0 0 0 0 0\nb.png\n0\n")

    def run(name, *words):
        given = ["--weights", str(WEIGHTS), "--data", str(labels), "--run", str(tmp_path / "run")]
        monkeypatch.setattr(sys, "argv", ["evaluation", name, *given, *words])
        monkeypatch.chdir(ROOT)
        command_line.main()
        return tmp_path / "run" / "evaluation"

    return run


def unable(*_):
    raise AssertionError("all pictures had been looked at")


def test_the_command_makes_the_report_and_makes_it_again_at_once(command, monkeypatch, capsys):
    folder = command("score")
    made = {path.name for path in folder.iterdir()} - {".lock"}
    assert made == {"report.html", "report.json", "figures.md", "detections.jpg", "logs"}
    printed = capsys.readouterr().out
    assert "| own: faces found | 0 of 1 |" in printed and str(folder / "report.html") in printed
    page_before = (folder / "report.html").read_text(encoding="utf-8")
    monkeypatch.setattr(detections, "ours", unable)
    command("score")
    assert (folder / "report.html").read_text(encoding="utf-8") == page_before
    with pytest.raises(AssertionError, match="had been looked at"):
        command("score", "--set", "detector.min_face_size=30")


def test_the_command_sweeps(command, monkeypatch, capsys):
    pytest.importorskip("matplotlib")
    first = sweep.PARAMETERS["min_face_size"]._replace(values=(20, 40))
    monkeypatch.setattr(sweep, "PARAMETERS", {"min_face_size": first})
    folder = command("sweep", "--pictures", "1") / "sweep"
    text = (folder / "sweep.md").read_text()
    assert text in capsys.readouterr().out and "mtcnn_weights.npy on 1 pictures" in text
    assert [line.split("|")[2].strip() for line in text.splitlines()[4:]] == ["**20**", "40"]
    assert cv2.imread(str(folder / "sweep.png")) is not None
    with pytest.raises(UserError, match="PICTURES must be at least 1"):
        command("sweep", "--pictures", "0")
