"""A whole small training: what it leaves, and when there is nothing to do."""

import importlib.util
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from configs import recipe
from configs.record_settings import SAMPLE_TYPES
from models import keras_nets
from mtcnn_detector.errors import UserError
from mtcnn_detector.net import NetName
from mtcnn_detector.weights import weight_files
from pipeline import manifest
from tests.trainings import RECIPE, ROOT, SHORT, assert_same, saved_net, train, write_records
from train import callbacks, dataset, loading, trainable_net
from train.log import read_log

pytestmark = pytest.mark.slow

Capture = pytest.CaptureFixture[str]


def manifest_of(folder: Path) -> dict[str, Any]:
    """The manifest of a stage that has one."""
    content = manifest.read_manifest(folder)
    assert content is not None
    return content


def test_what_a_training_leaves(short: Path) -> None:
    left = {path.name for path in (short / "pnet").iterdir()}
    assert left >= {"weights.npz", "last.weights.h5", "log.csv", "manifest.json"}
    assert ("curves.png" in left) == (importlib.util.find_spec("matplotlib") is not None)
    assert not [name for name in left if "tmp" in name or name.startswith("new")]
    made = manifest_of(short / "pnet")
    assert made["complete"] and made["recipe"]["pnet.train.steps"] == 45
    assert made["recipe"]["records"] == "0123456789abcdef"
    assert set(made["validation"]) == {"recall", "threshold", "iou", "nme", "loss"}


def test_log_has_a_row_for_each_epoch_and_the_kept_weights_are_the_best(short: Path) -> None:
    rows = read_log(short / "pnet" / "log.csv")
    assert [row["epoch"] for row in rows] == [0, 1, 2]
    best = min(row["val_loss"] for row in rows)
    assert manifest_of(short / "pnet")["validation"]["loss"] == best
    assert rows[-1]["val_loss"] < rows[0]["val_loss"], "nothing was learned"
    # The kept weights give the logged figures again.
    settings = recipe.load(RECIPE, SHORT)
    model, _ = trainable_net.build_trainable(settings, "pnet")
    keras_nets.set_weights(model.net, saved_net(short).weights, "the test")
    held_out = loading.load(
        short / "records" / "pnet", "validation", 12, dict.fromkeys(SAMPLE_TYPES, 40)
    )
    figures = callbacks.evaluate(model, held_out, "pnet", settings.pnet.train)
    assert figures["loss"] == pytest.approx(best, abs=1e-6)


def test_every_step_is_taken_once(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    taken = []
    real = callbacks.StopAtLastStep.on_train_batch_end

    def count(self: Any, batch: int, logs: dict[str, float] | None = None) -> None:
        taken.append(int(self.model.optimizer.iterations.numpy()))
        real(self, batch, logs)

    monkeypatch.setattr(callbacks.StopAtLastStep, "on_train_batch_end", count)
    train(run, *SHORT)
    assert taken == list(range(1, 46))


def test_averaged_weights_are_kept_and_raw_ones_trained_on(run: Path, short: Path) -> None:
    train(run, *SHORT, "pnet.train.ema_decay=0")
    rows, plain = (read_log(r / "pnet" / "log.csv") for r in (short, run))
    for with_average, without in zip(rows, plain, strict=True):
        assert with_average["loss"] == without["loss"]
        assert with_average["val_loss"] != without["val_loss"]


def test_complete_training_has_nothing_to_do(short: Path, capsys: Capture) -> None:
    before = (short / "pnet" / "weights.npz").stat().st_mtime_ns
    train(short, *SHORT)
    assert "nothing to do" in capsys.readouterr().out
    assert (short / "pnet" / "weights.npz").stat().st_mtime_ns == before


def test_other_recipe_is_refused_and_then_forced(run: Path, short: Path) -> None:
    shutil.copytree(short / "pnet", run / "pnet")
    changed = (*SHORT, "pnet.train.learning_rate=0.002")
    with pytest.raises(UserError, match=r"learning_rate: 0\.003 -> 0\.002.*FORCE=1"):
        train(run, *changed)
    assert_same(run, short)
    train(run, *changed, force=True)
    assert (saved_net(run).weights["cls/bias"] != saved_net(short).weights["cls/bias"]).all()


def test_another_context_of_the_next_net_is_another_recipe(
    run: Path, short: Path, capsys: Capture
) -> None:
    shutil.copytree(short / "pnet", run / "pnet")
    changed = (*SHORT, "rnet.records.context=1.3")
    with pytest.raises(UserError, match=r"\(rnet\.records\.context: 1\.0 -> 1\.3\).*FORCE=1"):
        train(run, *changed)
    train(run, *SHORT)
    # A training from before it was kept still counts as complete.
    path = run / "pnet" / manifest.MANIFEST
    content = json.loads(path.read_text(encoding="utf-8"))
    del content["recipe"]["rnet.records.context"]
    path.write_text(json.dumps(content), encoding="utf-8")
    capsys.readouterr()
    train(run, *changed)
    assert "nothing to do" in capsys.readouterr().out
    assert_same(run, short)


def test_without_records_the_command_that_makes_them_is_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is not there: `make pnet-data` makes it"):
        train(tmp_path, *SHORT)


def test_without_held_out_crops_a_sentence(tmp_path: Path) -> None:
    write_records(tmp_path, (("train", 20), ("validation", 0))[:1])
    with pytest.raises(UserError, match=r"no crop to validate on: raise data\.validation_fraction"):
        train(tmp_path, *SHORT)


@pytest.mark.parametrize("name", ["rnet", "onet"])
def test_the_other_nets_are_fitted(tmp_path: Path, name: NetName) -> None:
    write_records(tmp_path, (("train", 60), ("validation", 20)), name)
    small = ("batch=32", "warmup_steps=4", "ema_decay=0.9", "steps=24", "steps_per_epoch=12")
    overrides = [f"{name}.train.{setting}" for setting in small]
    train(tmp_path, *overrides, name=name)
    rows = read_log(tmp_path / name / "log.csv")
    assert [(row["epoch"], row["step"]) for row in rows] == [(0, 12), (1, 24)]
    assert rows[1]["val_loss"] < rows[0]["val_loss"], "nothing was learned"
    assert rows[1]["val_recall"] > 0.5
    # The saved weights give the logged figures again.
    settings = recipe.load(RECIPE, overrides)
    model, _ = trainable_net.build_trainable(settings, name)
    keras_nets.set_weights(model.net, saved_net(tmp_path, name).weights, "the test")
    counts: dict[str, int] = dict.fromkeys(SAMPLE_TYPES, 20)
    stage, folder = settings.for_net(name), tmp_path / "records" / name
    held_out = loading.load(folder, "validation", stage.stored_size, counts)
    scale = settings.box_target(name) / stage.records.context
    view = dataset.View(stage.net.size, settings.labels, scale)
    figures = callbacks.evaluate(model, held_out, name, stage.train, view)
    assert figures["loss"] == pytest.approx(rows[1]["val_loss"], abs=1e-5)


def test_landmark_crops_alone_train_the_landmark_head_and_move_nothing_else(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    weights = ROOT / "weights" / "mtcnn_weights.npy"
    write_records(tmp_path, (("train", 60), ("validation", 20)), "onet", ["landmark"])
    frozen = "[layer1, layer3, layer5, layer7, layer8, cls, box]"
    small = ("batch=30", "warmup_steps=4", "ema_decay=0.9", "steps=24", "steps_per_epoch=12")
    more = (f"init={weights}", "batch_fractions=[0, 0, 0, 1]", f"frozen={frozen}")
    train(tmp_path, *(f"onet.train.{setting}" for setting in (*small, *more)), name="onet")
    rows = read_log(tmp_path / "onet" / "log.csv")
    assert rows[1]["val_nme"] < rows[0]["val_nme"], "nothing was learned"
    # What there is no crop for is not reported, and not written as NaN into JSON.
    assert set(manifest_of(tmp_path / "onet")["validation"]) == {"nme", "loss"}
    assert "recall" not in capsys.readouterr().out
    before, after = weight_files.read_net(weights, "onet").weights, saved_net(tmp_path, "onet")
    changed = [
        key for key, value in after.weights.items() if not np.array_equal(value, before[key])
    ]
    assert changed == ["landmarks/kernel", "landmarks/bias"]


def test_a_training_ends_after_its_passes_over_the_crops(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train(run, *SHORT, "pnet.train.max_passes=0.8")  # of 150 positives, 6 in a batch of 32
    assert "train-pnet: 20 of 45 steps, which are 0.8 passes over its crops" in (
        capsys.readouterr().out
    )
    assert [row["step"] for row in read_log(run / "pnet" / "log.csv")] == [9, 18, 20]
    train(run, *SHORT, "pnet.train.max_passes=0.8", "pnet.train.steps=60")
    assert read_log(run / "pnet" / "log.csv")[-1]["step"] == 20
    with pytest.raises(UserError, match=r"pnet\.train\.max_passes: 0\.8 -> 2"):
        train(run, *SHORT, "pnet.train.max_passes=2")


def test_a_gpu_that_trains_is_named(
    run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    train(run, *SHORT)
    assert "GPU" not in capsys.readouterr().out
    gpu = tf.config.PhysicalDevice("/physical_device:GPU:0", "GPU")
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind=None: [gpu])
    details = {"device_name": "NVIDIA T4"}
    monkeypatch.setattr(tf.config.experimental, "get_device_details", lambda device: details)
    train(run, *SHORT, force=True)
    assert "train-pnet: on the GPU NVIDIA T4." in capsys.readouterr().out.splitlines()


REPLICAS = """
from pathlib import Path
import tensorflow as tf
from pipeline.cli import run_cli
from tests.trainings import train
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
with tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]).scope():
    run_cli(lambda: train(Path("no run")))
"""


def test_a_strategy_with_more_than_one_replica_is_refused() -> None:
    done = subprocess.run(
        [sys.executable, "-c", REPLICAS], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 1, done.stderr
    assert "error: a net is trained on one device, but the strategy in use has 2" in done.stderr


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"data.min_face": 40}, "data.min_face: 40 -> 16"),
        ({"pnet.records.max_shift": 0.5}, "pnet.records.max_shift: 0.5 -> 0.2"),
        ({"data.train.mine.format": "coco"}, 'data.train.mine.format: "coco" -> null'),
        ({"nets.pnet": "0" * 16}, "the pnet that mined: "),
    ],
)
def test_records_of_another_recipe_or_of_other_nets_are_refused(
    run: Path, short: Path, change: dict[str, Any], told: str
) -> None:
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


def test_records_of_the_same_nets_and_another_seed_are_not(run: Path, short: Path) -> None:
    path = run / "records" / "pnet" / "manifest.json"
    content = json.loads(path.read_text())
    weights = short / "pnet" / "weights.npz"
    content["recipe"] |= {"nets.pnet": manifest.digest([weights])[:16]}
    path.write_text(json.dumps(content))
    mining = (f"pnet.records.mined_by={weights}", "pnet.records.proposal_thresholds=[0.3]")
    train(run, *SHORT, *mining, "seed=2", "pnet.train.steps=2", "pnet.train.warmup_steps=1")
    assert saved_net(run)
