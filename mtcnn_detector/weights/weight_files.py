"""Weights files: our own, and those that other packages load; read and written.

Ours is an `.npz` of one net's natural weights plus its settings as JSON, which holds any net.
"""

import io
import json
import zipfile
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from ..architecture import PAPER_NETS, shapes
from ..errors import UserError
from ..files import write_atomically
from ..net import NETS, Net, NetName
from ..schema import Schema
from . import serialization
from .external_layouts import LAYOUTS
from .layout_detection import Found, nets_in
from .net_weights import TrainedNet, Weights, checked, refuse_unless_paper_net
from .safe_pickle import MOST, RefusedError

__all__ = ["LAYOUTS", "TrainedNet", "Weights", "files", "look", "read", "write", "write_own"]

OWN = "own"
OWN_FILES: Mapping[NetName, str] = {name: f"{name}/weights.npz" for name in NETS}  # of a run
SETTINGS, NAME = "__net__", "__name__"


def read(path: Path) -> dict[NetName, TrainedNet]:
    """The nets in a weights file of any known layout, recognised by looking; runs no code.

    A folder stands for the files of the nets in it: those of a run, or of a layout that has
    a file for each net.

    Raises:
        UserError: the file is missing, damaged, hostile, or of an unknown layout.
    """
    return {name: found.trained for name, found in look(path).items()}


def read_net(path: Path, name: NetName) -> TrainedNet:
    """One net out of a weights file; raises as `read`, and where it holds no such net."""
    found = read(path)
    if name not in found:
        raise UserError(f"{path} holds {', '.join(found)}, but no {name}.")
    return found[name]


def look(path: Path) -> dict[NetName, Found]:
    """`read`, and by which layout."""
    found: dict[NetName, Found] = {}
    for file in files(path):
        nets = _look_into(file)
        twice = [name for name in nets if name in found]
        if twice:
            raise UserError(f"{path}: {file.name} holds a second {twice[0]}.")
        found |= nets
    return {name: found[name] for name in NETS if name in found}


def files(path: Path) -> list[Path]:
    """The files that `read` looks into: the file itself, or those of a folder's nets."""
    if not path.is_dir():
        return [path]
    sets = [OWN_FILES, *(layout.files for layout in LAYOUTS.values() if layout.files)]
    there = [[path / file for file in names.values() if (path / file).exists()] for names in sets]
    held = [paths for paths in there if paths]
    if len(held) != 1:
        wanted = "; ".join(", ".join(names.values()) for names in sets)
        problem = "several sets" if held else "none"
        raise UserError(f"{path} is a folder with {problem} of these weights files: {wanted}.")
    return held[0]


def _look_into(path: Path) -> dict[NetName, Found]:
    try:
        if path.exists() and (not path.is_file() or path.stat().st_size > MOST):
            raise UserError(f"{path} cannot be read: no plain file, or over {MOST >> 20} MiB.")
        file = io.BytesIO(path.read_bytes())  # so that nothing is made room for that is not there
        if (own := _own_archive(file)) is not None:
            return {n: Found(OWN, trained) for n, trained in _read_own(own, path).items()}
        content = serialization.load(file)
    except FileNotFoundError:
        raise UserError(f"{path}: there is no such weights file.") from None
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}).") from None
    except UserError:
        raise
    except RefusedError as error:
        raise UserError(f"{path} is refused: {error}.") from None
    except Exception as error:  # a damaged file can fail in any way
        reason = " ".join(str(error).split())[:100] or type(error).__name__
        raise UserError(f"{path} is no weights file or is damaged ({reason}).") from None
    return nets_in(content, str(path))


def _own_archive(file: BinaryIO) -> zipfile.ZipFile | None:
    """The archive, if it is one of numpy's."""
    archive = zipfile.ZipFile(file) if file.read(4) == serialization.ZIP else None
    file.seek(0)
    names = [] if archive is None else archive.namelist()
    torchs = any(name.endswith((".pkl", ".h5")) for name in names)
    return None if torchs else archive


def _read_own(archive: zipfile.ZipFile, path: Path) -> dict[NetName, TrainedNet]:
    serialization.refuse_if_large(archive)
    try:
        net = _net_of(json.loads(str(_member(archive, SETTINGS))), path)
        names = {entry.removesuffix(".npy") for entry in archive.namelist()}
        told = str(_member(archive, NAME)) if NAME in names else _name_by_size(net)
        name = _name_of(told, net, path)
        held = {
            key: _member(archive, entry)
            for key, _ in shapes(net)
            if (entry := key if key in names else _old_name(key)) in names
        }
    except (UserError, RefusedError):
        raise
    except Exception as error:
        reason = " ".join(str(error).split())[:100]
        raise UserError(f"{path} is damaged or none of our weights files ({reason}).") from None
    wanted = shapes(net)
    weights = {k: checked(held.get(k), shape, f"{path}: the array {k}") for k, shape in wanted}
    return {name: TrainedNet(net, weights)}


def _old_name(key: str) -> str:
    """What an array of a head was called before version 0.2."""
    head, slash, array = key.partition("/")
    return {"cls": "face", "landmarks": "points"}.get(head, head) + slash + array


def _net_of(settings: Any, path: Path) -> Net:
    """A net's settings as our files hold them; before version 0.2 landmarks were points."""
    if isinstance(settings, dict) and "points" in settings:
        settings["landmarks"] = settings.pop("points")
    net: Net = Schema(str(path)).build(Net, settings, "net")
    return net


def _name_by_size(net: Net) -> str:
    """Which net of the cascade has this size, for files that do not say it."""
    return next((name for name in NETS if PAPER_NETS[name].size == net.size), "")


def _name_of(told: str, net: Net, path: Path) -> NetName:
    name = next((name for name in NETS if name == told), None)
    if name is None:
        raise UserError(f"{path}: no net of the cascade looks at {net.size} pixels.")
    return name


def _member(archive: zipfile.ZipFile, name: str) -> NDArray[Any]:
    content = io.BytesIO(archive.read(f"{name}.npy"))
    array: NDArray[Any] = np.load(content, allow_pickle=False)
    return array


def write_own(path: Path, trained: TrainedNet, name: NetName | None = None) -> None:
    """Write one net in our own layout, which holds any net.

    `name` says which net of the cascade it is; without, its size must be that of the paper's.
    """
    content = io.BytesIO()
    told = {SETTINGS: json.dumps(asdict(trained.net)), NAME: name or _name_by_size(trained.net)}
    np.savez(content, **told, **trained.weights)  # type: ignore[arg-type]
    write_atomically(path, content.getvalue())


def write_own_folder(path: Path, nets: Mapping[NetName, TrainedNet]) -> None:
    """Write nets in our own layout into a folder, which `read` takes as one weights file."""
    for name, trained in nets.items():
        write_own(path / OWN_FILES[name], trained, name)


def write(layout: str, path: Path, nets: Mapping[NetName, TrainedNet]) -> None:
    """Write the three nets by one of `LAYOUTS`: a file, or a folder of the layout's files.

    Raises:
        UserError: naming the net and the first layer or array that the layout cannot hold.
    """
    target = LAYOUTS[layout]
    parts = {name: target.part(name, nets[name]) for name in NETS}
    if target.files:
        contents = {path / target.files[name]: parts[name] for name in NETS}
    else:
        contents = {path: {target.keys[name]: parts[name] for name in NETS}}
    dumped = {file: target.dump(content) for file, content in contents.items()}
    for file, content in dumped.items():
        write_atomically(file, content)


def refuse_unless_ipazc(name: NetName, net: Net) -> None:
    """Say which layer when ipazc's layout cannot hold a net of these settings."""
    refuse_unless_paper_net(LAYOUTS["ipazc"].whose, name, net)
