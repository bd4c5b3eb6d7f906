"""The stages' order, fine-tuning and rounds; commands that fail or are interrupted."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from configs import recipe
from mtcnn_detector.errors import UserError
from mtcnn_detector.net import NETS
from pipeline import __main__ as command_line
from pipeline import sequence
from pipeline.sequence import Options

ROOT = Path(__file__).parent.parent
ORDER = [
    *("data_prep pnet", "train pnet", "evaluation recall pnet"),
    *("data_prep rnet", "train rnet", "evaluation recall rnet"),
    *("data_prep onet", "train onet", "evaluation recall onet"),
    "export",
]


@pytest.fixture
def commands(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The commands that are run, which do nothing here."""
    found: list[list[str]] = []
    monkeypatch.setattr(sequence, "run_module", lambda words: found.append(list(words)))
    return found


def main(monkeypatch: pytest.MonkeyPatch, *words: object) -> None:
    monkeypatch.setattr(sys, "argv", ["pipeline", *map(str, words)])
    command_line.main()


def values(command: list[str], option: str) -> list[str]:
    """The words after an option, up to the next one."""
    rest = command[command.index(option) + 1 :]
    end = next((i for i, word in enumerate(rest) if word.startswith("--")), len(rest))
    return rest[:end]


def test_a_training_runs_all_stages_in_their_order(
    commands: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    main(monkeypatch, "train")
    assert [" ".join(command) for command in commands] == ORDER


def test_what_to_type_after_a_forced_training_was_interrupted(
    commands: list[list[str]], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    main(monkeypatch, "train")
    assert capsys.readouterr().out == ""
    main(monkeypatch, "train", "--force")
    assert "After an interruption, repeat the command without it" in capsys.readouterr().out
    assert len(commands) == 2 * len(ORDER)


def test_options_reach_the_stages_that_take_them(
    commands: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    options = ["--config", "c.yaml", "--run", "a b", "--set", "seed=2 x=[1, 2]", "--force"]
    main(monkeypatch, "train", *options, "--workers", 3)
    run = ["--config", "c.yaml", "--run", "a b", "--set", "seed=2", "x=[1, 2]", "--force"]
    for command in commands:
        workers = ["--workers", "3"] if command[0] == "data_prep" else []
        assert command[-len(run + workers) :] == run + workers


def test_one_stage_runs_its_commands(
    commands: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    main(monkeypatch, "train-rnet", "--run", "r")
    recall = ["evaluation", "recall", "rnet", "--run", "r"]
    assert commands == [["train", "rnet", "--run", "r"], recall]


def test_fine_tuning_starts_every_net_and_takes_over_the_others(
    commands: list[list[str]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    weights = tmp_path / "w: 1.npy"
    weights.touch()
    run = tmp_path / "r"
    more = ["--run", run, "--set", "rnet.train.steps=600"]
    main(monkeypatch, "finetune", "--weights", weights, "--nets", "rnet", *more)
    assert [
        " ".join(command[: len(words.split())])
        for command, words in zip(commands, ORDER, strict=True)
    ] == ORDER
    assert values(commands[0], "--config") == [str(run / "finetune.yaml")]
    settings = recipe.load(run / "finetune.yaml", values(commands[0], "--set"))
    for net in NETS:
        assert settings.for_net(net).train.init == str(weights)
    assert [settings.for_net(net).train.steps for net in NETS] == [0, 600, 0]
    assert settings.pnet.records.mined_by is None, "it needs no records"


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["finetune", "--weights", "none.npy"], "WEIGHTS=none.npy is not there"),
        (["finetune", "--weights", "x", "--nets", "p-net"], "NETS=p-net: there is no p-net; the n"),
        (["rounds", "--weights", "none.npy"], "WEIGHTS=none.npy is not there"),
        (["rounds", "--rounds", "0"], "ROUNDS must be at least 1; got 0"),
        (["train", "--workers", "0"], "WORKERS must be at least 1; got 0"),
    ],
)
def test_impossible_words_are_refused_before_anything_runs(
    commands: list[list[str]], monkeypatch: pytest.MonkeyPatch, words: list[str], problem: str
) -> None:
    with pytest.raises(UserError, match=problem):
        main(monkeypatch, *words)
    assert commands == []


def test_each_round_starts_from_the_one_before(
    commands: list[list[str]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    config, run = ROOT / "configs/mtcnn.yaml", tmp_path / "run"
    words = ["--config", config, "--run", run, "--set", "data.min_face=20"]
    main(monkeypatch, "rounds", *words, "--rounds", 2, "--nets", "onet,pnet")
    assert len(commands) == 2 * len(ORDER) + 1
    first, second, last = commands[0], commands[len(ORDER)], commands[-1]
    assert values(first, "--run") == [str(run / "round-1")]
    assert values(first, "--set") == ["data.min_face=20", "seed=1"]
    assert values(second, "--run") == [str(run / "round-2")]
    settings = recipe.load(config, values(second, "--set"))
    assert (settings.seed, settings.data.min_face) == (2, 20)
    assert settings.onet.train.init == str(run / "round-1")
    assert [settings.for_net(net).train.steps > 0 for net in NETS] == [True, False, True]
    assert last[:2] == ["evaluation", "rounds"]
    assert values(last, "--run") == [str(run)]
    kept = recipe.load(run / "recipe.yaml")
    assert (kept.seed, kept.data.min_face) == (1, 20), "later `make rounds RUN=` needs no more"


def test_rounds_look_at_as_much_as_the_weights_they_start_from(
    commands: list[list[str]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    weights = ROOT / "weights/mtcnn_weights.npy"
    text = f"base: {ROOT / 'configs/mtcnn.yaml'}\n"
    for own, wanted in [("", 1.3), ("rnet: {records: {context: 1.5}}\n", 1.5)]:
        commands.clear()
        config, run = tmp_path / "own.yaml", tmp_path / f"run-{wanted}"
        config.write_text(text + own)
        main(monkeypatch, "rounds", "--config", config, "--run", run, "--weights", weights)
        every = [recipe.load(config, values(command, "--set")) for command in commands[:-1]]
        every.append(recipe.load(run / "recipe.yaml"))  # by which the weights kept are known
        assert {one.rnet.records.context for one in every} == {wanted}


def test_a_net_that_rounds_take_over_from_a_file_is_not_shifted_again(
    commands: list[list[str]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    config, weights = ROOT / "configs/mtcnn.yaml", ROOT / "weights/mtcnn_weights.npy"
    shifts = recipe.load(config).export.score_shift
    assert all(shifts[1:])
    words = ["--config", config, "--run", tmp_path, "--rounds", 2, "--weights", weights]
    main(monkeypatch, "rounds", *words, "--nets", "pnet,onet")
    every = [recipe.load(config, values(commands[at], "--set")) for at in (0, len(ORDER))]
    assert [one.rnet.train.steps for one in every] == [0, 0]
    assert {one.export.score_shift for one in every} == {(shifts[0], 0, shifts[2])}


def test_a_net_that_is_taken_over_again_is_not_scaled_again(
    commands: list[list[str]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    config = tmp_path / "own.yaml"
    config.write_text(
        f"base: {ROOT / 'configs/weights.yaml'}\nrnet: {{train: {{box_scale: 1.05}}}}\n"
    )
    main(monkeypatch, "rounds", "--config", config, "--run", tmp_path, "--rounds", 2)
    first, second = (
        recipe.load(config, values(commands[place], "--set")) for place in (0, len(ORDER))
    )
    assert [first.for_net(net).train.box_scale for net in NETS] == [1.3, 1.05, 1]
    assert [second.for_net(net).train.box_scale for net in NETS] == [1, 1.05, 1]


def test_rounds_begin_with_the_recipes_seed(
    commands: list[list[str]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    config = tmp_path / "own.yaml"
    config.write_text(f"base: {ROOT / 'configs/mtcnn.yaml'}\nseed: 40\n")
    for words, seeds in [([], [40, 41]), (["--set", "seed=7"], [7, 8])]:
        commands.clear()
        main(monkeypatch, "rounds", "--config", config, "--run", tmp_path, "--rounds", 2, *words)
        every = [recipe.load(config, values(command, "--set")).seed for command in commands[:-1]]
        assert every == [seed for seed in seeds for _ in ORDER]


def test_a_failing_stage_stops_the_sequence_with_its_status(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(ROOT)
    with pytest.raises(SystemExit) as stopped:
        sequence.train(Options(config=tmp_path / "none.yaml", run=tmp_path / "run"))
    assert stopped.value.code == 1
    out, err = capfd.readouterr()
    assert out.count("python -m ") == 1
    assert err == f"error: {tmp_path / 'none.yaml'}: there is no such recipe; CONFIG= names one.\n"


PROGRAM = """
import sys
from pipeline import sequence
from pipeline.cli import run_cli
run_cli(lambda: sequence.run_module([sys.argv[1]]))
"""
SLEEPER = """
import time
from pipeline.cli import run_cli
def main() -> None:
    print("ready", flush=True)
    time.sleep(60)
run_cli(main)
"""
IMPORTER = """
import time
print("ready", flush=True)
time.sleep(1)
from pipeline.cli import run_cli
run_cli(lambda: time.sleep(60))
"""


@pytest.fixture(params=[SLEEPER])
def parent(tmp_path: Path, request: pytest.FixtureRequest) -> "subprocess.Popen[str]":
    """A command that runs another one, which sleeps; both in a process group of their own."""
    (tmp_path / "sleeper.py").write_text(request.param)
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, "sleeper"],
        cwd=ROOT,
        env=dict(os.environ, PYTHONPATH=f"{ROOT}:{tmp_path}"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "python -m sleeper\n"
    assert process.stdout.readline() == "ready\n"
    return process


@pytest.mark.slow
@pytest.mark.parametrize("parent", [SLEEPER, IMPORTER], indirect=True, ids=["at work", "importing"])
def test_ctrl_c_ends_the_stage_with_one_message(parent: "subprocess.Popen[str]") -> None:
    os.killpg(parent.pid, signal.SIGINT)
    _, err = parent.communicate(timeout=30)
    assert err == "\nstopped; the same command goes on from here.\n"
    assert parent.returncode == 130


@pytest.mark.parametrize(("more", "again"), [([], ""), (["--force"], " without FORCE=1")])
def test_a_killed_stage_is_to_go_on(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    more: list[str],
    again: str,
) -> None:
    (tmp_path / "x.py").write_text("import os, signal; os.kill(os.getpid(), signal.SIGKILL)")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit):
        sequence.run_module(["x", *more])
    problem = f"python -m x was killed (SIGKILL); repeat the command{again} to go on."
    assert capfd.readouterr().err == f"error: {problem}\n"


@pytest.mark.slow
def test_sigterm_is_passed_on_and_reported(parent: "subprocess.Popen[str]") -> None:
    parent.terminate()
    _, err = parent.communicate(timeout=30)
    assert err == "error: python -m sleeper was killed (SIGTERM); repeat the command to go on.\n"
    assert parent.returncode == 128 + signal.SIGTERM
    time.sleep(0.2)
    with pytest.raises(ProcessLookupError):
        os.killpg(parent.pid, 0)
