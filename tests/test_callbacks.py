"""A killed training resumes and ends bit for bit the same; one that diverges stops."""

import contextlib
import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from configs import recipe
from models import keras_nets
from mtcnn_detector.errors import UserError
from mtcnn_detector.net import NetName
from pipeline import interrupts, manifest
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
from train import callbacks, dataset, trainable_net
from train.log import read_log
from train.losses import losses

pytestmark = pytest.mark.slow

# Epochs long enough to be hit by a signal; the last one is shorter.
LONG = (*SMALL, "pnet.train.steps=350", "pnet.train.steps_per_epoch=100")


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of a stage that has one."""
    content = manifest.read_manifest(folder)
    assert content is not None
    return content


def command(run: Path, *overrides: str) -> list[str]:
    settings = ["--config", "configs/mtcnn.yaml", "--run", str(run), "--set", *overrides]
    return [sys.executable, "-m", "train", "pnet", *settings]


def finish(run: Path, *overrides: str) -> subprocess.CompletedProcess[str]:
    """The command, to its end."""
    return subprocess.run(
        command(run, *overrides), cwd=ROOT, capture_output=True, text=True, timeout=120
    )


def stop(run: Path, epochs: int, signal_number: int, *overrides: str) -> tuple[int, str, float]:
    """Start the command and send it a signal when so many epochs are in the log."""
    with subprocess.Popen(
        command(run, *overrides), cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        deadline = time.monotonic() + 120
        while len(read_log(run / "pnet" / "log.csv")) < epochs:
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.01)
        time.sleep(0.1)  # into the next one
        os.kill(process.pid, signal_number)
        sent = time.monotonic()
        _, errors = process.communicate(timeout=60)
        return process.returncode, errors.decode(), time.monotonic() - sent


def test_the_best_epochs_weights_are_kept_across_a_kill(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    validation_losses, evaluated = iter([2.0, 1.0, 3.0]), []
    real = callbacks.evaluate

    def evaluate(model: Any, *arguments: Any) -> dict[str, float]:
        evaluated.append(keras_nets.get_weights(model.net))
        return real(model, *arguments) | {"loss": next(validation_losses)}

    monkeypatch.setattr(callbacks, "evaluate", evaluate)
    with monkeypatch.context() as patch:
        patch.setattr("train.plot_curves.draw_curves", kill)
        with pytest.raises(Killed):
            train(run, *SHORT)
    train(run, *SHORT)
    assert len(evaluated) == 3
    for key, value in saved_net(run).weights.items():
        np.testing.assert_array_equal(value, evaluated[1][key])
    assert read_manifest(run / "pnet")["validation"]["loss"] == 1


def die_at(patch: pytest.MonkeyPatch, place: str) -> None:
    """Have a training killed at one of three places."""

    def half_written(
        self: callbacks.Checkpoint, epoch: int, logs: dict[str, float] | None = None
    ) -> None:
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
        patch.setattr("train.plot_curves.draw_curves", kill)


@pytest.mark.parametrize("place", ["in an epoch", "before a checkpoint", "after the last one"])
def test_killed_anywhere_it_ends_the_same(
    run: Path,
    short: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    place: str,
) -> None:
    with monkeypatch.context() as patch:
        die_at(patch, place)
        with pytest.raises(Killed):
            train(run, *SHORT)
    assert not read_manifest(run / "pnet")["complete"]
    capsys.readouterr()
    train(run, *SHORT)
    epoch = {"in an epoch": 1, "before a checkpoint": 1, "after the last one": 3}[place]
    assert f"goes on after epoch {epoch}." in capsys.readouterr().out
    assert_same(run, short)


def test_killed_and_interrupted_from_outside_it_ends_the_same(
    run: Path, prepared: Path, tmp_path: Path
) -> None:
    undisturbed = copy_run(prepared, tmp_path / "undisturbed")
    train(undisturbed, *LONG)

    status, errors, _ = stop(run, 1, signal.SIGKILL, *LONG)
    done = len(read_log(run / "pnet" / "log.csv"))
    assert status == -signal.SIGKILL and done < 4
    status, errors, seconds = stop(run, done + 1, signal.SIGINT, *LONG)
    assert (status, seconds < 30) == (130, True)
    assert "the same command goes on" in errors and "Traceback" not in errors
    assert not read_manifest(run / "pnet")["complete"]

    last = finish(run, *LONG)
    assert last.returncode == 0 and "goes on after epoch" in last.stdout
    for noise in ("warning", "retracing", "ran out", "traceback"):
        assert noise not in (last.stdout + last.stderr).lower()
    assert_same(run, undisturbed)
    with (run / "pnet" / "log.csv").open(newline="") as file:
        assert [row["epoch"] for row in csv.DictReader(file)] == ["0", "1", "2", "3"]


def test_ctrl_c_that_keras_drops_stops_it(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def drop() -> None:
        with contextlib.suppress(KeyboardInterrupt):  # as `except: pass` in Keras after a batch
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(callbacks.StopAtLastStep, "on_train_batch_end", at_step(33, drop))
    with pytest.raises(KeyboardInterrupt), interrupts.none_lost():
        train(run, *SHORT)
    assert len(read_log(run / "pnet" / "log.csv")) == 1  # in the second epoch, at its next step


def poison(patch: pytest.MonkeyPatch, step: int) -> None:
    """Fill the images of one batch, counted from the start of the run, with NaN."""
    real = dataset.batches

    def batches(*arguments: Any) -> tf.data.Dataset:
        def spoilt(number: tf.Tensor, batch: Any) -> tuple[tf.Tensor, Any]:
            images, targets = batch
            return tf.where(number == step, np.nan, images), targets

        return real(*arguments).enumerate().map(spoilt)

    patch.setattr(dataset, "batches", batches)


def test_a_loss_that_is_not_finite_stops_with_a_sentence(
    run: Path, short: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with monkeypatch.context() as patch:
        die_at(patch, "in an epoch")
        with pytest.raises(Killed):
            train(run, *SHORT)
    good = (run / "pnet" / "last.weights.h5").read_bytes()
    with monkeypatch.context() as patch:
        poison(patch, 5)
        with pytest.raises(SystemExit) as stopped:
            run_cli(lambda: train(run, *SHORT))
    sentence = str(stopped.value.code)  # what the interpreter prints, with exit status 1
    assert sentence.startswith("error: pnet: the loss is not finite at step 26 (")
    assert "lower pnet.train.learning_rate (now 0.003)" in sentence and "\n" not in sentence
    assert (run / "pnet" / "last.weights.h5").read_bytes() == good
    train(run, *SHORT)
    assert_same(run, short)


def test_weights_spoilt_by_an_epochs_last_step_are_not_kept(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = losses

    def without_a_gradient(*arguments: Any) -> dict[str, tf.Tensor]:
        parts = real(*arguments)
        # 0, but its gradient is not a number.
        return parts | {"cls": parts["cls"] + tf.reduce_sum(tf.sqrt(0 * arguments[1]["cls"]))}

    with monkeypatch.context() as patch:
        patch.setattr("train.custom.losses", without_a_gradient)
        with pytest.raises(UserError, match="validation loss is not finite after epoch 1: lower"):
            train(run, *SHORT, "pnet.train.steps_per_epoch=1")
    left = {path.name for path in (run / "pnet").iterdir()}
    assert not left & {"last.weights.h5", "weights.npz", "log.csv"}


def begun(run: Path, short: Path) -> None:
    """A training that was killed early."""
    (run / "pnet").mkdir()
    content = json.loads((short / "pnet" / "manifest.json").read_text()) | {"complete": False}
    (run / "pnet" / "manifest.json").write_text(json.dumps(content))


def damaged(content: bytes, how: str) -> bytes:
    middle = len(content) // 2
    return {"empty": b"", "cut": content[:middle], "zeros": bytes(len(content))}[how]


@pytest.mark.parametrize("how", ["empty", "cut", "zeros"])
def test_damaged_checkpoint_is_refused_in_a_sentence(run: Path, short: Path, how: str) -> None:
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
def test_checkpoint_of_another_net_is_refused_in_a_sentence(
    run: Path, short: Path, recwarn: pytest.WarningsRecorder, other: NetName
) -> None:
    begun(run, short)
    stranger, _ = trainable_net.build_trainable(recipe.load(RECIPE), other)
    stranger.save_weights(run / "pnet" / "last.weights.h5")
    with pytest.raises(UserError, match="is damaged or of another net"):
        train(run, *SHORT)
    # Keras has a dozen warnings for it.
    assert not [warning for warning in recwarn.list if warning.category is UserWarning]
