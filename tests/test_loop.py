"""A whole small training: what it leaves, and when there is nothing to do."""

import importlib.util
import json
import shutil

import pytest

from configs import recipe
from configs.settings import SAMPLE_TYPES
from models import keras_nets
from mtcnn_detector.errors import UserError
from pipeline import manifest
from tests.trainings import RECIPE, SHORT, assert_same, kept, train, write_records
from train import callbacks, dataset, trainable_net
from train.log import read_log


def test_what_a_training_leaves(short):
    left = {path.name for path in (short / "pnet").iterdir()}
    assert left >= {"weights.npz", "last.weights.h5", "log.csv", "manifest.json"}
    assert ("curves.png" in left) == (importlib.util.find_spec("matplotlib") is not None)
    assert not [name for name in left if "tmp" in name or name.startswith("new")]
    made = manifest.read_manifest(short / "pnet")
    assert made["complete"] and made["recipe"]["pnet.train.steps"] == 45
    assert made["recipe"]["records"] == "0123456789abcdef"
    assert set(made["validation"]) == {"recall", "threshold", "iou", "nme", "loss"}


def test_log_has_a_row_for_each_epoch_and_the_kept_weights_are_the_best(short):
    rows = read_log(short / "pnet" / "log.csv")
    assert [row["epoch"] for row in rows] == [0, 1, 2]
    best = min(row["val_loss"] for row in rows)
    assert manifest.read_manifest(short / "pnet")["validation"]["loss"] == best
    assert rows[-1]["val_loss"] < rows[0]["val_loss"], "nothing was learned"
    # The kept weights give the logged figures again.
    settings = recipe.load(RECIPE, SHORT)
    model, _ = trainable_net.build_trainable(settings, "pnet")
    keras_nets.set_weights(model.net, kept(short).weights, "the test")
    held_out = dataset.load(
        short / "records" / "pnet", "validation", 12, dict.fromkeys(SAMPLE_TYPES, 40)
    )
    figures = callbacks.evaluate(model, held_out, "pnet", settings.pnet.train)
    assert figures["loss"] == pytest.approx(best, abs=1e-6)


def test_every_step_is_taken_once(run, monkeypatch):
    taken = []
    real = callbacks.StopAtLastStep.on_train_batch_end

    def count(self, batch, logs=None):
        taken.append(int(self.model.optimizer.iterations.numpy()))
        real(self, batch, logs)

    monkeypatch.setattr(callbacks.StopAtLastStep, "on_train_batch_end", count)
    train(run, *SHORT)
    assert taken == list(range(1, 46))


def test_averaged_weights_are_kept_and_raw_ones_trained_on(run, short):
    train(run, *SHORT, "pnet.train.ema_decay=0")
    rows, plain = (read_log(r / "pnet" / "log.csv") for r in (short, run))
    for with_average, without in zip(rows, plain, strict=True):
        assert with_average["loss"] == without["loss"]
        assert with_average["val_loss"] != without["val_loss"]


def test_complete_training_has_nothing_to_do(short, capsys):
    before = (short / "pnet" / "weights.npz").stat().st_mtime_ns
    train(short, *SHORT)
    assert "nothing to do" in capsys.readouterr().out
    assert (short / "pnet" / "weights.npz").stat().st_mtime_ns == before


def test_other_recipe_is_refused_and_then_forced(run, short):
    shutil.copytree(short / "pnet", run / "pnet")
    changed = (*SHORT, "pnet.train.learning_rate=0.002")
    with pytest.raises(UserError, match=r"learning_rate: 0\.003 -> 0\.002.*FORCE=1"):
        train(run, *changed)
    assert_same(run, short)
    train(run, *changed, force=True)
    assert (kept(run).weights["cls/bias"] != kept(short).weights["cls/bias"]).all()


def test_without_records_the_command_that_makes_them_is_told(tmp_path):
    with pytest.raises(UserError, match="is not there: `make pnet-data` makes it"):
        train(tmp_path, *SHORT)


def test_without_held_out_crops_a_sentence(tmp_path):
    write_records(tmp_path, (("train", 20), ("validation", 0))[:1])
    with pytest.raises(UserError, match=r"no crop to validate on: raise data\.validation_fraction"):
        train(tmp_path, *SHORT)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"data.min_face": 40}, "data.min_face: 40 -> 16"),
        ({"pnet.records.max_shift": 0.5}, "pnet.records.max_shift: 0.5 -> 0.2"),
        ({"data.train.mine.format": "coco"}, 'data.train.mine.format: "coco" -> null'),
        ({"nets.pnet": "0" * 16}, "the pnet that mined: "),
    ],
)
def test_records_of_another_recipe_or_of_other_nets_are_refused(run, short, change, told):
    path = run / "records" / "pnet" / "manifest.json"
    content = json.loads(path.read_text())
    content["recipe"] |= change
    path.write_text(json.dumps(content))
    weights = short / "pnet" / "weights.npz"
    mining = (f"pnet.records.mined_by={weights}", "pnet.records.proposal_thresholds=[0.3]")
    with pytest.raises(UserError) as caught:
        train(run, *SHORT, *(mining if "nets.pnet" in change else ()))
    assert told in str(caught.value)
    assert "`make pnet-data FORCE=1` makes it anew" in str(caught.value)
    assert not (run / "pnet").exists()


def test_records_of_the_same_nets_and_another_seed_are_not(run, short):
    path = run / "records" / "pnet" / "manifest.json"
    content = json.loads(path.read_text())
    weights = short / "pnet" / "weights.npz"
    content["recipe"] |= {"nets.pnet": manifest.digest([weights])[:16]}
    path.write_text(json.dumps(content))
    mining = (f"pnet.records.mined_by={weights}", "pnet.records.proposal_thresholds=[0.3]")
    train(run, *SHORT, *mining, "seed=2", "pnet.train.steps=2", "pnet.train.warmup_steps=1")
    assert kept(run)
