"""Of several rounds the weights with the highest AP on held-out images are kept."""

import re
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from configs import recipe
from configs.record_settings import SAMPLE_TYPES
from data_prep.sources import LabelledImage
from evaluation import rounds
from evaluation.detections import Runtime
from mtcnn_detector.errors import UserError
from mtcnn_detector.net import NETS
from mtcnn_detector.settings import DetectorSettings
from pipeline import run_recipe
from pipeline.finetuning import as_overrides, start_from
from pipeline.manifest import Stage
from tests.test_evaluation import FakeDetector, found, labelled_image

RECIPE = Path(__file__).parents[1] / "configs/mtcnn.yaml"
FACE, OTHER, TINY = (10, 10, 50, 50), (80, 60, 120, 100), (0, 0, 9, 9)
# The detections of each round on two images; the second also reports a face too small to count.
ROUNDS = {
    1: {1: found((FACE, 0.9)), 2: found(((0, 90, 20, 110), 0.95))},
    2: {1: found((FACE, 0.9), (TINY, 0.99)), 2: found((OTHER, 0.8))},
    10: {1: found(), 2: found((OTHER, 0.8))},
}


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Three rounds whose weights files hold the round's number."""
    for number in ROUNDS:
        folder = tmp_path / "run" / f"round-{number}"
        stage = Stage(folder / "export", {}, "export-weights")
        stage.begin(False)
        stage.finish({})
        (folder / "mtcnn_weights.npy").write_text(str(number))
    held_out = [
        LabelledImage(labelled_image(tmp_path, 1, [FACE, TINY]), SAMPLE_TYPES, np.ones(2)),
        LabelledImage(labelled_image(tmp_path, 2, [OTHER]), SAMPLE_TYPES, np.ones(1)),
        LabelledImage(
            labelled_image(tmp_path, 3, [OTHER]), ("landmark",), np.ones(1)
        ),  # others unlabelled
    ]
    monkeypatch.setattr(rounds, "held_out", lambda _: held_out)

    def by_file(_runtime: Runtime, file: Path, _settings: DetectorSettings) -> FakeDetector:
        return FakeDetector(ROUNDS[int(file.read_text())])

    monkeypatch.setattr(rounds, "lazy_detector", by_file)
    return tmp_path / "run"


def test_the_best_round_is_kept_and_reported(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for _ in range(2):  # the second time from the logged detections
        rounds.keep_best(recipe.load(RECIPE), run, False)
        assert (run / "mtcnn_weights.npy").read_text() == "2"
        text = (run / "rounds.md").read_text()
        rows = [line for line in text.splitlines() if line.startswith("| round-")]
        assert rows == ["| round-1 | 0.2500 |", "| round-2 | 1.0000 |", "| round-10 | 0.5000 |"]
        assert text.startswith("AP on 2 held-out images")
        assert "round-2 is kept" in capsys.readouterr().out


def test_an_unfinished_round_is_refused(run: Path) -> None:
    shutil.rmtree(run / "round-10" / "export")
    again = f"`make rounds RUN={run} ROUNDS=3 WEIGHTS=w.npy NETS='rnet onet'` makes it"
    run_recipe.keep(run, recipe.load(RECIPE))
    changes = start_from(dict.fromkeys(NETS, Path("w.npy")), ["rnet", "onet"])
    for number in (1, 10):
        run_recipe.keep(run / f"round-{number}", recipe.load(RECIPE, as_overrides(changes)))
    with pytest.raises(UserError, match=f"round-10/export is not there: {re.escape(again)}"):
        rounds.keep_best(recipe.load(RECIPE), run, False)
    for folder in run.glob("round-*"):
        shutil.rmtree(folder)
    with pytest.raises(UserError, match="holds no round-1: `make rounds` trains"):
        rounds.keep_best(recipe.load(RECIPE), run, False)


def test_weights_of_no_round_are_kept_unless_forced(run: Path) -> None:
    target = run / "mtcnn_weights.npy"
    target.write_text("of another training")
    with pytest.raises(UserError, match=r"mtcnn_weights\.npy is no round's: move it away"):
        rounds.keep_best(recipe.load(RECIPE), run, False)
    assert target.read_text() == "of another training"
    rounds.keep_best(recipe.load(RECIPE), run, True)
    assert target.read_text() == "2"
    target.write_text("10")  # of an earlier round, then
    rounds.keep_best(recipe.load(RECIPE), run, False)
    assert target.read_text() == "2"


@pytest.mark.parametrize("content", [b"no picture", b""])
def test_a_held_out_image_that_cannot_be_used_is_left_out(
    content: bytes, run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if content:
        (run.parent / "2.png").write_bytes(content)
    else:  # both faces of the second image lie outside of it
        cv2.imwrite(str(run.parent / "2.png"), np.full((40, 60, 3), 2, np.uint8))
    rounds.keep_best(recipe.load(RECIPE), run, False)
    assert "AP on 1 held-out images" in capsys.readouterr().out
