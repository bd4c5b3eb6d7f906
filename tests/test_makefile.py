"""The Makefile: every target is a thin call, and its variables arrive as they were typed."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


def called(tmp_path: Path, *words: str) -> list[list[str]]:
    """The arguments with which `make <words>` calls Python."""
    echo = tmp_path / "echo.py"
    echo.write_text("import json, sys; print('CALL', json.dumps(sys.argv[1:]))")
    # `-o`: the environment counts as made.
    command = ["make", "-o", ".venv/ready", *words, f"PY={sys.executable} {echo}"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    lines = done.stdout.splitlines()
    return [json.loads(line[len("CALL ") :]) for line in lines if line.startswith("CALL ")]


def test_a_stage_without_variables_takes_its_own_defaults(tmp_path: Path) -> None:
    assert called(tmp_path, "rnet-data") == [["-m", "pipeline", "rnet-data"]]
    for no in ("0", "no", "false", ""):  # what it removes is lost
        assert called(tmp_path, "train", f"FORCE={no}") == [["-m", "pipeline", "train"]]


def test_values_with_spaces_lists_and_quotes_arrive_as_typed(tmp_path: Path) -> None:
    setting = "pnet.train.batch_fractions=[0.2, 0.45, 0.15, 0.2] data.folder=/it's mine"
    words = ["train", "RUN=runs/my run", f"SET={setting}", "WORKERS=3", "FORCE=1"]
    expected = ["--run", "runs/my run", "--set", setting, "--force", "--workers", "3"]
    assert called(tmp_path, *words) == [["-m", "pipeline", "train", *expected]]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["finetune", "NETS=p-net", "WEIGHTS=a b.npy"], "--weights|a b.npy|--nets|p-net"),
        (["rounds", "ROUNDS=3"], "pipeline|rounds|--rounds|3"),
        (["status", "RUN=runs/x"], "pipeline|status|--run|runs/x"),
        (["sweep", "COUNT=7", "DATA=my data"], "--data|my data|--count|7"),
        (["evaluate", "LABELS=a.txt", "LABELS_FORMAT=wider"], "--labels|a.txt|--labels-format|wid"),
        (["export-weights", "FORMAT=onnx", "PNET=p.npz"], "--pnet|p.npz|--format|onnx"),
        (["export-weights", "CALIBRATION=my faces"], "export|--calibration|my faces"),
        (["detect", "IMAGES=my image.jpg"], "detect|my image.jpg|--weights|weights/mtcnn_weights"),
        (["detect", "IMAGES=a", "THRESHOLDS=0.5 0.6 0.7"], "--thresholds|0.5|0.6|0.7"),
        (["detect", "IMAGES=a", "MIN_FACE=30", "OUT=my out"], "my out|--min-face-size|30"),
        (["inspect", "FILE=my file"], "export|inspect|my file"),
        (["data", "DATA=my data", "DOWNLOADS=a b"], "data|--folder|my data|--downloads|a b"),
        (["wider", "DATA=my data", "URL=http://x"], "wider|--folder|my data|--url|http://x"),
    ],
)
def test_each_variable_has_its_option(tmp_path: Path, words: list[str], expected: str) -> None:
    (arguments,) = called(tmp_path, *words)
    assert expected in "|".join(arguments)


def test_the_host_that_conda_exports_is_none(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HOST", "x86_64-conda-linux-gnu")
    assert called(tmp_path, "app") == [["-m", "app"]]
    assert called(tmp_path, "app", "HOST=0.0.0.0") == [["-m", "app", "--host", "0.0.0.0"]]


def test_the_demo_is_three_calls_with_one_recipe(tmp_path: Path) -> None:
    sample, train, evaluate = called(tmp_path, "demo", "RUN=runs/a b")
    assert sample == ["-m", "data_prep", "sample", "--folder", "data/sample"]
    run = ["--config", "configs/demo.yaml", "--run", "runs/a b"]
    assert train == ["-m", "pipeline", "train", *run]
    against = ["--against", "weights/mtcnn_weights.npy"]
    assert evaluate == ["-m", "evaluation", "score", *run, *against]


def test_every_phony_target_has_a_rule_and_a_line_of_help() -> None:
    text = (ROOT / "Makefile").read_text(encoding="utf-8")
    (names,) = re.findall(r"^\.PHONY: ((?:.*\\\n)*.*)", text, re.MULTILINE)
    stages = re.search(r"^STAGES := (.*)", text, re.MULTILINE)
    assert stages is not None
    phony = names.replace("\\\n", " ").replace("$(STAGES)", stages[1]).split()
    helped = re.findall(r"^([a-z%-]+):.*##", text, re.MULTILINE)
    assert sorted(phony) == sorted(helped)
    assert ".NOTPARALLEL:" in text
