"""The recipe that a run keeps: resolved, so that later commands need neither CONFIG nor SET."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from configs import recipe
from configs.settings import Settings
from mtcnn_detector.errors import UserError
from mtcnn_detector.files import write_atomically
from pipeline import make_command, manifest

FILE = "recipe.yaml"
DEFAULT = Path("configs/mtcnn.yaml")
HEAD = "# All settings of this run, written by its stages; docs/settings.md explains them.\n"


class Run(NamedTuple):
    """A run's folder and its settings."""

    folder: Path
    settings: Settings


def open_run(
    config: Path | None = None,
    folder: Path | None = None,
    overrides: Sequence[str] = (),
    unkept: Sequence[str] = (),
    default: Path | None = None,
) -> Run:
    """A run, by its recipe, its folder, or both; nothing is written before a stage begins.

    Args:
        config: The recipe; None: the one that the run keeps, or `default` if it keeps none.
        folder: The run's folder; None: the one in `runs/` named after the recipe.
        overrides: Settings over the recipe, as `key.path=value`; kept by the run.
        unkept: Settings that are not kept, as `key.path=value`.
        default: The recipe of a new run; None: `configs/mtcnn.yaml`.

    Raises:
        UserError: the recipe is missing or wrong.
    """
    words = " ".join(overrides)
    make_command.set_variables({"CONFIG": config, "RUN": folder, "SET": words})  # for messages
    path, folder = locate(config, folder, default)
    return Run(folder, load(path, folder, recipe.split_overrides(overrides), unkept))


def locate(config: Path | None, run: Path | None, default: Path | None = None) -> tuple[Path, Path]:
    """The recipe to read and the run's folder, from what the command line names of them.

    Args:
        config: The recipe, or None for the one that the run keeps; `default` if it keeps none.
        run: The folder, or None for the one in `runs/` named after the recipe.
        default: The recipe of a new run; None: `configs/mtcnn.yaml`.
    """
    default = default or DEFAULT
    run = run or Path("runs") / (config or default).stem
    kept = run / FILE
    return config or (kept if kept.exists() else default), run


def load(config: Path, run: Path, overrides: Sequence[str], unkept: Sequence[str] = ()) -> Settings:
    """Read the recipe of a command; print which one, and how it differs from the one kept.

    Args:
        config: The recipe, as `locate` gives it.
        run: The run's folder.
        overrides: Settings over it, as `key.path=value`.
        unkept: More of them, which concern this command only.

    Raises:
        UserError: see `configs.recipe.load`.
    """
    settings, kept = recipe.load(config, overrides), run / FILE
    if config == kept:
        print(f"recipe: {kept}", flush=True)
    if changed := _changes(kept, settings):
        print(f"recipe: differs from {kept} ({changed})", flush=True)
    return recipe.load(config, [*overrides, *unkept]) if unkept else settings


def keep(run: Path, settings: Settings) -> None:
    """Write the resolved recipe of a run, once a stage has begun with it."""
    plain = _plain(recipe.to_dict(settings))
    text = HEAD + yaml.safe_dump(plain, sort_keys=False, default_flow_style=None, width=100)
    path = run / FILE
    if not path.exists() or path.read_text(encoding="utf-8") != text:
        write_atomically(path, text.encode())


def _changes(kept: Path, settings: Settings) -> str:
    """How settings differ from the recipe kept, in words; empty where there is none."""
    if not kept.exists():
        return ""
    try:
        old = recipe.load(kept)
    except UserError as error:  # such as one of an older version
        return str(error).rstrip(".")
    flat = (manifest.flatten(_plain(recipe.to_dict(one))) for one in (old, settings))
    return manifest.describe_changes(*flat)


def _plain(value: Any) -> Any:
    """Settings as YAML holds them, without settings of null in lists' items (a layer has many)."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        items = [_plain(item) for item in value]
        return [_without_null(item) if isinstance(item, dict) else item for item in items]
    return value


def _without_null(section: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in section.items() if value is not None}
