"""Export of three nets: sources, formats, checks of what was written, earlier exports kept."""

import shutil
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from configs import recipe
from configs.settings import ExportSettings
from export import exported_cascade
from export import merge as module
from export.__main__ import main
from export.formats import FORMATS
from export.merge import merge
from mtcnn_detector.architecture import PAPER_NETS
from mtcnn_detector.backend import CompiledNet
from mtcnn_detector.detector import MTCNN
from mtcnn_detector.errors import UserError
from mtcnn_detector.net import NETS, Layer, Net, NetName
from mtcnn_detector.weights import weight_files
from mtcnn_detector.weights.weight_files import TrainedNet
from pipeline import run_recipe
from pipeline.cli import run_cli
from pipeline.manifest import Stage, read_manifest
from tests.trainings import Killed, kill
from tests.weights_files import drawn


def write_training(run: Path, name: NetName, trained: TrainedNet, complete: bool = True) -> None:
    """Write the files of `make train-<name>`."""
    shutil.rmtree(run / name, ignore_errors=True)
    stage = Stage(run / name, {"seed": 1}, f"train-{name}")
    stage.begin(force=False)
    weight_files.write_own(run / name / "weights.npz", trained)
    if complete:
        stage.finish({})


@pytest.fixture(scope="module")
def merged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with three trained nets, P-Net's and R-Net's with landmark heads, and its export."""
    run = tmp_path_factory.mktemp("merged") / "run"
    for seed, name in enumerate(NETS):
        write_training(run, name, drawn(replace(PAPER_NETS[name], landmarks=True), seed))
    merge(run, {}, force=False)
    return run


@pytest.fixture
def run(merged: Path, tmp_path: Path) -> Path:
    """A copy of `merged` to change; without its export, whose manifest names another folder."""
    shutil.copytree(merged, tmp_path / "run")
    shutil.rmtree(tmp_path / "run" / "export")
    (tmp_path / "run" / "mtcnn_weights.npy").unlink()
    return tmp_path / "run"


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leaves out the comparison of outputs, which takes seconds."""
    monkeypatch.setattr(module, "_max_difference", lambda path, export_format, nets: 0.0)


def exported(run: Path) -> bytes:
    return (run / "mtcnn_weights.npy").read_bytes()


def test_a_runs_nets_are_merged(merged: Path) -> None:
    found = weight_files.read(merged / "mtcnn_weights.npy")
    assert list(found) == list(NETS)
    for name in NETS:
        own = weight_files.read(merged / name / "weights.npz")[name].weights
        for key, array in found[name].weights.items():
            np.testing.assert_array_equal(array, own[key])
    manifest = read_manifest(merged / "export")
    assert manifest is not None
    assert manifest["complete"]
    assert manifest["difference"] <= 1e-5
    assert manifest["from"]["rnet"] == str(merged / "rnet" / "weights.npz")
    assert sorted(path.name for path in merged.iterdir()) == [
        *("export", "mtcnn_weights.npy", "onet", "pnet", "rnet")
    ]


def test_a_second_export_of_the_same_nets_does_nothing(
    merged: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = (merged / "mtcnn_weights.npy").stat()
    merge(merged, {}, force=False)
    assert "nothing to do" in capsys.readouterr().out
    after = (merged / "mtcnn_weights.npy").stat()
    assert (after.st_mtime_ns, after.st_ino) == (before.st_mtime_ns, before.st_ino)


@pytest.mark.usefixtures("quick")
def test_the_command_that_detects_with_an_export_names_images(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    merge(run, {}, force=False, format_name="own")
    command = f"`make detect IMAGES=image.jpg WEIGHTS={run / 'mtcnn_weights'}`"
    assert command in capsys.readouterr().out


@pytest.mark.usefixtures("quick")
def test_an_export_that_was_deleted_is_made_again(run: Path) -> None:
    merge(run, {}, force=False)
    first = exported(run)
    (run / "mtcnn_weights.npy").unlink()
    merge(run, {}, force=False)
    assert exported(run) == first


@pytest.mark.usefixtures("quick")
def test_the_nets_of_the_run_are_shifted_and_others_are_not(run: Path, tmp_path: Path) -> None:
    settings = ExportSettings(score_shift=(0.8, -1.5, 0), landmark_shift=0.01)
    other = tmp_path / "other.npz"
    weight_files.write_own(other, drawn(PAPER_NETS["rnet"], 10), "rnet")
    merge(run, {"rnet": other}, force=False, settings=settings)
    added: dict[tuple[NetName, str], Any] = {
        ("pnet", "cls/bias"): np.array([-0.4, 0.4]),
        ("onet", "landmarks/bias"): 0.01,
    }
    found = weight_files.read(run / "mtcnn_weights.npy")
    for name in NETS:
        source = other if name == "rnet" else run / name / "weights.npz"
        for key, array in weight_files.read_net(source, name).weights.items():
            if key in found[name].weights:
                wanted = array + added.get((name, key), 0)
                np.testing.assert_allclose(found[name].weights[key], wanted, atol=1e-6, err_msg=key)


@pytest.mark.usefixtures("quick")
def test_other_shifts_are_another_export(run: Path) -> None:
    merge(run, {}, force=False)
    with pytest.raises(UserError, match=r"shifts\.pnet\.score_shift: null -> 0\.5"):
        merge(run, {}, force=False, settings=ExportSettings(score_shift=(0.5, 0, 0)))


@pytest.mark.usefixtures("quick")
def test_nets_come_from_other_files(run: Path, tmp_path: Path) -> None:
    others = {name: drawn(PAPER_NETS[name], 10 + i) for i, name in enumerate(NETS)}
    ipazc, own = tmp_path / "other.npy", tmp_path / "other.npz"
    weight_files.write("ipazc", ipazc, others)
    weight_files.write_own(own, others["onet"])
    for name in ("pnet", "onet"):  # from files: the run need not have them
        shutil.rmtree(run / name)
    merge(run, {"pnet": ipazc, "onet": own}, force=False)
    found = weight_files.read(run / "mtcnn_weights.npy")
    kept = weight_files.read(run / "rnet" / "weights.npz")["rnet"]
    for name, wanted in (("pnet", others["pnet"]), ("rnet", kept), ("onet", others["onet"])):
        for key, array in found[name].weights.items():  # type: ignore[index]
            np.testing.assert_array_equal(array, wanted.weights[key])


@pytest.mark.parametrize("name", NETS)
@pytest.mark.parametrize("state", ["missing", "unfinished"])
def test_a_net_that_is_not_trained_names_its_command(run: Path, name: NetName, state: str) -> None:
    shutil.rmtree(run / name)
    if state == "unfinished":
        write_training(run, name, drawn(PAPER_NETS[name], 0), complete=False)
    with pytest.raises(UserError, match=f"`make train-{name}` makes it"):
        merge(run, {}, force=False)
    assert not (run / "mtcnn_weights.npy").exists()


def test_a_source_that_is_missing_or_holds_another_net_is_refused(run: Path) -> None:
    with pytest.raises(UserError, match=r"no\.npy: there is no such weights file"):
        merge(run, {"pnet": run / "no.npy"}, force=False)
    with pytest.raises(UserError, match=r"weights\.npz holds rnet, but no pnet"):
        merge(run, {"pnet": run / "rnet" / "weights.npz"}, force=False)


@pytest.mark.usefixtures("quick")
def test_changed_nets_replace_an_export_only_when_forced(run: Path) -> None:
    merge(run, {}, force=False)
    before = exported(run)
    write_training(run, "rnet", drawn(PAPER_NETS["rnet"], 77))
    with pytest.raises(UserError, match=r"rnet: .*make export-weights FORCE=1"):
        merge(run, {}, force=False)
    assert exported(run) == before
    merge(run, {}, force=True)
    assert exported(run) != before
    found = weight_files.read(run / "mtcnn_weights.npy")["rnet"]
    np.testing.assert_array_equal(
        found.weights["layer1/kernel"], drawn(PAPER_NETS["rnet"], 77).weights["layer1/kernel"]
    )


@pytest.mark.usefixtures("quick")
def test_a_net_that_the_layout_cannot_hold_is_refused_by_its_layer(run: Path) -> None:
    merge(run, {}, force=False)
    before = exported(run)
    layers = (
        Layer(conv=28),
        Layer(pool=2, stride=2, padding="same"),
        *PAPER_NETS["rnet"].layers[2:],
    )
    write_training(run, "rnet", drawn(replace(PAPER_NETS["rnet"], layers=layers), 0))
    with pytest.raises(UserError, match=r"rnet\.layer2.*pool 2"):
        merge(run, {}, force=True)
    assert exported(run) == before


def test_a_written_file_whose_outputs_differ_is_not_kept(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = weight_files.write

    def write_other_weights(layout: str, path: Path, nets: dict[NetName, TrainedNet]) -> None:
        weights = dict(nets["onet"].weights)
        weights["landmarks/bias"] = weights["landmarks/bias"] + 0.001
        write(layout, path, {**nets, "onet": TrainedNet(nets["onet"].net, weights)})

    monkeypatch.setattr(weight_files, "write", write_other_weights)
    with pytest.raises(UserError, match=r"differs from the nets by 1\.0e-03"):
        merge(run, {}, force=False)
    assert not (run / "mtcnn_weights.npy").exists()
    manifest = read_manifest(run / "export")
    assert manifest is not None
    assert not manifest["complete"]


def test_the_command_names_a_missing_net_in_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["export", "--run", str(tmp_path / "run")])
    with pytest.raises(SystemExit) as caught:
        run_cli(main)
    assert caught.value.code == (
        f"error: {tmp_path / 'run' / 'pnet'} is not there: "
        f"`make train-pnet RUN={tmp_path / 'run'}` makes it."
    )


def test_the_command_takes_nets_from_other_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[Any] = []
    monkeypatch.setattr(module, "merge", lambda *arguments: calls.append(arguments))
    arguments = ["--pnet", "a.npy", "--onet", "b.npz", "--force"]
    monkeypatch.setattr(sys, "argv", ["export", "--run", str(tmp_path), *arguments])
    main()
    sources = {"pnet": Path("a.npy"), "onet": Path("b.npz")}
    assert calls == [
        (tmp_path, sources, True, "ipazc", None, recipe.load(run_recipe.DEFAULT).export)
    ]


@pytest.mark.parametrize("layout", ["ipazc-0.0", "facenet-pytorch"])
def test_another_format_is_written_beside_the_first(run: Path, layout: str) -> None:
    merge(run, {}, force=False, format_name=layout)
    target = run / FORMATS[layout].target
    found = weight_files.look(target)
    for name in NETS:
        assert found[name].layout == layout
        own = weight_files.read(run / name / "weights.npz")[name].weights
        for key, array in found[name].trained.weights.items():
            np.testing.assert_array_equal(array, own[key])
    assert not (run / "mtcnn_weights.npy").exists()
    manifest = read_manifest(run / f"export-{layout}")
    assert manifest is not None
    assert manifest["complete"]


@pytest.mark.usefixtures("quick")
def test_a_folder_is_replaced_whole_and_only_when_forced(run: Path) -> None:
    folder = run / "facenet"
    merge(run, {}, force=False, format_name="facenet")
    (folder / "stale.npy").write_bytes(b"of an earlier export")
    before = (folder / "det2.npy").read_bytes()
    write_training(run, "rnet", drawn(PAPER_NETS["rnet"], 77))
    with pytest.raises(UserError, match="make export-weights FORMAT=facenet FORCE=1"):
        merge(run, {}, force=False, format_name="facenet")
    assert (folder / "det2.npy").read_bytes() == before
    merge(run, {}, force=True, format_name="facenet")
    assert (folder / "det2.npy").read_bytes() != before
    assert sorted(path.name for path in folder.iterdir()) == [*("det1.npy", "det2.npy", "det3.npy")]
    assert not (run / "facenet.old").exists()


@pytest.mark.usefixtures("quick")
def test_a_folder_whose_cascade_was_imported_is_still_the_export(run: Path) -> None:
    merge(run, {}, force=False, format_name="tflite")
    (run / "tflite" / "__pycache__").mkdir()
    (run / "tflite" / "__pycache__" / "cascade.pyc").write_bytes(b"")
    write_training(run, "rnet", drawn(PAPER_NETS["rnet"], 77))
    with pytest.raises(UserError, match="was made by another recipe"):  # not: was changed since
        merge(run, {}, force=False, format_name="tflite")


@pytest.mark.usefixtures("quick")
def test_a_folder_that_no_export_made_is_not_replaced(run: Path) -> None:
    (run / "facenet").mkdir()
    (run / "facenet" / "mine.txt").write_text("mine")
    with pytest.raises(UserError, match="was not made by an export"):
        merge(run, {}, force=False, format_name="facenet")
    assert (run / "facenet" / "mine.txt").read_text() == "mine"


@pytest.mark.usefixtures("quick")
def test_a_run_may_be_moved_and_its_files_named_by_other_paths(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    merge(run, {}, force=False)
    moved = run.rename(tmp_path / "elsewhere")
    monkeypatch.chdir(tmp_path)
    merge(moved, {"pnet": Path("elsewhere/pnet/weights.npz")}, force=False)
    assert "nothing to do" in capsys.readouterr().out


@pytest.mark.usefixtures("quick")
def test_a_file_that_was_changed_since_is_kept_unless_forced(run: Path) -> None:
    merge(run, {}, force=False)
    (run / "mtcnn_weights.npy").write_bytes(b"mine")
    with pytest.raises(UserError, match="was changed since: move it away"):
        merge(run, {}, force=False)
    assert exported(run) == b"mine"
    merge(run, {}, force=True)
    assert exported(run) != b"mine"


@pytest.mark.parametrize("forced", [False, True], ids=["the first", "a forced one"])
@pytest.mark.usefixtures("quick")
def test_after_an_export_that_failed_a_file_of_the_users_is_kept(
    run: Path, monkeypatch: pytest.MonkeyPatch, forced: bool
) -> None:
    if forced:
        merge(run, {}, force=False)
    with monkeypatch.context() as patch:
        patch.setattr(module, "_max_difference", lambda *_: 1.0)
        with pytest.raises(UserError, match="differs from the nets"):
            merge(run, {}, force=forced)
    if forced:  # what is there is the export before, which is no file of the user's
        before = exported(run)
        merge(run, {}, force=False)
        assert exported(run) == before
        with monkeypatch.context() as patch:
            patch.setattr(module, "_max_difference", lambda *_: 1.0)
            with pytest.raises(UserError, match="differs from the nets"):
                merge(run, {}, force=True)
    (run / "mtcnn_weights.npy").write_bytes(b"mine")
    with pytest.raises(UserError, match="was not made by an export, or was changed since"):
        merge(run, {}, force=False)
    assert exported(run) == b"mine"


@pytest.mark.usefixtures("quick")
def test_an_export_killed_before_its_last_word_is_made_again(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(module, "_facts", kill)
        with pytest.raises(Killed):
            merge(run, {}, force=False)
    first = exported(run)
    merge(run, {}, force=False)
    assert exported(run) == first


def test_a_net_that_lost_its_landmarks_is_refused(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    without = drawn(replace(PAPER_NETS["onet"], landmarks=False), 2)
    load = FORMATS["own"].load
    without_landmarks = replace(
        FORMATS["own"],
        load=lambda p, n: CompiledNet(n, without) if n == "onet" else load(p, n),
    )
    monkeypatch.setitem(FORMATS, "own", without_landmarks)
    with pytest.raises(UserError, match="has lost or gained onet's landmarks"):
        merge(run, {}, force=False, format_name="own")


@pytest.mark.slow
def test_int8_that_finds_too_few_faces_is_not_kept(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cv2.imwrite(str(run / "a.png"), np.zeros((60, 60, 3), np.uint8))
    monkeypatch.setattr(
        exported_cascade, "compare", lambda *_: exported_cascade.FaceCounts(10, 9, 4)
    )
    with pytest.raises(UserError, match="of 10 faces on 1 images only 4 are found again"):
        merge(run, {}, force=False, format_name="tflite-int8", calibration_images=run)
    assert not (run / "tflite-int8").exists()


@pytest.mark.slow
def test_int8_is_not_checked_on_images_without_faces(run: Path) -> None:
    cv2.imwrite(str(run / "a.png"), np.full((60, 60, 3), 128, np.uint8))
    with pytest.raises(UserError, match="no face is found on the 1 images of CALIBRATION="):
        merge(run, {}, force=False, format_name="tflite-int8", calibration_images=run)
    assert not (run / "tflite-int8").exists()


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        ({"format_name": "onxx"}, r"there is no format 'onxx'; one of ipazc, .* is meant"),
        ({"sources": {"p-net": Path("a.npy")}}, r"there is no net 'p-net'; one of pnet, rnet, on"),
    ],
)
def test_words_of_a_script_that_are_not_known_are_refused(
    run: Path, words: dict[str, Any], problem: str
) -> None:
    settings = recipe.load(Path("configs/mtcnn.yaml"))
    with pytest.raises(UserError, match=problem):
        module.export_weights(settings, run, **words)


def test_the_manifest_names_the_calibration_images(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def write(draft: Path, *_: Any) -> tuple[dict[str, Any], str]:
        draft.mkdir()
        return {}, ""

    monkeypatch.setattr(module, "_write", write)
    merge(run, {}, force=False, format_name="tflite-int8", calibration_images=run)
    made = read_manifest(run / "export-tflite-int8")
    assert made is not None
    assert made["from"]["calibration"] == str(run)


def test_calibration_images_go_with_int8_only(run: Path) -> None:
    with pytest.raises(UserError, match="tflite-int8 and no other format needs CALIBRATION="):
        merge(run, {}, force=False, format_name="tflite-int8")
    with pytest.raises(UserError, match="no other format needs CALIBRATION="):
        merge(run, {}, force=False, format_name="onnx", calibration_images=run)


@pytest.mark.usefixtures("quick")
def test_nets_come_from_a_folder(run: Path, tmp_path: Path) -> None:
    others = {name: drawn(PAPER_NETS[name], 20 + i) for i, name in enumerate(NETS)}
    weight_files.write("ipazc-1.0", tmp_path / "lz4", others)
    merge(run, {"pnet": tmp_path / "lz4", "rnet": tmp_path / "lz4" / "rnet.lz4"}, force=False)
    found = weight_files.read(run / "mtcnn_weights.npy")
    for name in ("pnet", "rnet"):
        for key, array in others[name].weights.items():
            np.testing.assert_array_equal(found[name].weights[key], array)


@pytest.mark.usefixtures("quick")
def test_nets_that_no_package_holds_are_exported_for_our_detector(run: Path) -> None:
    layers = (*PAPER_NETS["pnet"].layers, Layer(conv=8))
    changed = drawn(Net(16, layers, landmarks=False), 7)
    write_training(run, "pnet", drawn(PAPER_NETS["pnet"], 7))
    weight_files.write_own(run / "pnet" / "weights.npz", changed, "pnet")
    with pytest.raises(UserError, match="layout holds a pnet of 12 pixels, not 16"):
        merge(run, {}, force=False)
    for _ in range(2):  # the second one replaces the first
        merge(run, {}, force=True, format_name="own")
        found = weight_files.read(run / "mtcnn_weights")
        assert list(found) == list(NETS)
        assert found["pnet"].net == changed.net
        np.testing.assert_array_equal(
            found["pnet"].weights["layer5/kernel"], changed.weights["layer5/kernel"]
        )
    assert MTCNN(run / "mtcnn_weights").detect_faces(np.zeros((40, 40, 3), np.uint8)) == []
