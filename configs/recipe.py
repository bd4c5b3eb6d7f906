"""Reads a YAML recipe and `key.path=value` overrides into checked `Settings`."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import yaml

from configs.settings import Settings
from configs.without_landmarks import without_landmarks
from mtcnn_detector.architecture import folded
from mtcnn_detector.errors import UserError
from mtcnn_detector.net import NETS
from mtcnn_detector.schema import Schema
from mtcnn_detector.weights import weight_files

# The last part of a key in recipes of version 0.1.0 -> its name now.
RENAMED = {
    "batch_shares": "batch_fractions",
    "broken_share": "max_broken_fraction",
    "coarse": "downscale",
    "face_shift": "score_shift",
    "grey": "grayscale",
    "hard_share": "ohem_ratio",
    "init_share": "init_average",
    "kinds": "sample_types",
    "light": "channel_gain",
    "mirror": "hflip",
    "official": "wider_ground_truth",
    "points": "landmarks",
    "points_beta": "landmark_beta",
    "points_shift": "landmark_shift",
    "teacher_share": "distillation_weight",
    "tint": "monochrome",
    "validation_share": "validation_fraction",
    "weight_average": "ema_decay",
}

KEY = re.compile(r"[\w.-]+=")


class _Loader(yaml.SafeLoader):
    """YAML as PyYAML reads it, which of a key that stands twice silently takes the last."""

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        """Refuse a mapping that names a key twice; YAML itself forbids it."""
        node: yaml.MappingNode = super().compose_mapping_node(anchor)
        seen: set[str] = set()
        for key in (key for key, _ in node.value if isinstance(key, yaml.ScalarNode)):
            if key.value in seen and key.value != "<<":  # merges may be several
                problem = f"the key {key.value} stands here a second time"
                raise yaml.MarkedYAMLError(problem=problem, problem_mark=key.start_mark)
            seen.add(key.value)
        return node


def load(path: Path, overrides: Sequence[str] = ()) -> Settings:
    """Read a recipe; a recipe that says `base: other.yaml` changes only what it names.

    Settings about landmarks are as `data.landmarks: false` means them, where a recipe says so.

    Raises:
        UserError: the file is missing or not YAML, or a key is unknown, of a wrong type, or
            cannot have its value; the sentence holds the key's full name.
    """
    tree = read_tree(path)
    for override in overrides:
        _override(tree, override)
    settings: Settings = Schema(str(path), RENAMED).build(Settings, tree)
    return settings if settings.data.landmarks else without_landmarks(settings)


def read_tree(path: Path, over: tuple[Path, ...] = ()) -> dict[str, Any]:
    """The sections of a YAML file over those of its `base:`.

    Args:
        path: the file.
        over: the files whose base this one is.

    Raises:
        UserError: a file is missing or not YAML, or is its own base.
    """
    tree = read_own(path)
    base = tree.pop("base", None)
    if base is None:
        return tree
    over = (*over, path.resolve())
    below = path.parent / Schema(str(path)).expect(base, str, "base")
    if not below.exists():
        raise UserError(f"{path}: base names {below}, which is not there.")
    if below.resolve() in over:
        raise UserError(f"{path}: base leads back to {below}; a recipe cannot be its own base.")
    return _merged(read_tree(below, over), tree)


def read_own(path: Path) -> dict[str, Any]:
    """What a recipe's file itself says, without its base, as nested dictionaries; unchecked.

    Raises:
        UserError: the file is missing or no YAML mapping.
    """
    try:
        tree = yaml.load(path.read_text(encoding="utf-8"), _Loader)
    except FileNotFoundError:
        raise UserError(f"{path}: there is no such recipe; CONFIG= names one.") from None
    except OSError as error:
        raise UserError(f"{path} cannot be read as a recipe: {error.strerror}.") from None
    except (yaml.YAMLError, ValueError) as error:  # of no UTF-8, or of a date such as 2024-31-12
        raise UserError(f"{path} is not a YAML file: {' '.join(str(error).split())}") from None
    if not isinstance(tree, dict):
        raise UserError(f"{path}: a recipe is a mapping of keys to values.")
    return tree


def split_overrides(texts: Sequence[str]) -> list[str]:
    """Take `a.b=1 c=[1, 2]` apart: a setting begins after a space, where `key=` follows.

    Spaces in brackets or quotes, or before anything else than `key=`, belong to a value.
    """
    return [part for text in texts for part in _split(text)]


def _split(text: str) -> list[str]:
    starts, depth, quote = [0], 0, ""
    for place, character in enumerate(text):
        if quote:
            quote = "" if character == quote else quote
        elif character in "\"'" and not text[:place][-1:].isalnum():
            quote = character
        else:
            depth += (character in "[{") - (character in "]}")
            if character.isspace() and depth <= 0 and KEY.match(text, place + 1):
                starts.append(place + 1)
    ends = [*starts[1:], len(text)]
    parts = [text[start:end].strip() for start, end in zip(starts, ends, strict=True)]
    return [part for part in parts if part]


def to_dict(settings: Any) -> dict[str, Any]:
    """Settings as nested dictionaries of plain values and tuples."""
    return asdict(settings)


def refuse_unless_exportable(settings: Settings) -> None:
    """Refuse a net that the layout of the recipe's export cannot hold.

    Raises:
        UserError: names the net's layer.
    """
    if settings.export.layout == "own":
        return
    for name in NETS:
        try:
            weight_files.refuse_unless_ipazc(name, folded(settings.for_net(name).net))
        except UserError as error:
            problem = str(error).rstrip(".")
            raise UserError(
                f'{problem}; SET="export.layout=own" trains it for our own detector alone.'
            ) from None


def _merged(base: dict[str, Any], change: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in change.items():
        both = isinstance(value, dict) and isinstance(base.get(key), dict)
        # Sources replace the base's as a whole: a recipe for own images means only those.
        # `validation: {}` means none.
        emptied = key == "validation" and not value
        nested = (
            both and not emptied and not (key in ("train", "validation") and _holds_sources(value))
        )
        merged[key] = _merged(base[key], value) if nested else value
    return merged


def _holds_sources(value: Mapping[str, Any]) -> bool:
    return bool(value) and all(isinstance(v, dict) and "format" in v for v in value.values())


def _override(tree: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    if not equals:
        raise UserError(f"SET={override!r}: write key.path=value, for example seed=7.")
    try:
        value = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError):
        raise UserError(f"SET {key}: cannot read the value {text!r}.") from None
    *parents, last = key.split(".")
    at: Any = tree
    for parent in parents:
        at = _entry(at, parent, key)
        if not isinstance(at, dict | list):
            raise UserError(f"SET {key}: {parent} is a value, not a section.")
    if not isinstance(at, dict):
        raise UserError(f"SET {key}: {parents[-1]} is a list; name a setting of one of its items.")
    at[last] = value


def _entry(tree: Any, name: str, key: str) -> Any:
    """The item of a section, by its key, or of a list, by its place counted from 1."""
    if isinstance(tree, dict):
        return tree.setdefault(name, {})
    place = int(name) if name.isdecimal() else 0
    if not 1 <= place <= len(tree) + 1:
        raise UserError(f"SET {key}: {name} is none of the places 1 to {len(tree) + 1}.")
    if place > len(tree):
        tree.append({})
    return tree[place - 1]
