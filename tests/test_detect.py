"""The detect command: JSON lines, annotated copies, folders, single nets."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from evaluation import __main__ as command
from mtcnn_detector.errors import UserError
from mtcnn_detector.net import NETS, NetName
from mtcnn_detector.weights import weight_files
from pipeline.manifest import Stage
from tests.weights_files import lively

BLACK = np.zeros((20, 20, 3), np.uint8)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "mtcnn_weights.npy"
    weight_files.write("ipazc", path, {name: lively(name, 3) for name in NETS})
    return path


def run(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> None:
    monkeypatch.setattr("sys.argv", ["evaluation", "detect", *map(str, arguments)])
    command.main()


def write_images(folder: Path, *names: str) -> list[Path]:
    paths = [folder / name for name in names]
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), BLACK)
    return paths


def files_below(folder: Path) -> list[str]:
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())


def test_a_line_and_an_annotated_copy_for_each_image(
    weights: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    images = tmp_path / "images"
    write_images(images, "a.png", "b.jpg")
    (images / "broken.png").write_bytes(b"no image")
    out = tmp_path / "out"
    run(monkeypatch, images, "--weights", weights, "--out", out)
    printed = capsys.readouterr()
    lines = [json.loads(line) for line in printed.out.splitlines()]
    assert [Path(line["image"]).name for line in lines] == ["a.png", "b.jpg"]
    assert sorted(p.name for p in out.iterdir()) == ["a.png", "b.jpg"]
    assert "broken.png does not decode" in printed.err


def test_images_of_one_name_do_not_overwrite_each_other_nor_anything_else(
    weights: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    images = write_images(tmp_path / "in", "a/x.png", "b/x.png", "b/x.jpg")
    out = tmp_path / "out"
    run(monkeypatch, *images, images[0], "--weights", weights, "--out", out)
    assert files_below(out) == ["a/x.png", "b/x.jpg", "b/x.png"]
    before = {path: (out / path).read_bytes() for path in files_below(out)}
    for again in ("out-2", "out-3"):
        (out / "a" / "mine.txt").write_text("mine")
        run(monkeypatch, *images[:2], "--weights", weights, "--out", out)
        assert files_below(tmp_path / again) == ["a/x.png", "b/x.png"]
        assert f"annotated copies in {tmp_path / again}" in capsys.readouterr().err
    assert {path: (out / path).read_bytes() for path in before} == before


def test_an_empty_folder_is_used_and_a_file_is_refused(
    weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (image,) = write_images(tmp_path, "a.png")
    (tmp_path / "empty").mkdir()
    run(monkeypatch, image, "--weights", weights, "--out", tmp_path / "empty")
    assert files_below(tmp_path / "empty") == ["a.png"]
    with pytest.raises(UserError, match=r"a\.png is a file: name a folder .* by OUT= or CROPS="):
        run(monkeypatch, image, "--weights", weights, "--out", image)


@pytest.mark.parametrize("out", [".", "..", "../here"])
def test_a_folder_named_by_dots_gets_one_beside_it(
    out: str, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_images(tmp_path, "up/here/a.png")
    monkeypatch.chdir(tmp_path / "up" / "here")
    run(monkeypatch, "a.png", "--weights", weights, "--out", out)
    assert files_below(tmp_path / ("up-2" if out == ".." else "up/here-2")) == ["a.png"]


def test_annotated_images_stay_inside_their_folder(
    weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_images(tmp_path, "here/a.png", "there/b.png")
    monkeypatch.chdir(tmp_path / "here")
    run(monkeypatch, "a.png", "../there/b.png", "--weights", weights, "--out", "out")
    assert files_below(Path("out")) == ["here/a.png", "there/b.png"]
    assert not (tmp_path / "there" / "b.png").samefile("out/there/b.png")


def test_an_image_without_an_images_ending_is_detected_on_but_not_drawn(
    weights: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (image,) = write_images(tmp_path, "a.png")
    bare = image.rename(tmp_path / "bare")
    run(monkeypatch, bare, "--weights", weights)
    assert json.loads(capsys.readouterr().out)["faces"] == []
    with pytest.raises(UserError, match=r"bare: its copy cannot be written; .*\.jpg"):
        run(monkeypatch, bare, "--weights", weights, "--out", tmp_path / "out")


def test_a_folder_says_what_was_skipped(
    weights: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    write_images(tmp_path, "deep/a.png")
    for name in ("b.HEIC", "deep/c.heic", "d.gif", "notes", ".hidden"):
        (tmp_path / name).write_bytes(b"anything")
    run(monkeypatch, tmp_path, "--weights", weights)
    printed = capsys.readouterr()
    assert len(printed.out.splitlines()) == 1
    assert f"{tmp_path}: skipped 1 .gif, 2 .heic, 1 without an ending; only .bmp" in printed.err
    run(monkeypatch, tmp_path / "deep" / "a.png", "--weights", weights)
    assert "skipped" not in capsys.readouterr().err


def test_a_folder_without_images_is_refused(
    weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UserError, match=r"no image \(\.bmp, .*\) in"):
        run(monkeypatch, tmp_path, "--weights", weights)


def test_thresholds_and_smallest_face_reach_the_detector(
    weights: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (80, 80, 3), np.uint8)
    cv2.imwrite(str(tmp_path / "noise.png"), noise)

    def count(*arguments: object) -> int:
        run(monkeypatch, tmp_path / "noise.png", "--weights", weights, *arguments)
        return len(json.loads(capsys.readouterr().out)["faces"])

    every = count("--thresholds", 0, 0, 0)
    assert every > 0
    assert count("--thresholds", 0, 0, 0.999999) == 0
    assert count("--thresholds", 0, 0, 0, "--min-face-size", 79) < every
    with pytest.raises(UserError, match="thresholds"):
        count("--thresholds", 0, 0, 1.5)


def test_a_run_is_detected_with_as_its_nets_are_now(
    weights: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    image = tmp_path / "noise.png"
    noise = np.random.default_rng(0).integers(0, 256, (80, 80, 3), np.uint8)
    cv2.imwrite(str(image), noise)
    for name, net in weight_files.read(weights).items():
        (tmp_path / "run" / name).mkdir(parents=True)
        weight_files.write_own(tmp_path / "run" / name / "weights.npz", net)
    run(monkeypatch, image, "--weights", tmp_path / "run", "--thresholds", 0, 0, 0)
    from_run = capsys.readouterr().out
    run(monkeypatch, image, "--weights", weights, "--thresholds", 0, 0, 0)
    assert capsys.readouterr().out == from_run
    assert json.loads(from_run)["faces"]


def test_a_runs_shifts_that_its_nets_lack_are_told(
    weights: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    recipe = Path(__file__).parents[1] / "configs/mtcnn.yaml"
    (tmp_path / "image").mkdir()
    cv2.imwrite(str(tmp_path / "image" / "grey.png"), np.full((40, 40, 3), 99, np.uint8))
    weight_files.write_own_folder(tmp_path / "run", weight_files.read(weights))
    for shifts, told in (("[0, 0, 0]", ""), ("[0, 0.8, 0.4]", "shifted by 0, 0.8, 0.4 (")):
        text = f"base: {recipe}\nexport: {{score_shift: {shifts}}}\n"
        (tmp_path / "run" / "recipe.yaml").write_text(text)
        run(monkeypatch, tmp_path / "image", "--weights", tmp_path / "run")
        errors = capsys.readouterr().err
        assert told in errors and ("score_shift" in errors) == bool(told)


@pytest.mark.parametrize("name", NETS)
def test_a_single_net_predicts_a_crop(
    name: NetName,
    weights: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    cv2.imwrite(str(tmp_path / "crop.png"), np.full((60, 60, 3), 90, np.uint8))
    own = tmp_path / "weights.npz"
    weight_files.write_own(own, weight_files.read(weights)[name])
    run(monkeypatch, tmp_path / "crop.png", "--net", name, "--weights", own)
    from_own = capsys.readouterr().out
    run(monkeypatch, tmp_path / "crop.png", "--net", name, "--weights", weights)
    assert capsys.readouterr().out == from_own
    assert "probability that this is a face" in from_own
    assert ("nose" in from_own) == (name == NETS[-1])


def test_an_export_older_than_its_nets_is_refused(
    weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (image,) = write_images(tmp_path, "a.png")
    run_folder = tmp_path / "run"
    for name, net in weight_files.read(weights).items():
        (run_folder / name).mkdir(parents=True)
        weight_files.write_own(run_folder / name / "weights.npz", net)
    exported = run_folder / "mtcnn_weights.npy"
    stage = Stage(run_folder / "export", {name: "digest of before" for name in NETS}, "export")
    stage.begin(False)
    exported.write_bytes(weights.read_bytes())
    sources = {name: str(run_folder / name / "weights.npz") for name in NETS}
    stage.finish({"file": str(exported), "from": sources})
    with pytest.raises(UserError, match=r"exported before pnet, rnet, onet of .*FORCE=1"):
        run(monkeypatch, image, "--weights", exported)
    run(monkeypatch, image, "--weights", run_folder)
