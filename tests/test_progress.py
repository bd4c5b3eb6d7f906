"""The progress bar and the line of figures fit 80 columns; a file gets a line an epoch."""

import io
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from tests.trainings import SHORT, train
from train.progress import Progress

pytestmark = pytest.mark.slow

LOGS = {"loss": 0.312345, "cls": 0.1, "box": 0.1, "landmarks": 0.1}
FIGURES = {"recall": 0.98765, "threshold": 0.5, "iou": 0.71234, "nme": 0.05234, "loss": 0.28765}


class Terminal(io.StringIO):
    """Standard error of a terminal."""

    def isatty(self) -> bool:
        """Whether a person looks at it."""
        return True


def show(epochs: int, steps: int) -> None:
    """One epoch of a training whose model has taken no step."""
    shown = Progress("onet", epochs * steps)
    iterations = np.array(0)
    model: Any = SimpleNamespace(
        optimizer=SimpleNamespace(iterations=SimpleNamespace(numpy=lambda: iterations))
    )
    shown.set_model(model)
    shown.set_params({"epochs": epochs, "steps": steps})
    shown.on_epoch_begin(98)
    for step in range(steps):
        shown.on_train_batch_end(step, LOGS)
    shown.bar.refresh()
    shown.on_epoch_end(98, LOGS | {f"val_{key}": value for key, value in FIGURES.items()})


@pytest.mark.parametrize("columns", [80, 200])
def test_bar_and_figures_fit_80_columns(
    columns: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    monkeypatch.setattr("shutil.get_terminal_size", lambda *_: SimpleNamespace(columns=columns))
    show(100, 12000)
    drawn = terminal.getvalue().split("\r")
    assert max(map(len, drawn)) <= 80
    assert any("onet 99/100: 100%" in bar and "loss 0.3123" in bar for bar in drawn)
    line = capsys.readouterr().out
    assert line == (
        "onet 99/100: loss 0.312, validation 0.288, recall 0.988, iou 0.712, nme 0.052\n"
    )
    assert len(line) <= 80


def test_a_file_gets_a_line_an_epoch(run: Path, capfd: pytest.CaptureFixture[str]) -> None:
    train(run, *SHORT)
    out, errors = capfd.readouterr()
    epochs = [line for line in out.splitlines() if line.startswith("pnet ")]
    assert [line.partition(":")[0] for line in epochs] == ["pnet 1/3", "pnet 2/3", "pnet 3/3"]
    assert len(out.splitlines()) == 4 and "step" not in errors
