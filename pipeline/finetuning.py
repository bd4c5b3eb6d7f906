"""Fine-tuning: the recipe of a run whose nets start from existing weights."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from configs import recipe
from configs.record_settings import SAMPLE_TYPES
from configs.settings import Settings
from mtcnn_detector.errors import UserError
from mtcnn_detector.files import write_atomically
from mtcnn_detector.net import NETS, NetName
from pipeline import known_weights, manifest, run_recipe
from pipeline.known_weights import PUBLISHED
from pipeline.make_command import also_set, make_command, variable

SETTINGS = Path("configs/finetune.yaml")
RUN = Path("runs/finetune")  # where neither a recipe nor a run is named
FILE = "finetune.yaml"
HEAD = (
    "# Written by `make finetune`: the recipe under `base`, and what fine-tuning changes in it.\n"
)

MAX_NAMED = 3  # settings that a message names

Changes = dict[str, Any]  # settings by their full names


def write_recipe(
    config: Path | None,
    run: Path | None,
    overrides: Sequence[str],
    weights: Path | None,
    nets: Sequence[NetName],
) -> tuple[Path, Path]:
    """Write the recipe of a fine-tuning into the run's folder; print what it says.

    What a recipe sets itself comes first, then `configs/finetune.yaml`, then the recipe's base:
    learning rates and steps that suit random weights count only where the user's own recipe has
    them.

    Args:
        config: The user's recipe; None: the one that the run keeps, else `configs/mtcnn.yaml`.
        run: The run's folder; None: the one in `runs/` named after the recipe.
        overrides: Settings over all of these, as `key.path=value`.
        weights: What all nets start from; None: the recipe's `init`, else this project's weights.
        nets: The nets to train; empty: those for which the recipe's images serve.

    Returns:
        The recipe that was written, and the run's folder.

    Raises:
        UserError: the recipe or the weights are missing or wrong, or the images do not serve for
            one of the nets; or the recipe is the one that would be written.
    """
    config, folder = run_recipe.locate(config, RUN if config is run is None else run)
    _refuse_written(config, folder / FILE)
    own, common = own_settings(config), _flat(recipe.read_own(SETTINGS))
    changes = {key: value for key, value in common.items() if key not in own}
    # What needs an init, such as frozen layers, has one.
    inits = _inits(config, weights)
    settings = recipe.load(config, [*as_overrides(inits | changes), *overrides])
    trained = _trained_nets(settings, nets)
    named = {net: settings.for_net(net).train.init or known_weights.WEIGHTS for net in NETS}
    start = {net: weights or Path(init) for net, init in named.items()}
    for path in start.values():
        if not path.exists():
            raise UserError(f"WEIGHTS={path} is not there: it names the weights to start from.")
    changes |= start_from(start, trained)
    implied = contexts(start) | shifts(start, settings) | _about_landmarks(settings, start)
    changes |= {key: value for key, value in implied.items() if key not in own}
    # Loaded from the user's recipe, so that an error names it and not the file written here.
    settings = recipe.load(config, [*as_overrides(changes), *overrides])
    _write(folder / FILE, config, changes)
    kept = [key for key in common if key in own]
    print(_summary(settings, start, kept, config, folder / FILE), flush=True)
    return folder / FILE, folder


def _inits(config: Path, weights: Path | None) -> Changes:
    """The `init` of each net: the weights, else the recipe's, else this project's weights."""
    named = manifest.flatten(recipe.read_tree(config))
    keys = [f"{net}.train.init" for net in NETS]
    return {key: str(weights or named.get(key) or known_weights.WEIGHTS) for key in keys}


def _refuse_written(config: Path, target: Path) -> None:
    """Refuse to write a recipe over itself: it would become its own base."""
    if config.resolve() == target.resolve():
        base = recipe.read_own(config).get("base")
        raise UserError(
            f"CONFIG={config} is what this command writes: name the recipe that it stands on, "
            f"`{make_command('finetune', CONFIG=base)}`."
        )


def start_from(start: Mapping[NetName, Path], trained: Sequence[NetName]) -> Changes:
    """Settings that start every net from weights, and take over those that are not trained.

    P-Net's records get the mistakes of the P-Net that it starts from.
    """
    changes: Changes = {f"{net}.train.init": str(path) for net, path in start.items()}
    first = NETS[0]
    if first in trained:
        changes[f"{first}.records.mined_by"] = str(start[first])
        changes[f"{first}.records.proposal_thresholds"] = [0.5]
    return changes | {f"{net}.train.steps": 0 for net in NETS if net not in trained}


def contexts(start: Mapping[NetName, Path]) -> Changes:
    """Settings by which nets look at as much about a face as those that they start from."""
    changes: Changes = {}
    for net in (net for net in NETS[1:] if net in start):
        made_by = known_weights.recipe_of(start[net])
        context = PUBLISHED if made_by is None else made_by.for_net(net).records.context
        changes[f"{net}.records.context"] = context
    return changes


def shifts(start: Mapping[NetName, Path], settings: Settings) -> Changes:
    """The shift on export: what is not yet in the weights that a net starts from, if it does."""
    recipes = dict(zip(NETS, settings.export.score_shift, strict=True))
    found = [
        known_weights.shift_to_come(start[net], net) if net in start else recipes[net]
        for net in NETS
    ]
    return {"export.score_shift": found}


def begun_again(settings: Settings, setting: str) -> str:
    """The make command that begins this process's run again, with one more setting.

    It is `make finetune` for a recipe that was written by it: other settings may follow from it.
    """
    config, added = variable("CONFIG"), also_set(setting)
    if config is None or Path(config).name != FILE:
        return make_command("train", SET=added)
    nets = " ".join(net for net in NETS if settings.for_net(net).train.steps)
    start = settings.for_net(NETS[-1]).train.init
    base = recipe.read_own(Path(config)).get("base")
    return make_command("finetune", CONFIG=base, WEIGHTS=start, NETS=nets, SET=added)


def as_overrides(changes: Changes) -> list[str]:
    """Settings as `key.path=value`."""
    return [f"{key}={json.dumps(value)}" for key, value in changes.items()]


def own_settings(config: Path) -> Changes:
    """What a user's recipe itself sets; nothing for the default one, which others stand on."""
    is_default = config.resolve() == run_recipe.DEFAULT.resolve()
    return {} if is_default else _flat(recipe.read_own(config))


def _flat(tree: Mapping[str, Any]) -> Changes:
    return manifest.flatten({key: value for key, value in tree.items() if key != "base"})


def _trained_nets(settings: Settings, wanted: Sequence[NetName]) -> list[NetName]:
    """The nets to train: those wanted, or all that the images serve for."""
    if not settings.data.landmarks_only:
        return [net for net in NETS if net in wanted or not wanted]
    others = [net for net in wanted if net != NETS[-1]]
    if others:
        again = make_command("finetune", NETS=NETS[-1])
        raise UserError(
            f"the recipe's images serve for landmarks alone (sample_types: [landmark]), which "
            f"cannot train {others[0]}: `{again}` trains {NETS[-1]}'s landmarks."
        )
    return [NETS[-1]]


def _about_landmarks(settings: Settings, start: Mapping[NetName, Path]) -> Changes:
    """Settings by which the last net does not forget what the images cannot teach it.

    Images for landmarks alone show neither all faces nor background: everything that the class and
    the box depend on stays as it is. Images without landmarks would leave that head to layers that
    learn something else: it is taught by the net that it starts from.
    """
    last, train = NETS[-1], f"{NETS[-1]}.train"
    if not settings.data.landmarks_only:
        learned = settings.for_net(last).train.sample_counts["landmark"]
        return {} if learned else {f"{train}.teacher": str(start[last])}
    named = settings.for_net(last).net
    frozen = [*named.named, *(head for head in named.heads if head != "landmarks")]
    fractions = [float(kind == "landmark") for kind in SAMPLE_TYPES]
    return {f"{train}.frozen": frozen, f"{train}.batch_fractions": fractions}


def _write(path: Path, config: Path, changes: Changes) -> None:
    tree: dict[str, Any] = {"base": str(config.resolve())}
    for key, value in changes.items():
        *parents, last = key.split(".")
        section = tree
        for parent in parents:
            section = section.setdefault(parent, {})
        section[last] = value
    path.parent.mkdir(parents=True, exist_ok=True)
    text = HEAD + yaml.safe_dump(tree, sort_keys=False, default_flow_style=None, width=100)
    write_atomically(path, text.encode())


def _summary(
    settings: Settings, start: Mapping[NetName, Path], kept: Sequence[str], config: Path, path: Path
) -> str:
    """What is trained, from which weights, by which settings; one line."""
    trained = [net for net in NETS if settings.for_net(net).train.steps]
    others = [net for net in NETS if net not in trained]
    origins = " and ".join(dict.fromkeys(map(str, start.values())))
    text = f"finetune: {', '.join(trained)} from {origins}"
    text += f"; {', '.join(others)} taken over as they are" if others else ""
    text += f"; learning rates and steps of {SETTINGS}"
    contexts = {net: settings.for_net(net).records.context for net in NETS}
    wider = [
        f"{net} looks at {value:g} sides of a face" for net, value in contexts.items() if value != 1
    ]
    text += f"; {', '.join(wider)}" if wider else ""
    unknown = {str(start[net]) for net in NETS[1:] if known_weights.recipe_of(start[net]) is None}
    if unknown and not wider:
        text += (
            f"; no recipe says how {' and '.join(sorted(unknown))} was made: its nets are taken "
        )
        text += "to look at the face alone, as published ones do"
    if kept:
        more = ", ..." if len(kept) > MAX_NAMED else ""
        text += f", but {', '.join(kept[:MAX_NAMED])}{more} of {config}"
    return f"{text}; all in {path}."
