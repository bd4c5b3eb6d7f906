"""Composes the make commands in messages: whole and pasteable, with this command's variables."""

import re
import shlex
from collections.abc import Mapping
from typing import Any

# A process has one command line, so its variables are the process's. They are as the user typed
# them: what was left out is left out of the composed command, too.
_variables: dict[str, str] = {}


def set_variables(variables: Mapping[str, Any]) -> None:
    """Note the make variables of this process's command line; None and "" are left out."""
    _variables.clear()
    _variables.update({key: str(value) for key, value in variables.items() if value})


def make_command(target: str, of_run: bool = True, /, **variables: Any) -> str:
    """A command that a user can paste, such as `make pnet-data RUN=runs/mine FORCE=1`.

    Args:
        target: The make target.
        of_run: Whether the target takes the variables of the process's command line.
        variables: Other variables, or other values; None leaves one out.
    """
    values = {**(_variables if of_run else {}), **variables}
    words = [f"{key}={_quoted(str(value))}" for key, value in values.items() if value is not None]
    return " ".join(["make", target, *words])


def variable(name: str) -> str | None:
    """A make variable of the process's command line, as the user typed it."""
    return _variables.get(name)


def also_set(setting: str) -> str:
    """The value of SET that adds a setting to those of the process's command line."""
    return f"{_variables.get('SET', '')} {setting}".strip()


def _quoted(value: str) -> str:
    """A value for the shell and for make, to which `$` is the start of a variable."""
    value = value.replace("$", "$$")
    # Quotes that the shell does not need make a command harder to read.
    return value if re.fullmatch(r"[\w@%+=:,./\[\]-]*", value, re.ASCII) else shlex.quote(value)
