"""The state of a run: its complete stages with dates and figures, and the next command."""

import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from configs import recipe
from configs.settings import Settings
from mtcnn_detector.errors import UserError
from mtcnn_detector.net import NETS
from pipeline import manifest, run_recipe
from pipeline.finetuning import FILE as FINETUNE
from pipeline.make_command import make_command
from pipeline.stages import EXPORT_FOLDERS, ROUNDS, STAGES, StageSpec, rounds_of
from pipeline.survival import FILE as SURVIVAL

COMPLETE, NOT_NEEDED = "complete", "not needed"


class StageState(NamedTuple):
    """One line of the table; `since` is the local time at which the state was reached."""

    target: str
    state: str
    since: str = ""
    figures: str = ""


def describe(run: Path) -> str:
    """The table of a run's stages, of those of its rounds, and the next command.

    Raises:
        UserError: the folder holds no run; a manifest is damaged or of another version.
    """
    rounds = rounds_of(run)
    settings = _settings(run)
    states = [_state(run, stage, settings) for stage in STAGES.values()]
    begun = any(state.since for state in states)
    if settings is None and not begun and not rounds:
        named = run_recipe.DEFAULT.parent / f"{run.name}.yaml"  # runs are named after recipes
        config = named if named.exists() and named != run_recipe.DEFAULT else None
        if (run / FINETUNE).exists():  # refused before it made anything
            config = run / FINETUNE
        start = make_command("train", False, CONFIG=config, RUN=run)
        raise UserError(f"{run} holds no run: `{start}` starts it.")
    parts = []
    if begun or not rounds:
        states += _evaluation(run)
        parts += [_table(run, states)]
    for folder in rounds:
        stages = [_state(folder, stage, _settings(folder)) for stage in STAGES.values()]
        parts.append(_table(folder, stages))
        states += stages
    if (run / "rounds.md").exists():
        parts.append((run / "rounds.md").read_text(encoding="utf-8").strip())
    again = None if begun or not rounds else rounds_again(run, rounds)
    return "\n\n".join([*parts, _next(run, states, again)])


def _settings(run: Path) -> Settings | None:
    """The recipe that a run keeps; None if it keeps none."""
    kept = run / run_recipe.FILE
    return recipe.load(kept) if kept.exists() else None


def _state(run: Path, stage: StageSpec, settings: Settings | None) -> StageState:
    folder = run / stage.folder
    if settings is not None and stage.net is None:
        folder = run / EXPORT_FOLDERS[settings.export.layout]
    made = manifest.read_manifest(folder)
    if made is not None:
        since = _time(folder / manifest.MANIFEST)
        if not made["complete"]:
            return StageState(stage.target, "begun, not complete", since)
        return StageState(stage.target, COMPLETE, since, _figures(made, folder))
    taken_over = settings is not None and stage.net and not settings.for_net(stage.net).train.steps
    if taken_over and stage.makes_records:
        return StageState(stage.target, NOT_NEEDED, figures="train.steps: 0, taken over")
    return StageState(stage.target, "not begun")


def _figures(made: Mapping[str, Any], folder: Path) -> str:
    """The figures in a manifest, and the survival measured after a training."""
    figures = []
    if "counts" in made:
        totals = {split: sum(counts.values()) for split, counts in made["counts"].items()}
        figures += [f"{count} crops ({split})" for split, count in totals.items()]
    figures += [f"{key} {value:.4f}" for key, value in made.get("validation", {}).items()]
    if survival := _content(folder / SURVIVAL, "survival", "faces"):
        figures.append(f"{100 * survival['survival']:.1f} % of {survival['faces']} faces survive")
    if made.get("landmarks") is False:
        figures.append("no landmark head")
    if "file" in made:
        figures.append(str(made["file"]))
    return ", ".join(figures)


def _evaluation(run: Path) -> list[StageState]:
    """The figures of the run's latest report, for the weights that it is about."""
    # A report is named after its run and data sets; other files may lie beside it.
    files = sorted((run / "evaluation").glob("*.json"), key=lambda path: path.stat().st_mtime)
    found = [(path, content) for path in files if (content := _content(path, "figures"))]
    if not found:
        return []
    report, content = found[-1]
    label, figures = next(iter(content["figures"].items()))
    shown = [f"{name} {value}" for name, value in figures.items() if "AP" in name or "NME," in name]
    return [StageState("evaluate", COMPLETE, _time(report), f"{label}: {'; '.join(shown)}")]


def _content(path: Path, *keys: str) -> dict[str, Any]:
    """What a stage has written as JSON; empty where it is missing, damaged or something else."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    whole = isinstance(content, dict) and all(content.get(key) is not None for key in keys)
    return content if whole else {}


def rounds_again(run: Path, rounds: Sequence[Path]) -> str:
    """The command that goes on with a run's rounds: as many as are there, or more, begun alike."""
    variables: dict[str, Any] = {"RUN": run}
    if len(rounds) > ROUNDS:
        variables["ROUNDS"] = len(rounds)
    own, first, last = (_settings(folder) for folder in (run, rounds[0], rounds[-1]))
    if own is not None and first is not None:
        start, default = (one.for_net(NETS[0]).train.init for one in (first, own))
        variables["WEIGHTS"] = None if start == default else start
        steps = {net: (last or first).for_net(net).train.steps for net in NETS}
        left_out = [net for net in NETS if not steps[net] and own.for_net(net).train.steps]
        trained = " ".join(net for net in NETS if net not in left_out)
        variables["NETS"] = trained if left_out else None
    return make_command("rounds", False, **variables)


def _next(run: Path, states: list[StageState], rounds: str | None) -> str:
    """The command that makes the first stage that is missing; `rounds`: the one for rounds."""
    missing = [state.target for state in states if state.state not in (COMPLETE, NOT_NEEDED)]
    if missing and rounds:
        return f"next: `{rounds}`"
    if missing:
        one, rest = (make_command(word, False, RUN=run) for word in (missing[0], "train"))
        return f"next: `{one}`; `{rest}` makes all that is left."
    if any(state.target == "evaluate" for state in states):
        return "nothing is left to do."
    return f"next: `{make_command('evaluate', False, RUN=run)}`"


def _table(run: Path, states: list[StageState]) -> str:
    widths = [max(len(state[column]) for state in states) for column in range(3)]
    lines = [
        "  ".join([*(cell.ljust(w) for cell, w in zip(state, widths, strict=False)), state.figures])
        for state in states
    ]
    return "\n".join([f"{run}:", *(f"  {line.rstrip()}" for line in lines)])


def _time(path: Path) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(path.stat().st_mtime))
