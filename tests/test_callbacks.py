"""A training that is killed goes on and ends the same; one that goes wrong stops."""

import csv
import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import tensorflow as tf

from configs import recipe
from models import keras_nets
from mtcnn_detector.errors import UserError
from pipeline import manifest
from pipeline.cli import run_cli
from tests.trainings import (
    RECIPE,
    ROOT,
    SHORT,
    SMALL,
    Killed,
    assert_same,
    at_step,
    copy_run,
    kill,
    saved_net,
    train,
)
from train import callbacks, dataset, loop, trainable_net
from train.log import read_log

# Epochs long enough to be hit by a signal; the last one is shorter.
LONG = (*SMALL, "pnet.train.steps=350", "pnet.train.steps_per_epoch=100")


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
        while len(read_log(run / "pnet" / "log.csv")) < epochs:
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.01)
        time.sleep(0.1)  # into the next one
        os.kill(process.pid, how)
        sent = time.monotonic()
        _, errors = process.communicate(timeout=60)
        return process.returncode, errors.decode(), time.monotonic() - sent


def test_the_best_epochs_weights_are_kept_across_a_kill(run, monkeypatch):
    told, judged = iter([2.0, 1.0, 3.0]), []
    real = callbacks.evaluate

    def evaluate(model, *arguments):
        judged.append(keras_nets.get_weights(model.net))
        return real(model, *arguments) | {"loss": next(told)}

    monkeypatch.setattr(callbacks, "evaluate", evaluate)
    with monkeypatch.context() as patch:
        patch.setattr(loop.plot_curves, "draw_curves", kill)
        with pytest.raises(Killed):
            train(run, *SHORT)
    train(run, *SHORT)
    assert len(judged) == 3
    for key, value in saved_net(run).weights.items():
        np.testing.assert_array_equal(value, judged[1][key])
    assert manifest.read_manifest(run / "pnet")["validation"]["loss"] == 1


def die_at(patch, place):
    def half_written(self, epoch, logs=None):
        if epoch == 1:  # the log and perhaps the best weights know the epoch already
            self.path.with_name("new.weights.h5").write_bytes(b"half a file")
            raise Killed
        real(self, epoch, logs)

    if place == "in an epoch":
        patch.setattr(callbacks.StopAtLastStep, "on_train_batch_end", at_step(33, kill))
    elif place == "before a checkpoint":
        real = callbacks.Checkpoint.on_epoch_end
        patch.setattr(callbacks.Checkpoint, "on_epoch_end", half_written)
    else:
        patch.setattr(loop.plot_curves, "draw_curves", kill)


@pytest.mark.parametrize("place", ["in an epoch", "before a checkpoint", "after the last one"])
def test_killed_anywhere_it_ends_the_same(run, short, monkeypatch, capsys, place):
    with monkeypatch.context() as patch:
        die_at(patch, place)
        with pytest.raises(Killed):
            train(run, *SHORT)
    assert not manifest.read_manifest(run / "pnet")["complete"]
    capsys.readouterr()
    train(run, *SHORT)
    epoch = {"in an epoch": 1, "before a checkpoint": 1, "after the last one": 3}[place]
    assert f"goes on after epoch {epoch}." in capsys.readouterr().out
    assert_same(run, short)


def test_killed_and_interrupted_from_outside_it_ends_the_same(run, prepared, tmp_path):
    undisturbed = copy_run(prepared, tmp_path / "undisturbed")
    train(undisturbed, *LONG)

    status, errors, _ = stop(run, 1, signal.SIGKILL, *LONG)
    assert status == -signal.SIGKILL and len(read_log(run / "pnet" / "log.csv")) < 4
    status, errors, seconds = stop(run, 2, signal.SIGINT, *LONG)
    assert (status, seconds < 10) == (130, True)
    assert "the same command goes on" in errors and "Traceback" not in errors
    assert not manifest.read_manifest(run / "pnet")["complete"]

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
        with pytest.raises(Killed):
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
    real = trainable_net.losses

    def without_a_gradient(*arguments):
        parts = real(*arguments)
        # 0, but its gradient is not a number.
        return parts | {"cls": parts["cls"] + tf.reduce_sum(tf.sqrt(0 * arguments[1]["cls"]))}

    with monkeypatch.context() as patch:
        patch.setattr(trainable_net, "losses", without_a_gradient)
        with pytest.raises(UserError, match="validation loss is not finite after epoch 1: lower"):
            train(run, *SHORT, "pnet.train.steps_per_epoch=1")
    left = {path.name for path in (run / "pnet").iterdir()}
    assert not left & {"last.weights.h5", "weights.npz", "log.csv"}


def begun(run, short):
    """A training that was killed early."""
    (run / "pnet").mkdir()
    told = json.loads((short / "pnet" / "manifest.json").read_text()) | {"complete": False}
    (run / "pnet" / "manifest.json").write_text(json.dumps(told))


def damaged(content, how):
    middle = len(content) // 2
    return {"empty": b"", "cut": content[:middle], "zeros": bytes(len(content))}[how]


@pytest.mark.parametrize("how", ["empty", "cut", "zeros"])
def test_damaged_checkpoint_is_told_in_a_sentence(run, short, how):
    begun(run, short)
    content = (short / "pnet" / "last.weights.h5").read_bytes()
    (run / "pnet" / "last.weights.h5").write_bytes(damaged(content, how))
    with pytest.raises(UserError) as stopped:
        train(run, *SHORT)
    sentence = str(stopped.value)
    assert f"{run / 'pnet' / 'last.weights.h5'} is damaged or of another net" in sentence
    assert sentence.endswith("remove it, or make the training anew with `make train-pnet FORCE=1`.")
    assert "\n" not in sentence


@pytest.mark.parametrize("other", ["rnet", "onet"])
def test_checkpoint_of_another_net_is_told_in_a_sentence(run, short, recwarn, other):
    begun(run, short)
    stranger, _ = trainable_net.build_trainable(recipe.load(RECIPE), other)
    stranger.save_weights(run / "pnet" / "last.weights.h5")
    with pytest.raises(UserError, match="is damaged or of another net"):
        train(run, *SHORT)
    # Keras has a dozen warnings for it.
    assert not [warning for warning in recwarn.list if warning.category is UserWarning]
