"""A recipe without landmarks: its settings, its data, and what its trainings keep of `init`."""

import json
from pathlib import Path

import numpy as np
import pytest

from configs import recipe
from configs.settings import Settings
from data_prep import label_check
from data_prep.build_records import prepare
from data_prep.enough_landmarks import faces_wanted, refuse_too_few
from data_prep.sources import label_sets, labelled_images
from mtcnn_detector.errors import UserError
from mtcnn_detector.net import NETS, NetName
from mtcnn_detector.weights import weight_files
from pipeline import run_recipe, status
from pipeline.finetuning import begun_again
from pipeline.make_command import set_variables
from tests.data_sets import MTCNN, files, manifest_of, small_set, write_data, write_recipe
from tests.trainings import saved_net, train, write_records
from tests.weights_files import lively, without_landmarks

NONE = "data.landmarks=false"
FRACTIONS = {  # a fifth, a tenth and three tenths of landmark crops given to the others
    "pnet": (0.25, 0.5625, 0.1875, 0),
    "rnet": (0.333333, 0.5, 0.166667, 0),
    "onet": (0.314286, 0.542857, 0.142857, 0),
}


@pytest.mark.parametrize("name", NETS)
def test_no_net_is_asked_for_landmarks(name: NetName) -> None:
    stage = recipe.load(MTCNN, [NONE]).for_net(name)
    assert stage.train.batch_fractions == FRACTIONS[name]
    assert stage.train.sample_counts["landmark"] == 0
    assert stage.records.landmarks_per_face == 0
    assert not stage.net.landmarks


def test_the_run_keeps_what_is_meant_and_reads_it_again(tmp_path: Path) -> None:
    settings = recipe.load(MTCNN, [NONE])
    run_recipe.keep(tmp_path, settings)
    assert "batch_fractions: [0.25, 0.5625, 0.1875, 0.0]" in (tmp_path / "recipe.yaml").read_text()
    assert recipe.load(tmp_path / "recipe.yaml") == settings


def test_fractions_of_a_recipe_that_says_both() -> None:
    """Those without landmark crops stay, others are redistributed; heads that go are not frozen."""
    own = ["pnet.train.batch_fractions=[0.3, 0.6, 0.1, 0]", "pnet.train.init=w.npz"]
    own += ["pnet.train.frozen=[layer1, landmarks]"]
    own += ["rnet.train.batch_fractions=[0.3, 0.3, 0, 0.4]"]
    settings = recipe.load(MTCNN, [NONE, *own])
    assert settings.pnet.train.batch_fractions == (0.3, 0.6, 0.1, 0)
    assert settings.pnet.train.frozen == ("layer1",)
    assert settings.rnet.train.batch_fractions == (0.5, 0.5, 0, 0)
    alone = ["onet.train.init=w.npz", "onet.train.batch_fractions=[0, 0, 0, 1]"]
    rest = "layer1, layer3, layer5, layer7, layer8, cls, box"
    with pytest.raises(UserError, match=r"but then onet\.train\.batch_fractions asks for landmark"):
        recipe.load(MTCNN, [NONE, *alone, f"onet.train.frozen=[{rest}]"])


def test_the_last_net_may_keep_the_head_of_its_init() -> None:
    inits = [f"{name}.train.init=w.npz" for name in NETS]
    settings = recipe.load(MTCNN, [NONE, *inits])
    assert [settings.for_net(name).net.landmarks for name in NETS] == [False, False, True]


def test_the_other_ways_to_say_it_are_answered() -> None:
    with pytest.raises(UserError, match=r"data\.points is renamed to data.landmarks"):
        recipe.load(MTCNN, ["data.points=false"])
    with pytest.raises(UserError, match=r"data\.landmarks: false trains all nets without"):
        recipe.load(MTCNN, ["onet.net.landmarks=false"])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_data(tmp_path, small_set())
    return tmp_path


def settings_of(folder: Path, *overrides: str) -> Settings:
    return recipe.load(write_recipe(folder), overrides)


def test_records_hold_none_and_nothing_is_missed(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing is said of their file, which is not there, nor of the columns in the report."""
    settings = settings_of(folder, NONE)
    prepare(settings, "pnet", folder / "run", 1, False)
    (folder / "landmarks.txt").unlink()
    prepare(settings, "pnet", folder / "other", 1, False)
    assert files(folder / "run") == files(folder / "other")
    counts = manifest_of(folder / "run")["counts"]
    assert counts["train"]["landmark"] == counts["validation"]["landmark"] == 0
    assert counts["train"]["positive"] > 0
    printed = capsys.readouterr()
    assert "landmark" not in printed.out.replace(", 0 landmark crops", "") + printed.err
    report = (folder / "run" / "labels.md").read_text()
    assert "with five landmarks" not in report and "no landmark crops" not in report


def test_records_with_landmarks_are_those_of_another_recipe(folder: Path) -> None:
    prepare(settings_of(folder), "pnet", folder / "run", 1, False)
    with pytest.raises(UserError, match=r"another recipe \(.*data.landmarks: null -> false"):
        prepare(settings_of(folder, NONE), "pnet", folder / "run", 1, False)


def test_a_source_of_landmarks_alone_is_left_out(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    only = "{format: mtfl, labels: more.txt, images: more, sample_types: [landmark]}"
    settings = settings_of(folder, NONE, f"data.train.more={only}")
    assert list(label_sets(folder, settings.data.train, False)) == ["own"]
    out = capsys.readouterr().out
    assert out == "more: left out, since it is for landmarks alone (data.landmarks: false).\n"
    with pytest.raises(UserError, match=r"data\.landmarks cannot be false: all sources"):
        settings_of(folder, NONE, f"data.train={{more: {only}}}")


def test_keypoints_that_are_no_landmarks_are_not_looked_at(folder: Path) -> None:
    """Four corners of an object, of which no five landmarks could be taken."""
    categories = [{"id": 1, "name": "plate", "keypoints": ["a", "b", "c", "d"]}]
    label = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [5, 6, 70, 40]}
    label |= {"keypoints": [5, 6, 2, 75, 6, 2, 75, 46, 2, 5, 46, 2]}
    images = [{"id": 1, "file_name": "0--Noise/usual_0.jpg", "width": 150, "height": 100}]
    content = {"images": images, "annotations": [label], "categories": categories}
    (folder / "plates.json").write_text(json.dumps(content))
    source = "data.train={own: {format: coco, labels: plates.json, images: images}}"
    with pytest.raises(UserError, match="landmark_names"):
        labelled_images(settings_of(folder, source), 0)
    split = labelled_images(settings_of(folder, source, NONE), 0)
    (found,) = [one.annotation for part in split.values() for one in part]
    np.testing.assert_array_equal(found.boxes, [[5, 6, 75, 46]])
    assert np.isnan(found.landmarks).all()


def test_landmarks_of_a_detector_are_not_taken_either(folder: Path) -> None:
    row = [90, 0, 112, 24, 0.99, *[95, 5, 105, 5, 100, 12, 96, 18, 104, 18]]
    (folder / "found.json").write_text(json.dumps({"0--Noise/usual_0.jpg": [row]}))
    detected = ["data.train.own.detections=found.json", "data.train.own.landmarks=null"]
    for more, known in ((), True), ((NONE,), False):
        split = labelled_images(settings_of(folder, *detected, *more), 0)
        every = [one.annotation.landmarks for part in split.values() for one in part]
        assert np.isfinite(np.concatenate(every)).any() == known


def test_labels_without_landmarks_are_refused_before_anything_else(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(label_check, "check", lambda *_, **__: pytest.fail("images were opened"))
    (folder / "landmarks.txt").unlink()
    set_variables({"RUN": "runs/mine", "SET": "seed=3"})
    with pytest.raises(UserError) as caught:
        prepare(settings_of(folder), "pnet", folder / "run", 1, False)
    set_variables({})
    text = str(caught.value)
    assert "0 of 13 faces to train on have five landmarks, but a batch of onet shows" in text
    assert f"{folder / 'landmarks.txt'} is not there, which `make data` brings" in text
    assert "`make train RUN=runs/mine SET='seed=3 data.landmarks=false'`" in text
    assert {path.name for path in (folder / "run").rglob("*")} <= {".lock"}


def test_a_fine_tuning_is_to_be_begun_again_as_one(tmp_path: Path) -> None:
    config = tmp_path / "finetune.yaml"
    config.write_text("base: mine.yaml\n")
    inits = [f"{name}.train.init=w.npz" for name in NETS]
    settings = recipe.load(MTCNN, [*inits, "pnet.train.steps=0", "rnet.train.steps=0"])
    set_variables({"CONFIG": config, "RUN": "runs/mine"})
    command = begun_again(settings, NONE)
    set_variables({})
    wanted = "make finetune CONFIG=mine.yaml RUN=runs/mine WEIGHTS=w.npz NETS=onet"
    assert command == f"{wanted} SET={NONE}"


@pytest.mark.parametrize(("known", "refused"), [(0, True), (1, True), (2, False)])
def test_hardly_any_landmarks_are_as_bad_as_none(tmp_path: Path, known: int, refused: bool) -> None:
    """Of 200 faces one in a hundred is enough for a set that fills no batch."""
    boxes = [(10 + 45 * i, 20 + 60 * j, 40, 50, 0) for i in range(10) for j in range(5)]
    write_data(tmp_path, {f"0--Noise/{i}.jpg": (330, 480, boxes) for i in range(4)})
    lines = (tmp_path / "landmarks.txt").read_text().splitlines()
    # Without flags and score a face has no landmarks; a row of all 20 numbers has them.
    rows = [line for line in lines if not line.startswith("#")]
    unknown = {row: " ".join([*row.split()[:4], *["-1"] * 15, "0.9"]) for row in rows}
    told = iter(range(len(rows)))
    text = [x if x.startswith("#") or next(told) < known else unknown[x] for x in lines]
    (tmp_path / "landmarks.txt").write_text("\n".join(text) + "\n")
    settings = settings_of(tmp_path, "data.train.own.split=train")
    if not refused:
        refuse_too_few(settings, labelled_images(settings, 0))
        return
    with pytest.raises(UserError, match=f"{known} of 200 faces.*label them in more images"):
        prepare(settings, "pnet", tmp_path / "run", 1, False)


def test_how_many_faces_with_landmarks_a_recipe_needs() -> None:
    settings = recipe.load(MTCNN)
    assert faces_wanted(settings) == 76  # 0.3 of O-Net's 256
    taken_over = ["onet.train.steps=0", "onet.train.init=w.npz"]
    assert faces_wanted(recipe.load(MTCNN, taken_over)) == 1
    assert faces_wanted(recipe.load(MTCNN, [NONE])) == 0
    none = [f"{name}.train.batch_fractions=[0.4, 0.4, 0.2, 0]" for name in NETS]
    assert faces_wanted(recipe.load(MTCNN, none)) == 0


SHORT = [f"onet.train.{x}" for x in ("batch=16", "warmup_steps=2", "ema_decay=0", "steps=6")]
SHORT += ["onet.train.steps_per_epoch=3", NONE]


def own_file(path: Path, trained: weight_files.TrainedNet) -> str:
    weight_files.write_own(path, trained, "onet")
    return f"onet.train.init={path}"


@pytest.mark.slow
def test_a_net_of_random_weights_has_no_head_and_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = write_records(tmp_path / "run", (("train", 20), ("validation", 10)), "onet")
    train(run, *SHORT, name="onet")
    assert not saved_net(run, "onet").net.landmarks
    assert not [key for key in saved_net(run, "onet").weights if key.startswith("landmarks/")]
    assert "; no landmark head; " in capsys.readouterr().out
    assert "no landmark head" in status.describe(run)


@pytest.mark.slow
def test_the_head_of_the_init_is_kept_where_it_has_one(tmp_path: Path) -> None:
    run = write_records(tmp_path / "run", (("train", 20), ("validation", 10)), "onet")
    init = lively("onet", 1)
    train(run, *SHORT, own_file(tmp_path / "with.npz", init), name="onet")
    saved = saved_net(run, "onet")
    assert saved.net.landmarks
    assert np.abs(saved.weights["layer1/kernel"] - init.weights["layer1/kernel"]).max() > 0
    bare = own_file(tmp_path / "without.npz", without_landmarks(1))
    train(run, *SHORT, bare, name="onet", force=True)
    assert not saved_net(run, "onet").net.landmarks


@pytest.mark.slow
def test_a_net_is_taken_over_with_or_without_its_head(tmp_path: Path) -> None:
    bare = own_file(tmp_path / "without.npz", without_landmarks(1))
    train(tmp_path / "run", bare, "onet.train.steps=0", NONE, name="onet")
    saved = saved_net(tmp_path / "run", "onet")
    assert saved.net == without_landmarks(1).net
    with pytest.raises(UserError, match=r"no landmarks/kernel.*or set data\.landmarks=false"):
        train(tmp_path / "other", bare, "onet.train.steps=0", name="onet")
