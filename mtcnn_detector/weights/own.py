"""Our own weights files: an `.npz` of one net's natural weights and its description as JSON.

It holds any net, and is what other packages' layouts are written from.
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
from .net_weights import TrainedNet, checked
from .safe_pickle import RefusedError
from .serialization import ZIP
from .torch_files import refuse_if_large

FILES: Mapping[NetName, str] = {name: f"{name}/weights.npz" for name in NETS}  # of a run's folder
SETTINGS, NAME = "__net__", "__name__"  # members beside the arrays


def open_archive(file: BinaryIO) -> zipfile.ZipFile | None:
    """The archive, if the file is one of numpy's and none of torch's or Keras's."""
    archive = zipfile.ZipFile(file) if file.read(4) == ZIP else None
    file.seek(0)
    names = [] if archive is None else archive.namelist()
    other = any(name.endswith((".pkl", ".h5")) for name in names)
    return None if other else archive


def read_archive(archive: zipfile.ZipFile, path: Path) -> dict[NetName, TrainedNet]:
    """The net in one of our files.

    Raises:
        UserError: the file is damaged or has other content; names the first array.
        RefusedError: it unpacks to more than a weights file may hold.
    """
    refuse_if_large(archive)
    try:
        net = _read_net(json.loads(str(_member(archive, SETTINGS))), path)
        names = {entry.removesuffix(".npy") for entry in archive.namelist()}
        stored = str(_member(archive, NAME)) if NAME in names else _name_by_size(net)
        name = _check_name(stored, net, path)
        arrays = {
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
    weights = {k: checked(arrays.get(k), shape, f"{path}: the array {k}") for k, shape in wanted}
    return {name: TrainedNet(net, weights)}


def _old_name(key: str) -> str:
    """The name of a head's array in version 0.1.0."""
    head, slash, array = key.partition("/")
    return {"cls": "face", "landmarks": "points"}.get(head, head) + slash + array


def _read_net(settings: Any, path: Path) -> Net:
    """A net's description; in version 0.1.0 its landmarks were called points."""
    if isinstance(settings, dict) and "points" in settings:
        settings["landmarks"] = settings.pop("points")
    net: Net = Schema(str(path)).build(Net, settings, "net")
    return net


def _name_by_size(net: Net) -> str:
    """Which net of the cascade has this input size: older files do not name it."""
    return next((name for name in NETS if PAPER_NETS[name].size == net.size), "")


def _check_name(stored: str, net: Net, path: Path) -> NetName:
    name = next((name for name in NETS if name == stored), None)
    if name is None:
        raise UserError(f"{path}: no net of the cascade looks at {net.size} pixels.")
    return name


def _member(archive: zipfile.ZipFile, name: str) -> NDArray[Any]:
    content = io.BytesIO(archive.read(f"{name}.npy"))
    array: NDArray[Any] = np.load(content, allow_pickle=False)
    return array


def write_own(path: Path, trained: TrainedNet, name: NetName | None = None) -> None:
    """Write one net, atomically.

    Args:
        path: the `.npz` file.
        trained: the net.
        name: which net of the cascade it is; by default the one of the paper with its input size.
    """
    content = io.BytesIO()
    stored = {SETTINGS: json.dumps(asdict(trained.net)), NAME: name or _name_by_size(trained.net)}
    np.savez(content, **stored, **trained.weights)  # type: ignore[arg-type]
    write_atomically(path, content.getvalue())


def write_own_folder(path: Path, nets: Mapping[NetName, TrainedNet]) -> None:
    """Write nets into a folder, which `weight_files.read` takes as one weights file."""
    for name, trained in nets.items():
        write_own(path / FILES[name], trained, name)
