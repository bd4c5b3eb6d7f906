"""Plain values, as YAML and JSON hold them, into typed dataclasses that check themselves."""

import difflib
import math
import types
import typing
from dataclasses import MISSING, fields, is_dataclass
from typing import Any

from .errors import UserError
from .validation import BadValueError


def build(kind: Any, value: Any, key: str, path: str) -> Any:
    """`value` as the type `kind`, or a UserError that names `key`."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if is_dataclass(kind):
        return _build_section(kind, value, key, path)
    if origin in (typing.Union, types.UnionType):
        return None if value is None else build(arguments[0], value, key, path)
    if origin is typing.Literal:
        if value not in arguments:
            raise UserError(f"{path}: {key} must be one of {', '.join(arguments)}; got {value!r}.")
        return value
    if origin is dict:
        items = expect(value, dict, key, path).items()
        return {str(name): build(arguments[1], v, f"{key}.{name}", path) for name, v in items}
    if origin is tuple:
        return _build_tuple(arguments, value, key, path)
    return expect(_as_float(value) if kind is float else value, kind, key, path)


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
    given = expect(value, dict, key or "the recipe", path)
    prefix = f"{key}." if key else ""
    for name in given:
        if name not in known:
            near = difflib.get_close_matches(str(name), known, 1, 0.5)
            hint = f"did you mean {prefix}{near[0]}?" if near else f"known: {', '.join(known)}."
            raise UserError(f"{path}: unknown key {prefix}{name}; {hint}")
    for name, f in known.items():
        if name not in given and f.default is MISSING and f.default_factory is MISSING:
            raise UserError(f"{path}: {prefix}{name} is missing.")
    values = {name: build(hints[name], v, prefix + name, path) for name, v in given.items()}
    try:
        return kind(**values)
    except BadValueError as error:
        value = values.get(error.key)
        got = f" (got {value})" if isinstance(value, int | float | str) else ""
        raise UserError(f"{path}: {prefix}{error.key} {error.problem}{got}.") from None


def _build_tuple(arguments: tuple[Any, ...], value: Any, key: str, path: str) -> tuple[Any, ...]:
    items = expect(value, list, key, path)
    if arguments[-1] is Ellipsis:
        arguments = (arguments[0],) * len(items)
    if len(items) != len(arguments):
        raise UserError(f"{path}: {key} needs {len(arguments)} values; got {len(items)}.")
    pairs = zip(arguments, items, strict=True)
    return tuple(build(kind, item, f"{key}[{i}]", path) for i, (kind, item) in enumerate(pairs))


def expect(value: Any, kind: type, key: str, path: str) -> Any:
    endless = isinstance(value, float) and not math.isfinite(value)
    if type(value) is not kind or endless:
        names = {dict: "a section", list: "a list", int: "a whole number", float: "a number"}
        names |= {bool: "true or false", str: "text"}
        raise UserError(f"{path}: {key} must be {names[kind]}; got {value!r}.")
    return value
