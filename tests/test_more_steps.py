"""A training that is given more steps goes on from its last checkpoint."""

import shutil
from pathlib import Path
from typing import Any

import pytest

from mtcnn_detector.errors import UserError
from pipeline import manifest
from tests.trainings import SHORT, Killed, assert_same, at_step, copy_run, kill, train
from train import callbacks
from train.log import read_log

pytestmark = pytest.mark.slow

Capture = pytest.CaptureFixture[str]


def test_more_steps_go_on_from_the_last_checkpoint(
    run: Path, short: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    more = (*SHORT, "pnet.train.steps=90")
    taken, real = [], callbacks.StopAtLastStep.on_train_batch_end

    def count(self: Any, batch: int, logs: dict[str, float] | None = None) -> None:
        taken.append(int(self.model.optimizer.iterations.numpy()))
        real(self, batch, logs)

    killed = copy_run(run, tmp_path / "killed")
    for folder in (run, killed):
        shutil.copytree(short / "pnet", folder / "pnet")
    with monkeypatch.context() as patch:
        patch.setattr(callbacks.StopAtLastStep, "on_train_batch_end", count)
        train(run, *more)
    assert taken == list(range(46, 91))
    assert "goes on after epoch 3." in capsys.readouterr().out
    rows = read_log(run / "pnet" / "log.csv")
    assert rows[:3] == read_log(short / "pnet" / "log.csv")
    assert [(row["epoch"], row["step"]) for row in rows[3:]] == [(3, 65), (4, 85), (5, 90)]
    made = manifest.read_manifest(run / "pnet")
    assert made and made["complete"] and made["recipe"]["pnet.train.steps"] == 90
    assert made["validation"]["loss"] == min(row["val_loss"] for row in rows)

    # Killed on the way, it ends the same.
    with monkeypatch.context() as patch:
        patch.setattr(callbacks.StopAtLastStep, "on_train_batch_end", at_step(88, kill))
        with pytest.raises(Killed):
            train(killed, *more)
    train(killed, *more)
    assert "goes on after epoch 5." in capsys.readouterr().out
    assert_same(killed, run)


def test_fewer_steps_or_another_setting_besides_are_refused(run: Path, short: Path) -> None:
    shutil.copytree(short / "pnet", run / "pnet")
    with pytest.raises(UserError, match=r"pnet\.train\.steps: 45 -> 30"):
        train(run, *SHORT, "pnet.train.steps=30")
    with pytest.raises(UserError, match=r"\(pnet\.train\.learning_rate: 0\.003 -> 0\.002\)"):
        train(run, *SHORT, "pnet.train.steps=90", "pnet.train.learning_rate=0.002")
    assert_same(run, short)
