"""The state of a run: complete stages, figures, and a next command that can be pasted."""

import json
import os
import time
from pathlib import Path
from typing import Any

import pytest

from configs import recipe
from mtcnn_detector.errors import UserError
from mtcnn_detector.net import NETS
from pipeline import run_recipe, status
from pipeline.finetuning import as_overrides, start_from
from pipeline.manifest import Stage
from pipeline.stages import STAGES

MTCNN = Path(recipe.__file__).parent / "mtcnn.yaml"
FACTS: dict[str, dict[str, Any]] = {
    "pnet-data": {"counts": {"train": {"positive": 20, "part": 3}, "validation": {"part": 4}}},
    "train-pnet": {"validation": {"loss": 0.25, "recall": 0.875}},
    "export-weights": {"file": "r/mtcnn_weights.npy"},
}


def complete(run: Path, *targets: str) -> None:
    for target in targets:
        stage = Stage(run / STAGES[target].folder, {}, target)
        stage.begin(False)
        stage.finish(FACTS.get(target, {}))


def line(text: str, target: str) -> str:
    (found,) = [row.strip() for row in text.splitlines() if row.strip().startswith(target + " ")]
    return " ".join(found.split())


def test_a_run_half_way(tmp_path: Path) -> None:
    run = tmp_path / "my run"
    run_recipe.keep(run, recipe.load(MTCNN))
    complete(run, "pnet-data", "train-pnet")
    (run / "pnet" / "recall.json").write_text('{"survival": 0.951, "faces": 40, "nets": ""}')
    Stage(run / "records/rnet", {}, "rnet-data").begin(False)
    noon = time.mktime((2024, 5, 6, 12, 34, 0, 0, 0, -1))
    os.utime(run / "records/pnet/manifest.json", (noon, noon))
    text = status.describe(run)
    assert line(text, "pnet-data") == (
        "pnet-data complete 2024-05-06 12:34 23 crops (train), 4 crops (validation)"
    )
    assert line(text, "train-pnet").endswith(
        "loss 0.2500, recall 0.8750, 95.1 % of 40 faces survive"
    )
    assert line(text, "rnet-data").startswith("rnet-data begun, not complete 2")
    assert line(text, "train-onet") == "train-onet not begun"
    rest = f"`make train RUN='{run}'` makes all that is left."
    assert text.endswith(f"\n\nnext: `make rnet-data RUN='{run}'`; {rest}")


def test_a_net_that_is_taken_over_needs_no_records(tmp_path: Path) -> None:
    settings = recipe.load(MTCNN, ["pnet.train.init=w.npy", "pnet.train.steps=0"])
    run_recipe.keep(tmp_path, settings)
    text = status.describe(tmp_path)
    assert line(text, "pnet-data") == "pnet-data not needed train.steps: 0, taken over"
    assert f"next: `make train-pnet RUN={tmp_path}`;" in text


def test_a_complete_run_is_evaluated_next(tmp_path: Path) -> None:
    run_recipe.keep(tmp_path, recipe.load(MTCNN))
    complete(tmp_path, *STAGES)
    text = status.describe(tmp_path)
    assert line(text, "export-weights").endswith("r/mtcnn_weights.npy")
    assert text.endswith(f"next: `make evaluate RUN={tmp_path}`")
    figures = {"wider: AP": "0.612", "wider: faces found": "5 of 9"}
    (tmp_path / "evaluation").mkdir()
    report = {"figures": {"mtcnn_weights.npy": figures, "other": {"wider: AP": "0.5"}}}
    (tmp_path / "evaluation" / "run-mine-held-out.json").write_text(json.dumps(report))
    older = tmp_path / "evaluation" / "run-other.json"
    older.write_text(json.dumps({"figures": {"old.npy": {"other: AP": "0.1"}}}))
    os.utime(older, (0, 0))
    (tmp_path / "evaluation" / "labels.json").write_text('{"images": []}')  # of the user's own
    (tmp_path / "pnet" / "recall.json").write_text("{")
    text = status.describe(tmp_path)
    assert line(text, "evaluate").endswith("mtcnn_weights.npy: wider: AP 0.612")
    assert text.endswith("nothing is left to do.")


def test_the_exports_folder_follows_the_layout(tmp_path: Path) -> None:
    run_recipe.keep(tmp_path, recipe.load(MTCNN, ["export.layout=own"]))
    complete(tmp_path, "export-weights")
    assert line(status.describe(tmp_path), "export-weights") == "export-weights not begun"


def test_rounds_are_listed_one_by_one(tmp_path: Path) -> None:
    complete(tmp_path / "round-1", *STAGES)
    complete(tmp_path / "round-10", "pnet-data")
    (tmp_path / "rounds.md").write_text("| round-1 | 0.5 |\n")
    text = status.describe(tmp_path)
    assert text.index("round-1:") < text.index("round-10:") < text.index("| round-1 | 0.5 |")
    assert text.endswith(f"next: `make rounds RUN={tmp_path}`")


def test_rounds_go_on_as_they_were_begun(tmp_path: Path) -> None:
    run_recipe.keep(tmp_path, recipe.load(MTCNN))
    weights = tmp_path / "w.npy"
    weights.touch()
    for number, start in enumerate([weights, tmp_path / "round-1", tmp_path / "round-2"], 1):
        changes = start_from(dict.fromkeys(NETS, start), ["rnet", "onet"])
        run_recipe.keep(tmp_path / f"round-{number}", recipe.load(MTCNN, as_overrides(changes)))
    last = f"ROUNDS=3 WEIGHTS={weights} NETS='rnet onet'`"
    assert status.describe(tmp_path).endswith(f"next: `make rounds RUN={tmp_path} {last}")


def test_a_folder_without_a_run_is_refused(tmp_path: Path) -> None:
    sentence = rf"{tmp_path} holds no run: `make train RUN={tmp_path}` starts it\."
    with pytest.raises(UserError, match=sentence):
        status.describe(tmp_path)
    (tmp_path / "finetune.yaml").touch()
    with pytest.raises(UserError, match=rf"`make train CONFIG={tmp_path}/finetune.yaml RUN="):
        status.describe(tmp_path)
    sentence = rf"`make train CONFIG=configs/demo\.yaml RUN={tmp_path}/demo` starts it\."
    with pytest.raises(UserError, match=sentence):
        status.describe(tmp_path / "demo")
