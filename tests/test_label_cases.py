"""The small data sets of tests/cases, and neighbours of theirs: each is read rightly or refused."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from configs import recipe
from data_prep.annotations import Annotation, LabelSet, read_labels
from data_prep.build_records import prepare
from data_prep.label_request import LabelRequest
from mtcnn_detector.errors import UserError
from tests.data_sets import MTCNN, ROOT, manifest_of

CASES = Path(__file__).parent / "cases"
FIRST = [
    32.2,
    33.0,
    49.8,
    33.0,
    41.0,
    44.0,
    34.4,
    53.9,
    47.6,
    53.9,
]  # landmarks of p01's first face
FACES = "pnet: {records: {negatives_per_image: 2, negatives_per_face: 1, positives_per_face: 2, parts_per_face: 1, landmarks_per_face: 1}}"  # noqa: E501


def read(case: str, **more: Any) -> LabelSet:
    own = CASES / case / "images"
    images = own if own.is_dir() else CASES / "images"
    return read_labels(
        LabelRequest("auto", (CASES / case / "annotations.json",), images, source="own", **more)
    )


def changed(folder: Path, change: Callable[[dict[str, Any]], None]) -> Path:
    """A copy of the plain case whose labels are changed."""
    content = json.loads((CASES / "own_recipe_evaluate" / "annotations.json").read_text())
    change(content)
    (folder / "annotations.json").write_text(json.dumps(content))
    return folder / "annotations.json"


def read_changed(folder: Path, change: Callable[[dict[str, Any]], None], **more: Any) -> LabelSet:
    labels = changed(folder, change)
    return read_labels(LabelRequest("coco", (labels,), CASES / "images", source="own", **more))


def first(labels: LabelSet) -> Annotation:
    return labels.annotations[0]


def check_all(labels: LabelSet) -> None:
    """As in the plain case: 24 faces with landmarks in 12 images."""
    plain = read("own_recipe_evaluate")
    assert len(labels.annotations) == 12
    for one, other in zip(labels.annotations, plain.annotations, strict=True):
        assert one.key == other.key and one.image.is_file()
        np.testing.assert_allclose(one.boxes, other.boxes, atol=1e-3)
        np.testing.assert_allclose(one.landmarks, other.landmarks, atol=1e-3)


def test_the_plain_case() -> None:
    labels = read("own_recipe_evaluate")
    assert labels.notes == []
    assert first(labels).boxes.tolist() == [[19, 11, 63, 66], [138, 54, 187, 115]]
    np.testing.assert_allclose(first(labels).landmarks[0].ravel(), FIRST, atol=1e-3)


def test_exif_rotated() -> None:
    labels = read("exif_rotated")
    check_pixels(labels)
    assert all(one.upright for one in labels.annotations)
    assert "12 images are stored rotated (p01.jpg" in labels.notes[0]


def check_pixels(labels: LabelSet) -> None:
    for one in labels.annotations:
        image = one.load()
        assert image is not None and image.shape == (160, 220, 3)
        for x1, y1, x2, y2 in one.boxes.astype(int):
            x, y = (x1 + x2) // 2, y1 + (y2 - y1) // 6
            red, _, blue = image[y - 2 : y + 3, x - 3 : x + 4].mean(axis=(0, 1))
            assert red > blue + 40, "skin of the forehead, not background"


def test_keypoints_in_another_order() -> None:
    check_all(read("keypoints_nose_first"))


def test_keypoints_of_the_person() -> None:
    labels = read("keypoints_subjects_left")
    check_all(labels)
    assert "24 of 24 left eyes and 24 of 24 left mouth corners are right of" in labels.notes[0]
    assert "left and right are exchanged" in labels.notes[0]


@pytest.mark.parametrize("degrees", [90, 180, 250])
def test_rotated_faces_are_not_taken_for_mirrored_ones(tmp_path: Path, degrees: int) -> None:
    turn = np.deg2rad(degrees)
    matrix = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])

    def rotate(content: dict[str, Any]) -> None:
        for label in content["annotations"]:
            points = np.array(label["keypoints"], float).reshape(5, 3)
            points[:, :2] = (points[:, :2] - points[2, :2]) @ matrix.T + points[2, :2]
            label["keypoints"] = points.ravel().tolist()

    assert read_changed(tmp_path, rotate).notes == []


def exchange_mouth(content: dict[str, Any]) -> None:
    for label in content["annotations"]:
        flat = label["keypoints"]
        label["keypoints"] = flat[:9] + flat[12:] + flat[9:12]


def test_the_mouth_alone_may_be_mirrored(tmp_path: Path) -> None:
    labels = read_changed(tmp_path, exchange_mouth)
    check_all(labels)
    assert "24 of 24 left mouth corners are right of" in labels.notes[0]
    assert "eyes" not in labels.notes[0]


def test_mixed_sides_are_suspicious(tmp_path: Path) -> None:
    def mix(content: dict[str, Any]) -> None:
        exchange_mouth({"annotations": content["annotations"][:8]})

    (note,) = read_changed(tmp_path, mix).notes
    assert note.startswith("warning: left and right mouth corners are mixed: 8 of 24")


def renamed(names: list[str], order: list[int] | None = None) -> Callable[[dict[str, Any]], None]:
    def change(content: dict[str, Any]) -> None:
        content["categories"][0]["keypoints"] = names
        for label in content["annotations"]:
            points = np.array(label["keypoints"], float).reshape(5, 3)
            every = np.zeros((len(names), 3))
            every[order or range(5)] = points
            label["keypoints"] = every.ravel().tolist()

    return change


@pytest.mark.parametrize(
    "names",
    [
        ["leftEye", "rightEye", "noseTip", "mouthLeft", "mouthRight"],
        ["left eye", "right eye", "nose tip", "left mouth corner", "right mouth corner"],
        ["eye_l", "eye_r", "nose", "mouth_l", "mouth_r"],
        ["left_eye_center", "right_eye_center", "nose_tip", "left_lip_corner", "right_lip_corner"],
        ["LEye", "REye", "Nose", "LMouth", "RMouth"],
    ],
)
def test_usual_names_of_keypoints(tmp_path: Path, names: list[str]) -> None:
    check_all(read_changed(tmp_path, renamed(names)))


def test_unknown_names_of_keypoints(tmp_path: Path) -> None:
    change = renamed(["kp1", "kp2", "kp3", "kp4", "kp5"])
    with pytest.raises(UserError, match=r"keypoints are named kp1, kp2, .*: set landmark_names"):
        read_changed(tmp_path, change)
    names = ("kp1", "kp2", "kp3", "kp4", "kp5")
    check_all(read_changed(tmp_path, change, landmark_names=names))
    with pytest.raises(UserError, match="landmark_names asks for eye, but"):
        read_changed(tmp_path, change, landmark_names=("eye", *names[1:]))


def test_five_of_many_named_keypoints(tmp_path: Path) -> None:
    names = [f"brow_{i}" for i in range(20)] + ["mouth_left", "mouth_right", "left_eye_inner"]
    names += ["left_eye", "nose_tip", "right_eye", "right_ear"]
    order = [
        names.index(n) for n in ("left_eye", "right_eye", "nose_tip", "mouth_left", "mouth_right")
    ]
    check_all(read_changed(tmp_path, renamed(names, order)))


def test_68_keypoints(tmp_path: Path) -> None:
    """The eyes are the means of six points each."""

    def change(content: dict[str, Any]) -> None:
        del content["categories"][0]["keypoints"]
        for label in content["annotations"]:
            points = np.array(label["keypoints"], float).reshape(5, 3)
            every = np.full((68, 3), 2.0)
            ring = np.array([[-2, 0], [-1, -1], [1, -1], [2, 0], [1, 1], [-1, 1]])
            every[36:42, :2] = points[0, :2] + ring
            every[42:48, :2] = points[1, :2] + ring
            every[[30, 48, 54], :2] = points[2:, :2]
            label["keypoints"] = every.ravel().tolist()

    check_all(read_changed(tmp_path, change))


def test_17_keypoints_have_no_mouth(tmp_path: Path) -> None:
    names = ["nose", "left_eye", "right_eye", "left_ear", "right_ear", "left_hip", "right_hip"]
    names += [f"part_{i}" for i in range(10)]

    def change(content: dict[str, Any]) -> None:
        content["categories"][0]["keypoints"] = names
        for label in content["annotations"]:
            points = np.array(label["keypoints"], float).reshape(5, 3)
            every = np.zeros((17, 3))
            every[:3] = points[[2, 1, 0]]  # COCO's left is the person's
            label["keypoints"] = every.ravel().tolist()

    labels = read_changed(tmp_path, change)
    assert any("left_eye, right_eye, nose were found and left_mouth" in n for n in labels.notes)
    assert any("left eyes are right of" in note for note in labels.notes)
    np.testing.assert_allclose(first(labels).landmarks[0, :3].ravel(), FIRST[:6], atol=1e-3)
    assert np.isnan(first(labels).landmarks[0, 3:]).all()


def test_two_categories() -> None:
    with pytest.raises(
        UserError,
        match=r"face 24, person 24: name those that are meant.*data.train.own.categories=\[face\]",
    ):
        read("two_categories")
    check_all(read("two_categories", categories=("face",)))
    check_all(read("two_categories", categories=("Face",)))
    both = read("two_categories", categories=("face", "person"))
    assert sum(len(one.boxes) for one in both.annotations) == 48
    with pytest.raises(UserError, match="has no category head; it has: face 24, person 24"):
        read("two_categories", categories=("head",))


def test_one_used_category_of_several_is_enough(tmp_path: Path) -> None:
    def change(content: dict[str, Any]) -> None:
        content["categories"].append({"id": 2, "name": "person"})

    check_all(read_changed(tmp_path, change))


def test_corners_in_place_of_sizes() -> None:
    message = "13 of 24 boxes reach beyond their images, read as x1 y1 x2 y2 none: set boxes: xyxy"
    with pytest.raises(UserError, match=message):
        read("bbox_is_xyxy")
    boxes = first(read("bbox_is_xyxy", boxes="xyxy")).boxes
    assert boxes.tolist() == [[19, 11, 63, 66], [138, 54, 187, 115]]
    with pytest.raises(UserError, match="boxes end before they begin: set boxes: xywh"):
        read("own_recipe_evaluate", boxes="xyxy")


def test_corners_are_noticed_without_listed_sizes(tmp_path: Path) -> None:
    def change(content: dict[str, Any]) -> None:
        for image in content["images"]:
            del image["width"], image["height"]
        for label in content["annotations"]:
            x, y, w, h = label["bbox"]
            label["bbox"] = [x, y, x + w, y + h]

    with pytest.raises(UserError, match="set boxes: xyxy"):
        read_changed(tmp_path, change)


def test_fractions() -> None:
    with pytest.raises(UserError, match=r"look like fractions of the image .*: set boxes: fract"):
        read("bbox_normalised")
    boxes = first(read("bbox_normalised", boxes="fractions")).boxes
    np.testing.assert_allclose(boxes, [[19, 11, 63, 66], [138, 54, 187, 115]], atol=1e-3)
    with pytest.raises(UserError, match="are no fractions of the image"):
        read("own_recipe_evaluate", boxes="fractions")


@pytest.mark.parametrize("corners", [False, True])
def test_percentages(tmp_path: Path, corners: bool) -> None:
    def change(content: dict[str, Any]) -> None:
        for label in content["annotations"]:
            x, y, w, h = label["bbox"]
            third, fourth = (x + w, y + h) if corners else (w, h)
            label["bbox"] = [x / 2.2, y / 1.6, third / 2.2, fourth / 1.6]
            del label["keypoints"]

    setting = "fractions_xyxy" if corners else "fractions"
    with pytest.raises(UserError, match=f"percentages .* by 100 and set boxes: {setting}"):
        read_changed(tmp_path, change, boxes="xyxy" if corners else None)


def test_corners_as_fractions(tmp_path: Path) -> None:
    def change(content: dict[str, Any]) -> None:
        for label in content["annotations"]:
            x, y, w, h = label["bbox"]
            label["bbox"] = [x / 220, y / 160, (x + w) / 220, (y + h) / 160]
            del label["keypoints"]

    with pytest.raises(UserError, match="set boxes: fractions_xyxy"):
        read_changed(tmp_path, change)
    with pytest.raises(UserError, match="set boxes: fractions_xyxy"):
        read_changed(tmp_path, change, boxes="fractions")
    boxes = first(read_changed(tmp_path, change, boxes="fractions_xyxy")).boxes
    np.testing.assert_allclose(boxes, [[19, 11, 63, 66], [138, 54, 187, 115]], atol=1e-3)


def test_pixels_counted_from_one() -> None:
    zero, one = (first(read("own_recipe_evaluate", first_pixel=pixel)) for pixel in (0, 1))
    np.testing.assert_array_equal(one.boxes, zero.boxes - 1)
    np.testing.assert_array_equal(one.landmarks, zero.landmarks - 1)
    with pytest.raises(UserError, match="fractions of the image: leave out first_pixel"):
        read("bbox_normalised", boxes="fractions", first_pixel=1)


def test_paths_of_windows() -> None:
    labels = read("windows_file_name")
    check_all(labels)
    assert "12 images are listed by other paths" in labels.notes[0]
    assert r"images\p01.jpg is p01.jpg" in labels.notes[0]


def test_labels_without_landmarks() -> None:
    case = CASES / "celeba_evaluate_traceback" / "list_bbox_celeba.txt"
    labels = read_labels(LabelRequest("auto", (case,), CASES / "images"))
    assert labels.format == "celeba"
    assert sum(len(one.boxes) for one in labels.annotations) == 12
    assert all(np.isnan(one.landmarks).all() for one in labels.annotations)


def own_recipe(folder: Path, labels: Path, images: Path) -> Path:
    path = folder / "mine.yaml"
    source = f"{{format: auto, labels: {labels}, images: {images}}}"
    data = f"data: {{folder: {folder}, max_broken_fraction: 0.2, train: {{own: {source}}}}}"
    path.write_text("\n".join([f"base: {MTCNN}", data, FACES]) + "\n")
    return path


def copied(folder: Path) -> tuple[Path, Path]:
    """The case's labels and images, to be changed."""
    shutil.copytree(CASES / "images", folder / "images")
    shutil.copy(CASES / "mended_picture_stays_out" / "annotations.json", folder)
    return folder / "annotations.json", folder / "images"


def test_a_mended_image_is_noticed(tmp_path: Path) -> None:
    labels, images = copied(tmp_path)
    (images / "p03.jpg").write_bytes(b"broken")
    settings = recipe.load(own_recipe(tmp_path, labels, images))
    prepare(settings, "pnet", tmp_path / "run", 1, force=False)
    assert [Path(name).name for name in manifest_of(tmp_path / "run")["broken"]] == ["p03.jpg"]
    shutil.copy(CASES / "mended_picture_stays_out" / "p03.jpg", images)
    message = (
        r"1 images changed since .* was cut from them \(own/p03\.jpg\): `make pnet-data .*FORCE=1"
    )
    with pytest.raises(UserError, match=message):
        prepare(settings, "pnet", tmp_path / "run", 1, force=False)
    prepare(settings, "pnet", tmp_path / "run", 1, force=True)
    assert manifest_of(tmp_path / "run")["broken"] == {}


def test_a_touched_image_is_the_same(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    labels, images = copied(tmp_path)
    settings = recipe.load(own_recipe(tmp_path, labels, images))
    prepare(settings, "pnet", tmp_path / "run", 1, force=False)
    (images / "p05.jpg").touch()
    prepare(settings, "pnet", tmp_path / "run", 1, force=False)
    assert "nothing to do" in capsys.readouterr().out


def test_one_image(tmp_path: Path) -> None:
    labels = CASES / "one_picture" / "annotations.json"
    settings = recipe.load(own_recipe(tmp_path, labels, CASES / "images"))
    message = (
        "hold 1 image: at least 2 are needed, .*, and 30 for a split by data.validation_fraction"
    )
    with pytest.raises(UserError, match=message):
        prepare(settings, "pnet", tmp_path / "run", 1, force=False)


def test_the_command_ends_with_one_sentence(tmp_path: Path) -> None:
    labels = CASES / "bbox_normalised" / "annotations.json"
    command = [sys.executable, "-m", "data_prep", "labels", "--run", str(tmp_path / "run")]
    command += ["--config", str(own_recipe(tmp_path, labels, CASES / "images"))]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1
    (sentence,) = done.stderr.splitlines()
    assert sentence.startswith("error: ") and "set boxes: fractions" in sentence


def in_yolo(folder: Path, numbers: Callable[[float, float, float, float], list[float]]) -> Path:
    """The plain case's faces as a line each of YOLO's, of `numbers` of x y w h."""
    labels = folder / "labels"
    labels.mkdir()
    for one in read("own_recipe_evaluate").annotations:
        rows = [numbers(x, y, x2 - x, y2 - y) for x, y, x2, y2 in one.boxes.tolist()]
        text = "".join(f"0 {' '.join(map(str, row))}\n" for row in rows)
        (labels / one.image.with_suffix(".txt").name).write_text(text)
    return labels


YOLO_READINGS: list[tuple[str, Callable[[float, float, float, float], list[float]]]] = [
    (
        "read as corners x1 y1 x2 y2 none",
        lambda x, y, w, h: [x / 220, y / 160, (x + w) / 220, (y + h) / 160],
    ),
    (
        "read as x y w h from the upper left corner none",
        lambda x, y, w, h: [x / 220, y / 160, w / 220, h / 160],
    ),
    ("p01.txt:1: the box reaches far beyond", lambda x, y, w, h: [x + w / 2, y + h / 2, w, h]),
]


@pytest.mark.parametrize(("sentence", "numbers"), YOLO_READINGS)
def test_yolo_files_of_other_numbers(
    tmp_path: Path, sentence: str, numbers: Callable[[float, float, float, float], list[float]]
) -> None:
    labels = in_yolo(tmp_path, numbers)
    with pytest.raises(UserError, match=sentence):
        read_labels(LabelRequest("auto", (labels,), CASES / "images"))


def in_voc(folder: Path, corners: Callable[[float, float, float, float], list[float]]) -> Path:
    labels = folder / "labels"
    labels.mkdir()
    for one in read("own_recipe_evaluate").annotations:
        rows = [corners(x, y, x2 - x, y2 - y) for x, y, x2, y2 in one.boxes.tolist()]
        tags = ("xmin", "ymin", "xmax", "ymax")
        objects = [
            "".join(f"<{tag}>{value}</{tag}>" for tag, value in zip(tags, row, strict=True))
            for row in rows
        ]
        text = "".join(f"<object><name>face</name><bndbox>{o}</bndbox></object>" for o in objects)
        (labels / one.image.with_suffix(".xml").name).write_text(f"<annotation>{text}</annotation>")
    return labels


def test_voc_files_of_other_numbers(tmp_path: Path) -> None:
    (tmp_path / "sizes").mkdir()
    labels = in_voc(tmp_path / "sizes", lambda x, y, w, h: [x, y, w, h])
    with pytest.raises(UserError, match="15 of 24 boxes have no width or height, or end before"):
        read_labels(LabelRequest("auto", (labels,), CASES / "images"))
    (tmp_path / "fractions").mkdir()
    labels = in_voc(
        tmp_path / "fractions",
        lambda x, y, w, h: [x / 220, y / 160, (x + w) / 220, (y + h) / 160],
    )
    request = LabelRequest("auto", (labels,), CASES / "images")
    with pytest.raises(UserError, match="set boxes: fractions"):
        read_labels(request)
    boxes = read_labels(replace(request, boxes="fractions")).annotations[0].boxes
    np.testing.assert_allclose(boxes, [[19, 11, 63, 66], [138, 54, 187, 115]], atol=1e-3)


def test_centres_in_place_of_corners(tmp_path: Path) -> None:
    def change(content: dict[str, Any]) -> None:
        for label in content["annotations"]:
            x, y, w, h = label["bbox"]
            label["bbox"] = [x + w / 2, y + h / 2, w, h]

    labels = read_changed(tmp_path, change)
    assert any("most noses lie near the border of their boxes" in note for note in labels.notes)

    def near_the_border(content: dict[str, Any]) -> None:
        for label in content["annotations"]:
            label["bbox"] = [190, 130, 60, 60]
            label.pop("keypoints")

    with pytest.raises(UserError, match="read as centre, width and height none"):
        read_changed(tmp_path, near_the_border)


def test_unnamed_keypoints_in_another_order_are_suspicious(tmp_path: Path) -> None:
    def change(content: dict[str, Any]) -> None:
        del content["categories"][0]["keypoints"]
        for label in content["annotations"]:
            points = np.array(label["keypoints"], float).reshape(5, 3)
            label["keypoints"] = points[[2, 0, 1, 3, 4]].ravel().tolist()

    notes = " ".join(read_changed(tmp_path, change).notes)
    assert "most noses do not lie between eyes and mouth" in notes


def test_keypoints_that_are_not_labelled_are_named(tmp_path: Path) -> None:
    def change(content: dict[str, Any]) -> None:
        for label in content["annotations"]:
            label["keypoints"][2::3] = [0] * 5

    labels = read_changed(tmp_path, change)
    assert all(np.isnan(one.landmarks).all() for one in labels.annotations)
    (note,) = labels.notes
    assert "have coordinates, but a visibility of 0" in note


@pytest.mark.parametrize(
    "path", ["{stem}.png", "../upload/3/1a2b3c4d-{stem}.jpg", "/data/local-files/?d=x/{stem}.jpg"]
)
def test_paths_of_converted_and_uploaded_images(tmp_path: Path, path: str) -> None:
    def change(content: dict[str, Any]) -> None:
        for image in content["images"]:
            image["file_name"] = path.format(stem=Path(image["file_name"]).stem)

    check_all(read_changed(tmp_path, change))
