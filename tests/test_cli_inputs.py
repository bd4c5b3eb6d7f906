"""Inputs from the command line: weights, weights to compare with, own labels."""

import contextlib
import json
import sys
from pathlib import Path

import pytest

from configs import recipe
from configs.settings import Settings
from evaluation import cli_inputs
from mtcnn_detector.errors import UserError
from mtcnn_detector.net import NETS
from pipeline import manifest

RECIPE = Path(__file__).parents[1] / "configs" / "mtcnn.yaml"


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with three weights files; `shipped` holds the package's."""
    for name in ("one.npy", "other.npy", f"shipped/{cli_inputs.SHIPPED}"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    monkeypatch.setattr(cli_inputs, "CONSUMER", tmp_path / "shipped")
    return tmp_path


def test_the_packages_weights_are_compared_with_by_default(files: Path) -> None:
    one, shipped = files / "one.npy", files / "shipped" / cli_inputs.SHIPPED
    assert cli_inputs.weights_files(one, None) == {"one.npy": one, "mtcnn 0.1.1": shipped}
    assert list(cli_inputs.weights_files(one, None)) == ["one.npy", "mtcnn 0.1.1"]
    assert cli_inputs.weights_files(one, "none") == {"one.npy": one}
    other = files / "other.npy"
    assert cli_inputs.weights_files(one, str(other)) == {"one.npy": one, "other.npy": other}


def test_files_of_one_name_are_labelled_by_their_paths(files: Path) -> None:
    same = files / "run" / "one.npy"
    same.parent.mkdir()
    same.write_text("other content")
    assert cli_inputs.weights_files(files / "one.npy", str(same)) == {
        str(files / "one.npy"): files / "one.npy",
        str(same): same,
    }


def test_a_file_is_not_compared_with_itself(files: Path) -> None:
    copy = files / "copy.npy"
    copy.write_bytes((files / "shipped" / cli_inputs.SHIPPED).read_bytes())
    assert cli_inputs.weights_files(copy, None) == {"copy.npy": copy}


def test_an_installed_package_is_found_without_running_it(
    files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
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
def test_a_missing_file_is_named_with_its_variable(
    files: Path, weights: str, against: str | None
) -> None:
    variable = "WEIGHTS" if against is None else "AGAINST"
    with pytest.raises(UserError, match=rf"none\.npy is not there: .*{variable}= names"):
        cli_inputs.weights_files(files / weights, against and str(files / against))


def settings(
    labels: Path | None, images: Path | None, format: str | None, data: Path | None = None
) -> Settings:
    return recipe.load(RECIPE, cli_inputs.overrides(data, labels, images, format))


def test_own_labels_replace_the_recipes_sources(tmp_path: Path) -> None:
    labels = tmp_path / "mine.json"
    labels.write_text(json.dumps({"images": [], "annotations": []}))
    (source,) = settings(labels, None, None).data.validation.items()
    assert source[0] == "mine" and source[1].format == "coco"
    assert (source[1].labels, source[1].images) == (str(labels), str(tmp_path))
    assert not source[1].landmarks_only and source[1].wider_ground_truth is None
    own = settings(labels, tmp_path / "images", "wider").data.validation["mine"]
    assert (own.format, own.images) == ("wider", str(tmp_path / "images"))


def test_formats_with_one_face_per_image_serve_for_landmarks_only(tmp_path: Path) -> None:
    labels = tmp_path / "list.txt"
    labels.write_text("a.jpg 1 9 1 9 3 3 7 3 5 5 3 7 7 7\n")
    source = settings(labels, None, None).data.validation["list"]
    assert source.format == "mtfl" and source.landmarks_only


def test_a_folder_of_labels_is_named_by_its_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "faces" / "more").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "faces" / "more")
    names = [cli_inputs.source_name(Path(path)) for path in (".", "..", "../a b.json")]
    assert names == ["more", "faces", "a-b"]


def test_settings_may_describe_own_labels(tmp_path: Path) -> None:
    labels = tmp_path / "my faces.v2.json"
    labels.write_text(json.dumps({"images": [], "annotations": []}))
    texts = ["seed=7 data.validation.my-faces-v2.categories=[face] data.min_face=20"]
    kept, described = cli_inputs.of_labels(texts, labels)
    assert kept == ["seed=7", "data.min_face=20"]
    own = cli_inputs.overrides(None, labels, None, None)
    (source,) = recipe.load(RECIPE, [*kept, *own, *described]).data.validation.values()
    assert (source.format, source.categories) == ("coco", ("face",))
    assert cli_inputs.of_labels(texts, None)[1] == []


def test_a_folder_replaces_the_recipes_data_folder(tmp_path: Path) -> None:
    moved = settings(None, None, None, tmp_path)
    assert moved.data.folder == str(tmp_path)
    assert list(moved.data.validation) == list(settings(None, None, None).data.validation)


def test_a_folder_named_like_a_number_or_a_mapping_is_a_folder(tmp_path: Path) -> None:
    for name in ("2024", "a: b"):
        (tmp_path / name).mkdir()
        with contextlib.chdir(tmp_path):
            assert settings(None, None, None, Path(name)).data.folder == name


@pytest.mark.parametrize("more", [(Path("images"), None), (None, "coco")])
def test_images_and_format_are_refused_without_labels(
    tmp_path: Path, more: tuple[Path | None, str | None]
) -> None:
    for data in (None, tmp_path):
        with pytest.raises(UserError, match="IMAGES= and LABELS_FORMAT= describe LABELS="):
            settings(None, *more, data)


def test_impossible_data_is_refused_in_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"gone\.txt is not there: it names a labels file"):
        settings(tmp_path / "gone.txt", None, None)
    with pytest.raises(UserError, match=r"DATA=.*gone is not a folder; LABELS= names a labels f"):
        settings(None, None, None, tmp_path / "gone")
    (tmp_path / "what.txt").write_text("these are no labels\n")
    with pytest.raises(UserError, match=r"LABELS_FORMAT= names it, one of wider, .*coco"):
        settings(tmp_path / "what.txt", None, None)
    with pytest.raises(UserError, match=r"validation\.what\.format must be one of wider"):
        settings(tmp_path / "what.txt", None, "darknet")


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run with three nets and a complete export of them."""
    folder = tmp_path / "run"
    for name in NETS:
        (folder / name).mkdir(parents=True)
        (folder / name / "weights.npz").write_text(name)
    nets = {name: folder / name / "weights.npz" for name in NETS}
    weights = cli_inputs.exported(folder)
    digests: dict[str, str] = {name: manifest.digest([path])[:16] for name, path in nets.items()}
    stage = manifest.Stage(folder / "export", digests, "export-weights")
    stage.begin(False)
    weights.write_text("exported")
    sources = {name: str(path) for name, path in nets.items()}
    stage.finish({"file": str(weights), "from": sources})
    return folder


def test_an_export_older_than_its_nets_is_refused(run: Path) -> None:
    weights = cli_inputs.exported(run)
    assert cli_inputs.weights_files(weights, "none") == {"run/mtcnn_weights.npy": weights}
    (run / "rnet" / "weights.npz").write_text("trained anew")
    with pytest.raises(UserError) as refused:
        cli_inputs.weights_files(weights, "none")
    assert "exported before rnet of" in str(refused.value)
    assert f"`make export-weights RUN={run} FORCE=1` exports them anew" in str(refused.value)
    other = run.parent / "other.npy"
    other.write_text("other")
    with pytest.raises(UserError, match="exported before rnet"):
        cli_inputs.weights_files(other, str(weights))


def test_an_export_is_recognised_in_a_run_that_was_moved(run: Path) -> None:
    moved = run.rename(run.with_name("moved"))
    cli_inputs.refuse_stale(cli_inputs.exported(moved))
    (moved / "onet" / "weights.npz").write_text("trained anew")
    with pytest.raises(UserError, match=r"exported before onet of .*moved"):
        cli_inputs.refuse_stale(cli_inputs.exported(moved))


def test_a_net_merged_from_elsewhere_makes_no_export_old(run: Path) -> None:
    elsewhere = run.parent / "elsewhere" / "weights.npz"
    elsewhere.parent.mkdir()
    elsewhere.write_text("of another run")
    path = run / "export" / manifest.MANIFEST
    content = json.loads(path.read_text())
    content["from"]["pnet"], content["recipe"]["pnet"] = str(elsewhere), "another digest"
    path.write_text(json.dumps(content))
    cli_inputs.refuse_stale(cli_inputs.exported(run))


def test_the_command_names_what_the_export_was_made_from(run: Path, tmp_path: Path) -> None:
    path = run / "export" / manifest.MANIFEST
    content = json.loads(path.read_text())
    other = tmp_path / "other.npy"
    content["from"] |= {"rnet": str(other), "onet": str(other), "calibration": "my faces"}
    path.write_text(json.dumps(content))
    (run / "pnet" / "weights.npz").write_text("trained anew")
    again = f"RUN={run} RNET={other} ONET={other} CALIBRATION='my faces' FORCE=1"
    with pytest.raises(UserError, match=f"`make export-weights {again}` exports them anew"):
        cli_inputs.refuse_stale(cli_inputs.exported(run))


def test_an_export_is_not_old_where_the_run_lacks_a_net_that_came_from_another(run: Path) -> None:
    elsewhere = run.parent / "elsewhere" / "rnet" / "weights.npz"
    elsewhere.parent.mkdir(parents=True)
    (run / "rnet" / "weights.npz").rename(elsewhere)
    path = run / "export" / manifest.MANIFEST
    content = json.loads(path.read_text())
    content["from"]["rnet"] = str(elsewhere)
    path.write_text(json.dumps(content))
    cli_inputs.refuse_stale(cli_inputs.exported(run))
