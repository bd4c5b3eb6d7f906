"""Reads and writes weights files, our own and those of other packages, recognised by content."""

import io
from collections.abc import Mapping
from pathlib import Path

from ..errors import UserError
from ..files import write_atomically
from ..net import NETS, Net, NetName
from . import own, serialization
from .external_layouts import LAYOUTS
from .layout_detection import Found, nets_in
from .net_weights import TrainedNet, Weights, refuse_unless_paper_net
from .own import write_own, write_own_folder
from .safe_pickle import MAX_BYTES, RefusedError

__all__ = [
    "LAYOUTS",
    "TrainedNet",
    "Weights",
    "files",
    "look",
    "read",
    "read_net",
    "refuse_unless_ipazc",
    "write",
    "write_own",
    "write_own_folder",
]

OWN = "own"


def read(path: Path) -> dict[NetName, TrainedNet]:
    """The nets in a weights file of any known layout; runs no code of the file.

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
    """`read`, with the layout of each net."""
    found: dict[NetName, Found] = {}
    for file in files(path):
        nets = _look_into(file)
        repeated = [name for name in nets if name in found]
        if repeated:
            raise UserError(f"{path}: {file.name} holds a second {repeated[0]}.")
        found |= nets
    return {name: found[name] for name in NETS if name in found}


def files(path: Path) -> list[Path]:
    """The files that `read` reads: the file itself, or those of a folder's nets."""
    if not path.is_dir():
        return [path]
    sets = [own.FILES, *(layout.files for layout in LAYOUTS.values() if layout.files)]
    existing = [
        [path / file for file in names.values() if (path / file).exists()] for names in sets
    ]
    complete = [paths for paths in existing if paths]
    if len(complete) != 1:
        wanted = "; ".join(", ".join(names.values()) for names in sets)
        problem = "several sets" if complete else "none"
        other = min(path.glob("*.npy"), default=None)
        hint = f"; {other} may be meant" if other and not complete else ""
        raise UserError(
            f"{path} is a folder with {problem} of these weights files: {wanted}{hint}."
        )
    return complete[0]


def _look_into(path: Path) -> dict[NetName, Found]:
    try:
        if path.exists() and (not path.is_file() or path.stat().st_size > MAX_BYTES):
            raise UserError(f"{path} cannot be read: no plain file, or over {MAX_BYTES >> 20} MiB.")
        file = io.BytesIO(path.read_bytes())  # in memory, no read can allocate more than the file
        if (archive := own.open_archive(file)) is not None:
            return {n: Found(OWN, net) for n, net in own.read_archive(archive, path).items()}
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


def write(layout: str, path: Path, nets: Mapping[NetName, TrainedNet]) -> None:
    """Write the three nets in one of `LAYOUTS`: a file, or a folder of the layout's files.

    Raises:
        UserError: naming the net and the first layer or array that the layout cannot hold.
    """
    target = LAYOUTS[layout]
    parts = {name: target.part(name, nets[name]) for name in NETS}
    if target.files:
        contents = {path / target.files[name]: parts[name] for name in NETS}
    else:
        contents = {path: {target.keys[name]: parts[name] for name in NETS}}
    serialised = {file: target.dump(content) for file, content in contents.items()}
    for file, content in serialised.items():
        write_atomically(file, content)


def refuse_unless_ipazc(name: NetName, net: Net) -> None:
    """Raise UserError naming the layer where ipazc's layout cannot hold a net."""
    refuse_unless_paper_net(LAYOUTS["ipazc"].owner, name, net)
