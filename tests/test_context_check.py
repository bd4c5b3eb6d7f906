"""Tests of the note about nets in one export that were made for boxes of different sizes."""

import shutil
from pathlib import Path

import pytest

from configs import recipe
from configs.settings import Settings
from export.context_check import mismatches
from mtcnn_detector.net import NETS, NetName
from pipeline import make_command

ROOT = Path(__file__).parents[1]
OURS = Path("weights/mtcnn_weights.npy")


@pytest.fixture(autouse=True)
def _in_a_command_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    make_command.set_variables({})


@pytest.fixture
def published(tmp_path: Path) -> Path:
    """Weights of which nothing is known."""
    path = tmp_path / "published.npy"
    path.write_bytes(b"")
    return path


def settings(context: float) -> Settings:
    return recipe.load(ROOT / "configs/mtcnn.yaml", [f"rnet.records.context={context}"])


def test_nets_of_one_run_fit() -> None:
    assert mismatches(settings(1.3), {}) == []


def test_our_own_nets_fit_those_of_a_run_with_their_context(tmp_path: Path) -> None:
    copied = Path(shutil.copy(OURS, tmp_path / "copied.npy"))
    assert mismatches(settings(1.3), {"rnet": OURS, "onet": copied}) == []
    assert len(mismatches(settings(1), {"rnet": copied})) == 1


def test_a_published_rnet_gets_a_pnet_of_its_own(published: Path) -> None:
    assert mismatches(settings(1), {"rnet": published, "onet": published}) == []
    assert mismatches(settings(1.3), {"rnet": published, "onet": published}) == [
        "pnet's boxes are 1.3 x the side of a face, rnet looks at 1 x: "
        "`make train-pnet SET=rnet.records.context=1 FORCE=1` trains pnet for it."
    ]


def test_an_rnet_is_trained_for_a_published_pnet(published: Path) -> None:
    assert mismatches(settings(1.3), {"pnet": published}) == [
        "pnet's boxes are 1 x the side of a face, rnet looks at 1.3 x: "
        "`make rnet-data train-rnet SET=rnet.records.context=1 FORCE=1` trains rnet for them."
    ]


def test_nets_of_two_other_files_are_told_without_a_command(published: Path) -> None:
    assert mismatches(settings(1.3), {"pnet": OURS, "rnet": published}) == [
        "pnet's boxes are 1.3 x the side of a face, rnet looks at 1 x."
    ]


def test_a_run_beside_the_file_says_how_it_was_made(published: Path) -> None:
    (published.parent / "recipe.yaml").write_text(
        f"base: {ROOT / 'configs/mtcnn.yaml'}\nrnet: {{records: {{context: 1.2}}}}\n"
    )
    assert mismatches(settings(1.2), {"rnet": published}) == []
    assert "rnet looks at 1.2 x" in mismatches(settings(1.3), {"rnet": published})[0]


def test_a_net_in_a_folder_of_a_run_is_made_as_the_run_says(tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text(
        f"base: {ROOT / 'configs/mtcnn.yaml'}\nrnet: {{records: {{context: 1.3}}}}\n"
    )
    for path in ("pnet/weights.npz", "rnet/weights.npz", "mtcnn_weights/pnet/weights.npz"):
        (tmp_path / path).parent.mkdir(parents=True)
        (tmp_path / path).write_bytes(b"")
    own: dict[NetName, Path] = {name: tmp_path / name / "weights.npz" for name in NETS[:2]}
    assert mismatches(settings(1), own) == []
    assert mismatches(settings(1.3), {"pnet": tmp_path / "mtcnn_weights"}) == []
