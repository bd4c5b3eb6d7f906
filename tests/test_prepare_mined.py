"""Records that nets mine: what the driver needs for them, and what it makes."""

from pathlib import Path
from typing import Any

import pytest

from configs import recipe
from configs.record_settings import SAMPLE_TYPES
from configs.settings import Settings
from data_prep import records
from data_prep.build_records import prepare
from models import keras_nets
from mtcnn_detector.errors import UserError
from mtcnn_detector.weights import weight_files
from pipeline import manifest
from tests.data_sets import files, manifest_of, shards

pytestmark = pytest.mark.slow


def test_what_a_later_net_needs_is_named(small: Path, tmp_path: Path) -> None:
    settings = recipe.load(small)
    with pytest.raises(UserError, match=r"pnet is not there: `make train-pnet` makes it\."):
        prepare(settings, "rnet", tmp_path, 1, force=False)
    trained = manifest.Stage(tmp_path / "pnet", {}, "train-pnet")
    trained.begin(force=False)
    with pytest.raises(UserError, match=r"pnet is not complete: `make train-pnet` makes it\."):
        prepare(settings, "onet", tmp_path, 1, force=False)
    trained.finish({})
    with pytest.raises(UserError, match=r"weights\.npz: there is no such weights file"):
        prepare(settings, "rnet", tmp_path, 1, force=False)
    (tmp_path / "pnet" / "weights.npz").write_bytes(b"PK\x03\x04 no weights")
    with pytest.raises(UserError, match=r"weights\.npz"):
        prepare(settings, "rnet", tmp_path, 1, force=False)
    assert not (tmp_path / "records").exists()


def with_pnet(settings: Settings, run: Path, seed: int) -> None:
    """A P-Net that was never trained finds everything half likely to be a face."""
    net = settings.pnet.net
    stage = manifest.Stage(run / "pnet", {"seed": seed}, "train-pnet")
    stage.begin(force=True)
    weights = keras_nets.get_weights(keras_nets.build(net, seed))
    weight_files.write_own(run / "pnet" / "weights.npz", weight_files.TrainedNet(net, weights))
    stage.finish({})


def test_mining_end_to_end(small: Path, tmp_path: Path) -> None:
    nothing_drawn = [
        f"rnet.records.{key}=0"
        for key in ("negatives_per_image", "negatives_per_face", "parts_per_face")
    ]
    counts = ["rnet.records.mined_negatives_per_image=9", "rnet.records.images_per_shard=3"]
    settings = recipe.load(small, [*nothing_drawn, *counts])
    for workers in (1, 2):
        with_pnet(settings, tmp_path / str(workers), 1)
        prepare(settings, "rnet", tmp_path / str(workers), workers, force=False)
    assert files(tmp_path / "1", "rnet") == files(tmp_path / "2", "rnet")
    told = manifest_of(tmp_path / "1", "rnet")
    total = {
        kind: sum(told["counts"][s].get(kind, 0) for s in told["counts"]) for kind in SAMPLE_TYPES
    }
    assert 12 < total["negative"] <= 12 * 9, "all of them mined, of 12 images"
    assert total["part"] > 0
    assert total["positive"] > 0
    size = settings.rnet.stored_size
    for path in shards(tmp_path / "1", "train", "negative", "rnet"):
        assert records.read_shard(path, size, "negative").images.shape[1:] == (size, size, 3)

    with_pnet(settings, tmp_path / "1", 2)  # trained anew: what it proposed is out of date
    with pytest.raises(UserError, match=r"\(nets\.pnet: .* -> .*\): `make rnet-data FORCE=1`"):
        prepare(settings, "rnet", tmp_path / "1", 1, force=False)


def test_the_first_net_is_mined_by_other_weights(small: Path, tmp_path: Path) -> None:
    def counts(run: str, *overrides: str) -> dict[str, Any]:
        settings = recipe.load(small, overrides)
        prepare(settings, "pnet", tmp_path / run, 1, force=False)
        return manifest_of(tmp_path / run)["counts"]["train"]  # type: ignore[no-any-return]

    with_pnet(recipe.load(small), tmp_path / "other", 1)
    by = f"pnet.records.mined_by={tmp_path / 'other'}"
    with pytest.raises(UserError, match=r"pnet\.records\.proposal_thresholds needs 1 values"):
        recipe.load(small, [by])
    mining = (by, "pnet.records.proposal_thresholds=[0.3]", "data.max_broken_fraction=0.9")
    drawn, mined = counts("drawn"), counts("mined", *mining)
    assert drawn["negative"] < mined["negative"] <= drawn["negative"] + 14 * 40
    assert {k: mined[k] for k in ("positive", "part")} == {
        k: drawn[k] for k in ("positive", "part")
    }
    with pytest.raises(UserError, match=r"rnet\.records\.mined_by is for the first net"):
        recipe.load(small, [by.replace("pnet", "rnet", 1)])
