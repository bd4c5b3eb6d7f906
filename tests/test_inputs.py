"""What the command line names: weights, the ones beside them, an own data set."""

import contextlib
import json
import sys
from pathlib import Path

import pytest

from configs import recipe
from evaluation import cli_inputs
from mtcnn_detector.errors import UserError

RECIPE = Path(__file__).parents[1] / "configs" / "mtcnn.yaml"


@pytest.fixture
def files(tmp_path, monkeypatch):
    """Three weights files; the package's is the one in `shipped`."""
    for name in ("one.npy", "other.npy", f"shipped/{cli_inputs.SHIPPED}"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    monkeypatch.setattr(cli_inputs, "CONSUMER", tmp_path / "shipped")
    return tmp_path


def test_the_packages_weights_stand_beside_by_default(files):
    one, shipped = files / "one.npy", files / "shipped" / cli_inputs.SHIPPED
    assert cli_inputs.weights_files(one, None) == {"one.npy": one, "mtcnn 0.1.1": shipped}
    assert list(cli_inputs.weights_files(one, None)) == ["one.npy", "mtcnn 0.1.1"]
    assert cli_inputs.weights_files(one, "none") == {"one.npy": one}
    other = files / "other.npy"
    assert cli_inputs.weights_files(one, str(other)) == {"one.npy": one, "other.npy": other}


def test_files_of_one_name_are_told_apart(files):
    same = files / "run" / "one.npy"
    same.parent.mkdir()
    same.write_text("other content")
    assert cli_inputs.weights_files(files / "one.npy", str(same)) == {
        str(files / "one.npy"): files / "one.npy",
        str(same): same,
    }


def test_a_file_does_not_stand_beside_itself(files):
    copy = files / "copy.npy"
    copy.write_bytes((files / "shipped" / cli_inputs.SHIPPED).read_bytes())
    assert cli_inputs.weights_files(copy, None) == {"copy.npy": copy}


def test_an_installed_package_is_found_without_running_it(files, monkeypatch):
    monkeypatch.setattr(cli_inputs, "CONSUMER", files / "nowhere")
    package = files / "shipped" / "mtcnn" / "__init__.py"
    package.write_text("raise SystemExit('imported')")
    monkeypatch.setattr(sys, "path", [str(files / "shipped")])
    monkeypatch.delitem(sys.modules, "mtcnn", raising=False)
    assert cli_inputs.shipped() == files / "shipped" / cli_inputs.SHIPPED
    monkeypatch.setattr(sys, "path", [])
    assert cli_inputs.shipped() is None
    assert cli_inputs.weights_files(files / "one.npy", None) == {"one.npy": files / "one.npy"}


@pytest.mark.parametrize(("weights", "against"), [("none.npy", None), ("one.npy", "none.npy")])
def test_a_missing_file_is_named_with_its_variable(files, weights, against):
    variable = "WEIGHTS" if against is None else "AGAINST"
    with pytest.raises(UserError, match=rf"none\.npy is not there: .*{variable}= names"):
        cli_inputs.weights_files(files / weights, against and str(files / against))


def settings(*given):
    return recipe.load(RECIPE, cli_inputs.overrides(*given))


def test_own_labels_take_the_place_of_the_recipes_sets(tmp_path):
    labels = tmp_path / "mine.json"
    labels.write_text(json.dumps({"images": [], "annotations": []}))
    (source,) = settings(labels, None, None).data.validation.items()
    assert source[0] == "mine" and source[1].format == "coco"
    assert (source[1].labels, source[1].images) == (str(labels), str(tmp_path))
    assert not source[1].landmarks_only and source[1].wider_ground_truth is None
    own = settings(labels, tmp_path / "pictures", "wider").data.validation["mine"]
    assert (own.format, own.images) == ("wider", str(tmp_path / "pictures"))


def test_one_face_a_picture_serves_for_landmarks_alone(tmp_path):
    labels = tmp_path / "list.txt"
    labels.write_text("a.jpg 1 9 1 9 3 3 7 3 5 5 3 7 7 7\n")
    source = settings(labels, None, None).data.validation["list"]
    assert source.format == "mtfl" and source.landmarks_only


def test_a_folder_holds_the_recipes_sets_elsewhere(tmp_path):
    moved = settings(tmp_path, None, None)
    assert moved.data.folder == str(tmp_path)
    assert list(moved.data.validation) == list(settings(None, None, None).data.validation)


def test_a_folder_named_like_a_number_or_a_mapping_is_a_folder(tmp_path):
    for name in ("2024", "a: b"):
        (tmp_path / name).mkdir()
        with contextlib.chdir(tmp_path):
            assert settings(Path(name), None, None).data.folder == name


@pytest.mark.parametrize("more", [(Path("pictures"), None), (None, "coco")])
def test_what_belongs_to_labels_is_refused_without_them(tmp_path, more):
    for data in (None, tmp_path):
        with pytest.raises(UserError, match="IMAGES= and FORMAT= say more about DATA="):
            settings(data, *more)


def test_data_that_cannot_be_is_told_in_a_sentence(tmp_path):
    with pytest.raises(UserError, match=r"gone\.txt is not there: it names a labels file"):
        settings(tmp_path / "gone.txt", None, None)
    (tmp_path / "what.txt").write_text("these are no labels\n")
    with pytest.raises(UserError, match=r"FORMAT= names it, one of wider, .*coco"):
        settings(tmp_path / "what.txt", None, None)
    with pytest.raises(UserError, match=r"validation\.what\.format must be one of wider"):
        settings(tmp_path / "what.txt", None, "yolo")
