"""A YAML recipe and `key.path=value` overrides into checked `Settings`."""

import argparse
import difflib
import math
import types
import typing
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, asdict, fields, is_dataclass
from pathlib import Path
from typing import Any

import yaml

from configs.checks import BadValueError
from configs.errors import UserError
from configs.settings import Net, Settings


def load(path: Path, overrides: Sequence[str] = ()) -> Settings:
    """Read a recipe; a recipe that says `base: other.yaml` changes only what it names.

    Raises:
        UserError: the file is missing or not YAML, or a key is unknown, of a wrong type, or
            cannot have its value; the sentence holds the key's full name.
    """
    tree = _read_tree(path)
    for override in overrides:
        _override(tree, override)
    settings: Settings = _build(Settings, tree, "", str(path))
    return settings


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments that every stage takes."""
    parser.add_argument(
        "--config",
        type=Path,
        default=Path("configs/mtcnn.yaml"),
        metavar="YAML",
        help="the recipe (%(default)s)",
    )
    parser.add_argument(
        "--run",
        type=Path,
        default=Path("runs/mtcnn"),
        metavar="FOLDER",
        help="where everything the run makes goes (%(default)s)",
    )
    parser.add_argument(
        "--set",
        nargs="*",
        default=[],
        action="extend",
        metavar="KEY.PATH=VALUE",
        help="change settings of the recipe",
    )
    parser.add_argument(
        "--force", action="store_true", help="make it anew, removing what another recipe made"
    )


def to_dict(settings: Any) -> dict[str, Any]:
    """Settings as plain values, as they are written beside what they made."""
    return asdict(settings)


def net_from_dict(values: Any, origin: str) -> Net:
    """A net's settings as a weights file holds them; `origin` names the file in errors."""
    net: Net = _build(Net, values, "net", origin)
    return net


def _read_tree(path: Path, over: tuple[Path, ...] = ()) -> dict[str, Any]:
    """The recipe over its base; `over` are the recipes that this one is the base of."""
    try:
        tree = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path}: there is no such recipe; CONFIG= names one.") from None
    except OSError as error:
        raise UserError(f"{path} cannot be read as a recipe: {error.strerror}.") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is not a YAML file: {' '.join(str(error).split())}") from None
    if not isinstance(tree, dict):
        raise UserError(f"{path}: a recipe is a mapping of keys to values.")
    base = tree.pop("base", None)
    if base is None:
        return tree
    over = (*over, path.resolve())
    below = path.parent / _expect(base, str, "base", str(path))
    if below.resolve() in over:
        raise UserError(f"{path}: base leads back to {below}; a recipe cannot be its own base.")
    return _merged(_read_tree(below, over), tree)


def _merged(base: dict[str, Any], change: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in change.items():
        both = isinstance(value, dict) and isinstance(base.get(key), dict)
        # Sources replace the base's as a whole: a recipe for own pictures means only those.
        nested = both and not (key in ("train", "validation") and _holds_sources(value))
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
    except yaml.YAMLError:
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
    """What a section or a list has under a name; a list's items are counted from 1."""
    if isinstance(tree, dict):
        return tree.setdefault(name, {})
    place = int(name) if name.isdecimal() else 0
    if not 1 <= place <= len(tree) + 1:
        raise UserError(f"SET {key}: {name} is none of the places 1 to {len(tree) + 1}.")
    if place > len(tree):
        tree.append({})
    return tree[place - 1]


def _build(kind: Any, value: Any, key: str, path: str) -> Any:
    """`value` as the type `kind`, or a UserError that names `key`."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if is_dataclass(kind):
        return _build_section(kind, value, key, path)
    if origin in (typing.Union, types.UnionType):
        return None if value is None else _build(arguments[0], value, key, path)
    if origin is typing.Literal:
        if value not in arguments:
            raise UserError(f"{path}: {key} must be one of {', '.join(arguments)}; got {value!r}.")
        return value
    if origin is dict:
        items = _expect(value, dict, key, path).items()
        return {str(name): _build(arguments[1], v, f"{key}.{name}", path) for name, v in items}
    if origin is tuple:
        return _build_tuple(arguments, value, key, path)
    return _expect(_as_float(value) if kind is float else value, kind, key, path)


def _as_float(value: Any) -> Any:
    """YAML 1.1 reads `1` as a whole number and `1e-4` as text."""
    if type(value) not in (int, str):
        return value
    try:
        return float(value)
    except ValueError:
        return value


def _build_section(kind: Any, value: Any, key: str, path: str) -> Any:
    known = {f.name: f for f in fields(kind)}
    hints = typing.get_type_hints(kind)
    given = _expect(value, dict, key or "the recipe", path)
    prefix = f"{key}." if key else ""
    for name in given:
        if name not in known:
            near = difflib.get_close_matches(str(name), known, 1, 0.5)
            hint = f"did you mean {prefix}{near[0]}?" if near else f"known: {', '.join(known)}."
            raise UserError(f"{path}: unknown key {prefix}{name}; {hint}")
    for name, f in known.items():
        if name not in given and f.default is MISSING and f.default_factory is MISSING:
            raise UserError(f"{path}: {prefix}{name} is missing.")
    values = {name: _build(hints[name], v, prefix + name, path) for name, v in given.items()}
    try:
        return kind(**values)
    except BadValueError as error:
        value = values.get(error.key)
        got = f" (got {value})" if isinstance(value, int | float | str) else ""
        raise UserError(f"{path}: {prefix}{error.key} {error.problem}{got}.") from None


def _build_tuple(arguments: tuple[Any, ...], value: Any, key: str, path: str) -> tuple[Any, ...]:
    items = _expect(value, list, key, path)
    if arguments[-1] is Ellipsis:
        arguments = (arguments[0],) * len(items)
    if len(items) != len(arguments):
        raise UserError(f"{path}: {key} needs {len(arguments)} values; got {len(items)}.")
    pairs = zip(arguments, items, strict=True)
    return tuple(_build(kind, item, f"{key}[{i}]", path) for i, (kind, item) in enumerate(pairs))


def _expect(value: Any, kind: type, key: str, path: str) -> Any:
    endless = isinstance(value, float) and not math.isfinite(value)
    if type(value) is not kind or endless:
        names = {dict: "a section", list: "a list", int: "a whole number", float: "a number"}
        names |= {bool: "true or false", str: "text"}
        raise UserError(f"{path}: {key} must be {names[kind]}; got {value!r}.")
    return value
