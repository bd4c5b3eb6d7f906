"""Conversion of plain values, from YAML or JSON, into typed dataclasses."""

import difflib
import math
import types
import typing
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields, is_dataclass
from typing import Any

from .errors import UserError
from .validation import BadValueError

TYPE_NAMES = {dict: "a section", list: "a list", int: "a whole number", float: "a number"}
TYPE_NAMES |= {bool: "true or false", str: "text"}


@dataclass(frozen=True)
class Schema:
    """Builds typed values from the plain ones of one file.

    Args:
        path: the file, for error messages.
        renamed: old names of keys -> what they are called now.
    """

    path: str
    renamed: Mapping[str, str] = field(default_factory=dict)

    def build(self, kind: Any, value: Any, key: str = "") -> Any:
        """`value` as the type `kind`: a dataclass, union, literal, dictionary, tuple or scalar.

        Raises:
            UserError: it is of another type, or a key in it is unknown, missing or cannot have
                its value; names the file and the full `key`.
        """
        origin, arguments = typing.get_origin(kind), typing.get_args(kind)
        if is_dataclass(kind):
            return self._build_section(kind, value, key)
        if origin in (typing.Union, types.UnionType):
            return self._build_union(arguments, value, key)
        if origin is typing.Literal:
            if value not in arguments:
                known = ", ".join(map(str, arguments))
                raise UserError(f"{self.path}: {key} must be one of {known}; got {value!r}.")
            return value
        if origin is dict:
            items = self.expect(value, dict, key).items()
            return {str(name): self.build(arguments[1], v, f"{key}.{name}") for name, v in items}
        if origin is tuple:
            return self._build_tuple(arguments, value, key)
        return self.expect(_as_float(value) if kind is float else value, kind, key)

    def _build_union(self, arguments: tuple[Any, ...], value: Any, key: str) -> Any:
        """Null where it is allowed, a list as the tuple among the types, else the first type."""
        kinds = [kind for kind in arguments if kind is not types.NoneType]
        if value is None and len(kinds) < len(arguments):
            return None
        tuples = [kind for kind in kinds if typing.get_origin(kind) is tuple]
        return self.build(tuples[0] if tuples and isinstance(value, list) else kinds[0], value, key)

    def expect(self, value: Any, kind: type, key: str) -> Any:
        """The value, if it is exactly of this type and finite; raises `UserError` otherwise."""
        infinite = isinstance(value, float) and not math.isfinite(value)
        if type(value) is not kind or infinite:
            raise UserError(f"{self.path}: {key} must be {TYPE_NAMES[kind]}; got {value!r}.")
        return value

    def _build_section(self, kind: Any, value: Any, key: str) -> Any:
        known = {f.name: f for f in fields(kind)}
        hints = typing.get_type_hints(kind)
        section = self.expect(value, dict, key or "the recipe")
        prefix = f"{key}." if key else ""
        for name in section:
            if name not in known:
                raise UserError(f"{self.path}: {self._unknown(str(name), list(known), prefix)}")
        for name, f in known.items():
            if name not in section and f.default is MISSING and f.default_factory is MISSING:
                raise UserError(f"{self.path}: {prefix}{name} is missing.")
        values = {name: self.build(hints[name], v, prefix + name) for name, v in section.items()}
        try:
            return kind(**values)
        except BadValueError as error:
            value = values.get(error.key)
            got = f" (got {value})" if isinstance(value, int | float | str) else ""
            raise UserError(f"{self.path}: {prefix}{error.key} {error.problem}{got}.") from None

    def _unknown(self, name: str, known: list[str], prefix: str) -> str:
        """A sentence about a key that the section does not have."""
        now = self.renamed.get(name)
        if now in known:
            return f"{prefix}{name} is renamed to {prefix}{now}."
        near = difflib.get_close_matches(name, known, 1, 0.5)
        hint = f"did you mean {prefix}{near[0]}?" if near else f"known: {', '.join(known)}."
        return f"unknown key {prefix}{name}; {hint}"

    def _build_tuple(self, arguments: tuple[Any, ...], value: Any, key: str) -> tuple[Any, ...]:
        items = self.expect(value, list, key)
        if arguments[-1] is Ellipsis:
            arguments = (arguments[0],) * len(items)
        if len(items) != len(arguments):
            raise UserError(f"{self.path}: {key} needs {len(arguments)} values; got {len(items)}.")
        pairs = enumerate(zip(arguments, items, strict=True))
        return tuple(self.build(kind, item, f"{key}[{i}]") for i, (kind, item) in pairs)


def _as_float(value: Any) -> Any:
    """YAML 1.1 reads `1` as a whole number and `1e-4` as text."""
    if type(value) not in (int, str):
        return value
    try:
        return float(value)
    except ValueError:
        return value
