"""Commands in messages: whole, and the same for a shell and make as what the user typed."""

import subprocess
from pathlib import Path

import pytest

from pipeline.make_command import make_command, set_variables


def test_variables_of_the_command_line_are_repeated() -> None:
    set_variables({"CONFIG": Path("configs/mine.yaml"), "RUN": Path("runs/mine"), "SET": ""})
    expected = "make pnet-data CONFIG=configs/mine.yaml RUN=runs/mine FORCE=1"
    assert make_command("pnet-data", FORCE=1) == expected
    assert make_command("train", RUN="runs/b", CONFIG=None) == "make train RUN=runs/b"
    assert make_command("wider", False) == "make wider"


def test_what_was_left_out_is_left_out() -> None:
    set_variables({"CONFIG": None, "RUN": None, "SET": ""})
    assert make_command("train-pnet") == "make train-pnet"


@pytest.mark.parametrize(
    "value",
    [
        "seed=7 pnet.train.batch_fractions=[0.2, 0.45, 0.15, 0.2]",
        "data.folder=/my pictures/it's mine",
        'data.train.own={format: coco, labels: "a b.json"}',
        "data.folder=$HOME/data",
        "data.folder=a;b&c#d",
    ],
)
def test_a_pasted_command_means_what_was_typed(tmp_path: Path, value: str) -> None:
    makefile = tmp_path / "Makefile"
    makefile.write_text('export SET\nshow:\n\t@printf %s "$$SET"\n')
    set_variables({"SET": value})
    done = subprocess.run(
        ["bash", "-c", make_command("show")], cwd=tmp_path, capture_output=True, text=True
    )
    assert (done.stdout, done.stderr) == (value, "")
