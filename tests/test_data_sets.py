"""Data sets of an evaluation: validation sources, held-out images, landmarks of any source."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from configs import recipe
from configs.settings import Settings
from data_prep.annotations import Annotation
from data_prep.sources import labelled_images
from evaluation import figures, metrics, report
from evaluation.data_sets import data_sets, file_stem
from evaluation.detections import ImageDetections
from evaluation.wording import with_object
from mtcnn_detector.cascade import Faces
from mtcnn_detector.errors import UserError
from mtcnn_detector.pixels import Image

ROOT = Path(__file__).parents[1]
Points = list[tuple[float, float]]
NAN = float("nan")
EYES_APART: Points = [(30, 40), (70, 40), (50, 60), (35, 80), (65, 80)]
PROFILE: Points = [(50, 40), (54, 40), (50, 60), (50, 80), (52, 80)]  # eyes 4 px apart, of 80


def own_recipe(folder: Path, **changes: object) -> Settings:
    """The default recipe with 60 own images, one face each, and no `validation`."""
    (folder / "images").mkdir()
    entries = []
    for number in range(60):
        cv2.imwrite(str(folder / "images" / f"{number}.png"), np.zeros((60, 80, 3), np.uint8))
        entries.append(f"{number}.png\n1\n10 10 40 40 0 0 0 0 0 0\n")
    (folder / "labels.txt").write_text("".join(entries))
    source = {"format": "wider", "labels": "labels.txt", "images": "images"}
    data = {"folder": str(folder), "train": {"own": source}, **changes}
    path = folder / "mine.yaml"
    path.write_text(json.dumps({"base": str(ROOT / "configs/mtcnn.yaml"), "data": data}))
    return recipe.load(path)


def test_without_validation_the_held_out_images_are_evaluated(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = own_recipe(tmp_path)
    assert all(source.optional for source in settings.data.validation.values())
    held_out = [one.annotation.key for one in labelled_images(settings, 0.5)["validation"]]
    assert 1 <= len(held_out) < 20
    (tmp_path / "images" / Path(held_out[0]).name).write_bytes(b"no image")
    ((name, data),) = data_sets(settings).items()
    assert name == "own held out" and data.has_boxes
    assert [annotation.key for annotation in data.annotations] == held_out[1:]
    printed = capsys.readouterr().out
    assert f"the held-out training images are evaluated: {len(held_out) - 1}," in printed


@pytest.mark.parametrize("name", ["a/b", "/a", ".", ""])
def test_names_that_are_no_part_of_a_path_are_refused(tmp_path: Path, name: str) -> None:
    """An image's key begins with the name of its source, up to the first slash."""
    source = {"format": "wider", "labels": "labels.txt", "images": "images"}
    with pytest.raises(UserError, match=r"data\.train must name sources by words without a slash"):
        own_recipe(tmp_path, train={name: source})


def test_an_empty_validation_is_none(tmp_path: Path) -> None:
    assert own_recipe(tmp_path, validation={}).data.validation == {}


def test_the_held_out_images_get_their_metrics(tmp_path: Path) -> None:
    settings = own_recipe(tmp_path)
    boxes = np.array([(10, 10, 50, 50)], float)
    found = Faces(boxes, np.array([0.9]), np.full((1, 5, 2), NAN))

    def detect(_: Image) -> list[Faces]:
        return [found]

    rows = figures.figures(metrics.score(settings, detect, tmp_path / "logs"))
    assert rows["own held out: AP"] == "1.000"
    assert (tmp_path / "logs" / "own-held-out.jsonl").exists()


def test_no_held_out_image_is_an_error_with_the_settings_to_change(tmp_path: Path) -> None:
    settings = own_recipe(tmp_path, validation_fraction=0.0001)
    with pytest.raises(UserError, match=r"raise data\.validation_fraction, or name a data\.valid"):
        data_sets(settings)


def test_validation_sources_are_evaluated_where_the_recipe_names_them(tmp_path: Path) -> None:
    source = {"format": "wider", "labels": "labels.txt", "images": "images"}
    people = {"format": "mtfl", "labels": "people.txt", "images": "images"}
    (tmp_path / "people.txt").write_text("1.png 1 9 1 9 3 3 7 3 5 5 3 7 7 7\n")
    settings = own_recipe(
        tmp_path, validation={"all": source, "people": people | {"sample_types": ["landmark"]}}
    )
    sets = data_sets(settings)
    assert {name: (len(d.annotations), d.has_boxes) for name, d in sets.items()} == {
        "all": (60, True),
        "people": (1, False),
    }


@pytest.mark.parametrize("suffix", ["png", "jpg"])
def test_images_whose_boxes_are_all_empty_are_left_out_as_in_training(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], suffix: str
) -> None:
    source = {"format": "wider", "labels": "val.txt", "images": "images"}
    settings = own_recipe(tmp_path, validation={"all": source})
    names = [f"{number}.{suffix}" for number in range(3)]
    for name in names:
        cv2.imwrite(str(tmp_path / "images" / name), np.zeros((60, 80, 3), np.uint8))
    boxes = ["1\n10 10 40 40 0 0 0 0 0 0", "1\n10 10 0 0 0 0 0 0 0 0", "0"]  # the last: no face
    lines = [f"{name}\n{box}\n" for name, box in zip(names, boxes, strict=True)]
    (tmp_path / "val.txt").write_text("".join(lines))
    kept = [Path(one.key).name for one in data_sets(settings)["all"].annotations]
    assert kept == [names[0], names[2]]
    assert f"all boxes of {tmp_path / 'images' / names[1]} are empty" in capsys.readouterr().err


def test_images_that_cannot_be_used_are_left_out_and_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = {"format": "wider", "labels": "val.txt", "images": "images"}
    settings = own_recipe(tmp_path, validation={"all": source})
    boxes = {1: "10 10 x 40", 2: "10 10 20 30", 3: "90 70 20 20"}  # damaged, whole, outside
    lines = [f"{n}.png\n1\n{boxes.get(n, '10 10 40 40')} 0 0 0 0 0 0\n" for n in range(6)]
    (tmp_path / "val.txt").write_text("".join(lines))
    (tmp_path / "images" / "4.png").write_bytes(b"no image")
    kept = [Path(one.key).name for one in data_sets(settings)["all"].annotations]
    assert kept == ["0.png", "2.png", "5.png"]
    told = capsys.readouterr().err
    assert "warning: all: 3 of 6 images are left out: " in told
    assert "val.txt:6" in told and "lies outside its image" in told
    assert "4.png is missing or unreadable" in told
    for number in range(6):
        (tmp_path / "images" / f"{number}.png").write_bytes(b"no image")
    with pytest.raises(UserError, match="all: none of its images can be used: mend them"):
        data_sets(settings)


def annotation(landmarks: list[Points], ignored: list[bool]) -> Annotation:
    boxes = np.array([(20 + 200 * i, 20, 80 + 200 * i, 100) for i in range(len(ignored))], float)
    points = np.array(landmarks, float).reshape(-1, 5, 2)
    points[..., 0] += 200 * np.arange(len(points))[:, None]
    return Annotation(Path("a.png"), "set/a.png", boxes, np.array(ignored), points, "labels:1")


def detections(shift: float) -> ImageDetections:
    """A box on each of the six faces; all landmarks lie so many px right of `EYES_APART`."""
    boxes = np.array([(20 + 200 * i, 20, 80 + 200 * i, 100) for i in range(6)], float)
    points = np.array([EYES_APART] * 6, float)
    points[..., 0] += 200 * np.arange(6)[:, None] + shift
    points[np.isnan(points[..., 0])] = NAN
    return ImageDetections("", 0.1, Faces(boxes, np.full(6, 0.9), points))


UNKNOWN: Points = [(NAN, NAN)] * 5


def test_landmarks_are_scored_for_every_face_whose_eyes_are_known() -> None:
    partly = [*EYES_APART[:2], *UNKNOWN[:3]]
    no_eye = [UNKNOWN[0], *EYES_APART[1:]]
    faces = annotation(
        [EYES_APART, UNKNOWN, partly, no_eye, PROFILE, EYES_APART],
        [False, False, False, False, False, True],
    )
    score = metrics.score_landmarks([faces], {faces.key: detections(4)}, 0.5)
    assert score is not None
    assert [face.face for face in score.faces] == [0, 2]
    assert list(score.errors.errors.values()) == [pytest.approx(0.1)] * 2
    rows = figures.figures(
        metrics.Score(
            {"own": metrics.score_boxes([faces], {faces.key: detections(4)}, {})},
            landmarks={"own": score},
        )
    )
    assert rows["own: faces found with landmarks"] == "2 of 2"
    assert rows["own: landmark NME, of the eye distance"] == "10.00 %"


def test_no_landmark_metrics_without_labels_or_without_a_head() -> None:
    unlabelled = annotation([UNKNOWN] * 6, [False] * 6)
    assert metrics.score_landmarks([unlabelled], {unlabelled.key: detections(0)}) is None
    labelled = annotation([EYES_APART] * 6, [False] * 6)
    assert metrics.score_landmarks([labelled], {labelled.key: detections(NAN)}) is None


def test_one_face_per_image_without_landmarks_has_its_recall(tmp_path: Path) -> None:
    files: dict[str, object] = {"format": "celeba", "labels": "boxes.txt", "images": "images"}
    source = files | {"sample_types": ["landmark"]}
    rows = "1.png 12 10 40 40\n2.png 10 10 40 40\n3.png 55 10 20 40\n"
    (tmp_path / "boxes.txt").write_text(f"3\nimage_id x_1 y_1 width height\n{rows}")
    settings = own_recipe(tmp_path, validation={"people": source})
    found = Faces(np.array([(10.0, 10, 50, 50)]), np.array([0.9]), np.zeros((1, 5, 2)))
    result = metrics.score(settings, lambda _: [found], tmp_path / "logs")
    assert figures.figures(result) == {"people: faces found (IoU 0.3)": "2 of 3"}
    weights = {"w.npy": Path("w.npy")}
    evaluation = report.Evaluation(weights, {"w.npy": result}, settings, "Our detector", "run")
    page = report.write(evaluation, tmp_path)
    assert page.name == "run-people.html"
    assert "people: 3 images" in page.read_text()


def test_ignored_faces_do_not_count_among_single_ones() -> None:
    """A strong detector's faces (`detections:`) become ignored ones."""
    faces = annotation([UNKNOWN] * 6, [False, True, True, False, False, True])
    score = metrics.score_single_faces([faces], {faces.key: detections(0)})
    assert (score.images, score.faces, score.found) == (1, 3, 3)


def test_another_object_is_named_in_the_metrics(tmp_path: Path) -> None:
    settings = own_recipe(tmp_path, object="plate")
    rows = figures.figures(metrics.score(settings, lambda _: [nothing()], tmp_path / "logs"))
    count = len(data_sets(settings)["own held out"].annotations)
    assert rows["own held out: plates found"] == f"0 of {count}"
    assert not any("face" in row for row in rows)


def nothing() -> Faces:
    return Faces(np.zeros((0, 4)), np.zeros(0), np.zeros((0, 5, 2)))


@pytest.mark.parametrize(
    ("noun", "text"),
    [
        ("face", "Faces found: second box of a face"),
        ("licence plate", "Licence plates found: second box of a licence plate"),
        ("box", "Boxes found: second box of a box"),
    ],
)
def test_words_for_another_object(noun: str, text: str) -> None:
    assert with_object("Faces found: second box of a face", noun) == text
    assert with_object("surface, preface", noun) == "surface, preface"


def test_file_names_hold_no_odd_characters() -> None:
    assert file_stem("run", "own held out", "a/b:c") == "run-own-held-out-a-b-c"
    assert file_stem("..", "/") == "evaluation"
