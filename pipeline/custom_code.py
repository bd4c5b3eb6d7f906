"""Functions of a user's own modules, named `module:function` in a recipe: found, digested, loaded.

A module's file is read and run directly, not imported: Python keeps an imported module, and its
compiled form, so that a session would go on with code that is not in the file any more.
"""

import difflib
import hashlib
import importlib
import importlib.util
import inspect
import sys
from collections.abc import Callable, Sequence
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from typing import Any

from configs.settings import Settings
from mtcnn_detector.errors import UserError
from mtcnn_detector.net import NETS, NetName

DIGITS = 16  # of a digest in a manifest


def require_modules(settings: Settings) -> None:
    """Refuse a recipe that names a module which is not there, before hours are spent on records.

    Raises:
        UserError: names the setting, the module and the folders that were searched.
    """
    for name in NETS:
        digests(settings, name)


def digests(settings: Settings, name: NetName) -> dict[str, str]:
    """Digests of the files of the modules that a net's training takes functions from, by module.

    Raises:
        UserError: a module is not found, or has no source file.
    """
    found = {}
    for reference, key in settings.for_net(name).train.custom_code.items():
        module = reference.partition(":")[0]
        found[module] = _digest(_file(_find(module, f"{name}.train.{key}")).read_bytes())
    return found


def load(reference: str, key: str, arguments: Sequence[str]) -> Callable[..., Any]:
    """A function of a user's module, as it is in the module's file now.

    Args:
        reference: The function, as `module:function`.
        key: The full name of the setting that names it, for messages.
        arguments: The names of the arguments that it is called with, all by position.

    Raises:
        UserError: the module is not found, it has no such function, or the function cannot be
            called with these arguments. Errors inside the module are passed on.
    """
    module_name, _, name = reference.partition(":")
    spec = _find(module_name, key)
    module = _run(spec)
    function: Callable[..., Any] | None = getattr(module, name, None)
    if function is None or not callable(function):
        known = [k for k, v in vars(module).items() if callable(v) and not k.startswith("_")]
        near = difflib.get_close_matches(name, known, 1, 0.5)
        hint = f"; did you mean {module_name}:{near[0]}?" if near else "."
        raise UserError(f"{key}: {_file(spec)} has no function {name}{hint}")
    try:
        inspect.signature(function).bind(*arguments)
    except TypeError:
        raise UserError(
            f"{key}: {reference} must take the arguments ({', '.join(arguments)})."
        ) from None
    return function


def _find(name: str, key: str) -> ModuleSpec:
    """Where a module's source lies: as Python finds it, or below the current folder."""
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.append(here)  # for what the module itself imports, too
    importlib.invalidate_caches()  # the file may have been written a moment ago
    path, spec = sys.path, None
    parts = name.split(".")
    for end in range(1, len(parts) + 1):
        spec = PathFinder.find_spec(".".join(parts[:end]), path)
        if spec is None:
            raise UserError(
                f"{key}: there is no module {'.'.join(parts[:end])}; it is looked for in the "
                f"current folder, {here}, and where Python finds modules (PYTHONPATH adds folders)."
            )
        path = list(spec.submodule_search_locations or [])
    if spec is None or not spec.has_location or not str(spec.origin).endswith(".py"):
        raise UserError(f"{key}: the module {name} has no source file (.py) to keep track of.")
    return spec


def _file(spec: ModuleSpec) -> Path:
    return Path(str(spec.origin))


def _digest(source: bytes) -> str:
    return hashlib.sha256(source).hexdigest()[:DIGITS]


def _run(spec: ModuleSpec) -> Any:
    """The module of a spec; it is run anew where its file has changed since."""
    source = _file(spec).read_bytes()
    digest, module = _digest(source), sys.modules.get(spec.name)
    if module is not None and vars(module).get("__digest__") == digest:
        return module  # functions of one module share its variables
    module = importlib.util.module_from_spec(spec)
    before = sys.modules.get(spec.name)
    sys.modules[spec.name] = module  # as an import does: dataclasses look there
    try:
        exec(compile(source, str(spec.origin), "exec"), vars(module))
    except BaseException:
        del sys.modules[spec.name]
        if before is not None:
            sys.modules[spec.name] = before
        raise
    vars(module)["__digest__"] = digest
    return module
