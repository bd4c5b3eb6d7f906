"""A whole small training: what it leaves, how it goes on after a kill, what stops it."""

import csv
import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from configs import recipe, stages
from configs.errors import UserError, run_cli
from configs.settings import KINDS
from data_prep import records
from data_prep.crops import Crops
from models import layouts, nets
from train import dataset, loop, trainee

ROOT = Path(__file__).parent.parent
SMALL = ("pnet.train.batch=32", "pnet.train.warmup_steps=5", "pnet.train.weight_average=0.9")
SHORT = (*SMALL, "pnet.train.steps=45", "pnet.train.steps_per_epoch=20")
# Epochs long enough to be hit by a signal; the last one is shorter.
LONG = (*SMALL, "pnet.train.steps=700", "pnet.train.steps_per_epoch=200")


class Died(BaseException):
    """Stands for `kill -9` at a chosen place."""


def some_crops(kind, count, rng):
    """Faces are darker in the middle, so that there is something to learn."""
    images = rng.integers(0, 256, (count, 12, 12, 3), dtype=np.uint8)
    if kind != "negative":
        images[:, 3:9, 3:9] //= 3
    boxes = rng.normal(0, 0.1, (count, 4)).astype(np.float32)
    points = rng.uniform(0.2, 0.8, (count, 10)).astype(np.float32)
    if kind in ("negative", "landmark"):
        boxes[:] = np.nan
    if kind != "landmark":
        points[:] = np.nan
    return Crops(images, boxes, points, np.full((count, 1), 30, np.float32))


def write_records(run, counts=(("train", 150), ("validation", 40))):
    """Records of P-Net as `data_prep` leaves them."""
    rng = np.random.default_rng(0)
    stage = stages.Stage(run / "records" / "pnet", {"seed": 1}, "pnet-data")
    stage.begin(False)
    for split, count in counts:
        (stage.folder / split).mkdir()
        for kind in KINDS:
            shard = stage.folder / split / f"{kind}-00000.tfrecord"
            records.write_shard(shard, some_crops(kind, count, rng), kind)
    made = {split: dict.fromkeys(KINDS, count) for split, count in counts}
    stage.finish({"sha256": "0123456789abcdef" * 4, "counts": made})
    return run


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    return write_records(tmp_path_factory.mktemp("prepared"))


@pytest.fixture
def run(prepared, tmp_path):
    """A run that has its records, and nothing else."""
    shutil.copytree(prepared, tmp_path / "run")
    return tmp_path / "run"


def train(run, *overrides, force=False):
    """In this process, as `python -m train pnet` does it."""
    loop.train(recipe.load(ROOT / "configs/mtcnn.yaml", overrides), "pnet", run, force)


def command(run, *overrides):
    settings = ["--config", "configs/mtcnn.yaml", "--run", str(run), "--set", *overrides]
    return [sys.executable, "-m", "train", "pnet", *settings]


def finish(run, *overrides):
    """The command, to its end."""
    return subprocess.run(
        command(run, *overrides), cwd=ROOT, capture_output=True, text=True, timeout=120
    )


def stop(run, epochs, how, *overrides):
    """Start the command and send it a signal when so many epochs are in the log."""
    with subprocess.Popen(
        command(run, *overrides), cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        deadline = time.monotonic() + 120
        while len(loop.read_log(run / "pnet" / "log.csv")) < epochs:
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.01)
        time.sleep(0.1)  # into the next one
        os.kill(process.pid, how)
        sent = time.monotonic()
        _, errors = process.communicate(timeout=60)
        return process.returncode, errors.decode(), time.monotonic() - sent


def arrays(run):
    return layouts.read(run / "pnet" / "weights.npz")["pnet"].weights


def assert_same(run, other):
    """Bit for bit the same weights, and the same log."""
    found, wanted = arrays(run), arrays(other)
    assert list(found) == list(wanted)
    for key, value in wanted.items():
        np.testing.assert_array_equal(found[key], value, err_msg=key)
    log, same = (r / "pnet" / "log.csv" for r in (run, other))
    assert log.read_text() == same.read_text()


@pytest.fixture(scope="module")
def short(prepared, tmp_path_factory):
    """A short training that nothing disturbed."""
    run = tmp_path_factory.mktemp("short") / "run"
    shutil.copytree(prepared, run)
    train(run, *SHORT)
    return run


def test_what_a_training_leaves(short):
    left = {path.name for path in (short / "pnet").iterdir()}
    assert left >= {"weights.npz", "last.weights.h5", "log.csv", "manifest.json"}
    assert ("curves.png" in left) == (importlib.util.find_spec("matplotlib") is not None)
    assert not [name for name in left if "tmp" in name or name.startswith("new")]
    manifest = stages.read_manifest(short / "pnet")
    assert manifest["complete"] and manifest["recipe"]["pnet.train.steps"] == 45
    assert manifest["recipe"]["records"] == "0123456789abcdef"
    assert set(manifest["validation"]) == {"recall", "threshold", "iou", "nme", "loss"}


def test_log_has_a_row_for_each_epoch_and_the_kept_weights_are_the_best(short):
    rows = loop.read_log(short / "pnet" / "log.csv")
    assert [row["epoch"] for row in rows] == [0, 1, 2]
    best = min(row["val_loss"] for row in rows)
    assert stages.read_manifest(short / "pnet")["validation"]["loss"] == best
    assert rows[-1]["val_loss"] < rows[0]["val_loss"], "nothing was learned"
    # The kept weights give the logged figures again.
    settings = recipe.load(ROOT / "configs/mtcnn.yaml", SHORT)
    model = loop.compiled(settings, "pnet")
    nets.set_weights(model.net, arrays(short), "the test")
    held_out = dataset.load(short / "records" / "pnet", "validation", 12, dict.fromkeys(KINDS, 40))
    figures = loop.evaluate(model, held_out, "pnet", settings.pnet.train)
    assert figures["loss"] == pytest.approx(best, abs=1e-6)


def test_every_step_is_taken_once(run, monkeypatch):
    taken = []
    real = loop.StopAtLastStep.on_train_batch_end

    def count(self, batch, logs=None):
        taken.append(int(self.model.optimizer.iterations.numpy()))
        real(self, batch, logs)

    monkeypatch.setattr(loop.StopAtLastStep, "on_train_batch_end", count)
    train(run, *SHORT)
    assert taken == list(range(1, 46))


def test_the_best_epochs_weights_are_kept_across_a_kill(run, monkeypatch):
    told, judged = iter([2.0, 1.0, 3.0]), []
    real = loop.evaluate

    def evaluate(model, *arguments):
        judged.append(nets.get_weights(model.net))
        return real(model, *arguments) | {"loss": next(told)}

    monkeypatch.setattr(loop, "evaluate", evaluate)
    with monkeypatch.context() as patch:
        patch.setattr(loop.picture, "draw_curves", dies)
        with pytest.raises(Died):
            train(run, *SHORT)
    train(run, *SHORT)
    assert len(judged) == 3
    for key, value in arrays(run).items():
        np.testing.assert_array_equal(value, judged[1][key])
    assert stages.read_manifest(run / "pnet")["validation"]["loss"] == 1


def test_averaged_weights_are_kept_and_raw_ones_trained_on(run, short):
    train(run, *SHORT, "pnet.train.weight_average=0")
    rows, plain = (loop.read_log(r / "pnet" / "log.csv") for r in (short, run))
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
    assert (arrays(run)["face/bias"] != arrays(short)["face/bias"]).all()


def test_without_records_the_command_that_makes_them_is_told(tmp_path):
    with pytest.raises(UserError, match="is not there: `make pnet-data` makes it"):
        train(tmp_path, *SHORT)


def test_without_held_out_crops_a_sentence(tmp_path):
    write_records(tmp_path, (("train", 20), ("validation", 0))[:1])
    with pytest.raises(UserError, match=r"no crop to validate on: raise data\.validation_share"):
        train(tmp_path, *SHORT)


@pytest.mark.parametrize("place", ["in an epoch", "before a checkpoint", "after the last one"])
def test_killed_anywhere_it_ends_the_same(run, short, monkeypatch, capsys, place):
    with monkeypatch.context() as patch:
        die_at(patch, place)
        with pytest.raises(Died):
            train(run, *SHORT)
    assert not stages.read_manifest(run / "pnet")["complete"]
    capsys.readouterr()
    train(run, *SHORT)
    epoch = {"in an epoch": 1, "before a checkpoint": 1, "after the last one": 3}[place]
    assert f"goes on after epoch {epoch}." in capsys.readouterr().out
    assert_same(run, short)


def dies(*_):
    raise Died


def die_at(patch, place):
    def half_written(self, epoch, logs=None):
        if epoch == 1:  # the log and perhaps the best weights know the epoch already
            self.path.with_name("new.weights.h5").write_bytes(b"half a file")
            raise Died
        real(self, epoch, logs)

    def in_epoch(self, batch, logs=None):
        if int(self.model.optimizer.iterations.numpy()) == 33:
            raise Died

    if place == "in an epoch":
        patch.setattr(loop.StopAtLastStep, "on_train_batch_end", in_epoch)
    elif place == "before a checkpoint":
        real = loop.Checkpoint.on_epoch_end
        patch.setattr(loop.Checkpoint, "on_epoch_end", half_written)
    else:
        patch.setattr(loop.picture, "draw_curves", dies)


def test_killed_and_interrupted_from_outside_it_ends_the_same(run, prepared, tmp_path):
    undisturbed = tmp_path / "undisturbed"
    shutil.copytree(prepared, undisturbed)
    train(undisturbed, *LONG)

    status, errors, _ = stop(run, 1, signal.SIGKILL, *LONG)
    assert status == -signal.SIGKILL and len(loop.read_log(run / "pnet" / "log.csv")) < 4
    status, errors, seconds = stop(run, 2, signal.SIGINT, *LONG)
    assert (status, seconds < 10) == (130, True)
    assert "the same command goes on" in errors and "Traceback" not in errors
    assert not stages.read_manifest(run / "pnet")["complete"]

    done = finish(run, *LONG)
    assert done.returncode == 0 and "goes on after epoch" in done.stdout
    for noise in ("warning", "retracing", "ran out", "traceback"):
        assert noise not in (done.stdout + done.stderr).lower()
    assert_same(run, undisturbed)
    with (run / "pnet" / "log.csv").open(newline="") as file:
        assert [row["epoch"] for row in csv.DictReader(file)] == ["0", "1", "2", "3"]


def poison(patch, step):
    """From here on a batch, counted from the start of the run, holds a NaN."""
    real = dataset.batches

    def batches(*arguments):
        def spoilt(number, batch):
            images, targets = batch
            return tf.where(number == step, np.nan, images), targets

        return real(*arguments).enumerate().map(spoilt)

    patch.setattr(dataset, "batches", batches)


def test_a_loss_that_is_not_finite_stops_with_a_sentence(run, short, monkeypatch, capsys):
    with monkeypatch.context() as patch:
        die_at(patch, "in an epoch")
        with pytest.raises(Died):
            train(run, *SHORT)
    good = (run / "pnet" / "last.weights.h5").read_bytes()
    with monkeypatch.context() as patch:
        poison(patch, 5)
        with pytest.raises(SystemExit) as stopped:
            run_cli(lambda: train(run, *SHORT))
    sentence = stopped.value.code  # what the interpreter prints, with exit status 1
    assert sentence.startswith("error: pnet: the loss is not finite at step 26 (")
    assert "lower pnet.train.learning_rate (now 0.003)" in sentence and "\n" not in sentence
    assert (run / "pnet" / "last.weights.h5").read_bytes() == good
    train(run, *SHORT)
    assert_same(run, short)


def test_weights_spoilt_by_an_epochs_last_step_are_not_kept(run, monkeypatch):
    real = trainee.losses

    def without_a_gradient(*arguments):
        parts = real(*arguments)
        # 0, but its gradient is not a number.
        return parts | {"face": parts["face"] + tf.reduce_sum(tf.sqrt(0 * arguments[1]["face"]))}

    with monkeypatch.context() as patch:
        patch.setattr(trainee, "losses", without_a_gradient)
        with pytest.raises(UserError, match="validation loss is not finite after epoch 1: lower"):
            train(run, *SHORT, "pnet.train.steps_per_epoch=1")
    left = {path.name for path in (run / "pnet").iterdir()}
    assert not left & {"last.weights.h5", "weights.npz", "log.csv"}


def damaged(content, how):
    middle = len(content) // 2
    return {"empty": b"", "cut": content[:middle], "zeros": bytes(len(content))}[how]


@pytest.mark.parametrize("how", ["empty", "cut", "zeros"])
def test_damaged_checkpoint_is_told_in_a_sentence(run, short, how):
    (run / "pnet").mkdir()
    content = (short / "pnet" / "last.weights.h5").read_bytes()
    (run / "pnet" / "last.weights.h5").write_bytes(damaged(content, how))
    with pytest.raises(UserError) as stopped:
        train(run, *SHORT)
    sentence = str(stopped.value)
    assert f"{run / 'pnet' / 'last.weights.h5'} is damaged or of another net" in sentence
    assert sentence.endswith("remove it, or make the training anew with FORCE=1.")
    assert "\n" not in sentence


@pytest.mark.parametrize("other", ["rnet", "onet"])
def test_checkpoint_of_another_net_is_told_in_a_sentence(run, recwarn, other):
    (run / "pnet").mkdir()
    stranger = loop.compiled(recipe.load(ROOT / "configs/mtcnn.yaml"), other)
    stranger.save_weights(run / "pnet" / "last.weights.h5")
    with pytest.raises(UserError, match="is damaged or of another net"):
        train(run, *SHORT)
    # Keras has a dozen warnings for it.
    assert not [warning for warning in recwarn.list if warning.category is UserWarning]


def test_learning_rate_warms_up_and_falls():
    settings = recipe.load(ROOT / "configs/mtcnn.yaml", ["pnet.train.steps=1000"]).pnet.train
    rate = trainee.schedule(settings)
    assert float(rate(0)) == pytest.approx(0.003 / 100, rel=1e-5)
    assert float(rate(500)) == pytest.approx(0.003, rel=1e-5)
    assert float(rate(750)) == pytest.approx((0.003 + 0.00001) / 2, rel=1e-4)
    assert float(rate(1000)) == pytest.approx(0.00001, rel=1e-4)
