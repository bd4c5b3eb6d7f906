"""The survival gate: a stage refuses to begin when too few faces survive the net before it."""

import shutil
import sys
from pathlib import Path

import pytest

from configs import recipe
from data_prep import build_records
from export import __main__ as export_command
from export.merge import export_weights
from mtcnn_detector.errors import UserError
from mtcnn_detector.net import NETS, NetName
from pipeline.manifest import Stage
from pipeline.survival import FILE, require_survival, write_survival

RECIPE = Path(__file__).parents[1] / "configs/mtcnn.yaml"


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run whose three trainings are complete; their weights are nothing but a name."""
    for name in NETS:
        stage = Stage(tmp_path / name, {}, f"train-{name}")
        stage.begin(False)
        stage.finish({})
        (tmp_path / name / "weights.npz").write_text(name)
    return tmp_path


def test_too_few_surviving_faces_are_refused_with_the_usual_causes(run: Path) -> None:
    write_survival(run, "pnet", 0.1949, 412)
    with pytest.raises(UserError) as refused:
        require_survival(run, "pnet", 0.2)
    sentence = str(refused.value)
    for part in (
        "only 19.5 % of 412 held-out faces survive pnet",
        "pnet/recall.md",
        "pnet.train.steps",
        "labelled boxes",
        "detector.thresholds",
        "SET=data.min_survival=0",
    ):
        assert part in sentence
    require_survival(run, "pnet", 0)
    write_survival(run, "pnet", 0.2, 412)
    require_survival(run, "pnet", 0.2)


def test_a_survival_of_other_nets_or_none_passes(run: Path) -> None:
    require_survival(run, "rnet", 0.2)
    write_survival(run, "rnet", 0.0, 412)
    with pytest.raises(UserError, match=r"only 0\.0 % of 412 held-out faces survive rnet"):
        require_survival(run, "rnet", 0.2)
    (run / "pnet" / "weights.npz").write_text("trained anew")
    require_survival(run, "rnet", 0.2)


def test_a_damaged_file_is_named(run: Path) -> None:
    (run / "pnet" / FILE).write_text("{")
    with pytest.raises(UserError, match=r"recall\.json is damaged: remove it"):
        require_survival(run, "pnet", 0.2)


@pytest.mark.parametrize(("name", "before"), [("rnet", "pnet"), ("onet", "rnet")])
def test_mining_does_not_begin(run: Path, name: NetName, before: NetName) -> None:
    write_survival(run, before, 0.0, 412)
    with pytest.raises(UserError, match=f"held-out faces survive {before}"):
        build_records.prepare(recipe.load(RECIPE), name, run, 1, False)
    assert not (run / "records").exists()


def test_an_incomplete_run_is_told_before_its_survival(run: Path) -> None:
    write_survival(run, "onet", 0.0, 412)
    settings = recipe.load(RECIPE)
    (run / "pnet" / "weights.npz").unlink()
    with pytest.raises(UserError, match=r"pnet/weights\.npz"):
        export_weights(settings, run)
    shutil.rmtree(run / "pnet")
    with pytest.raises(UserError, match=r"pnet is not there: `make train-pnet` makes it"):
        export_weights(settings, run)


def test_the_export_does_not_begin(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_survival(run, "onet", 0.0, 412)
    words = ["export", "--config", str(RECIPE), "--run", str(run)]
    monkeypatch.setattr(sys, "argv", words)
    with pytest.raises(UserError, match="held-out faces survive onet"):
        export_command.main()
    assert not (run / "export").exists()
