"""Weights files: our own, and those that other packages load; each both ways.

Inside the project weights are *natural*: a dictionary from `<layer>/<array>` to float32 arrays,
kernels [kh, kw, in, out], dense rows in (h, w, c) order, as Keras holds them. Ours is an `.npz`
of these arrays plus the net's settings as JSON. ipazc's is one `.npy` for the three nets.
"""

import io
import json
import zipfile
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray

from configs.errors import UserError
from configs.recipe import net_from_dict
from configs.settings import NETS, Layer, Net, NetName, Settings
from models.architecture import PAPER_NETS, folded, shapes
from models.unpickle import load_npy

Weights = dict[str, NDArray[np.float32]]
OWN_FILES: Mapping[NetName, str] = {name: f"{name}/weights.npz" for name in NETS}  # of a run


class Trained(NamedTuple):
    """A net's settings and its natural weights."""

    net: Net
    weights: Weights


def write_own(path: Path, trained: Trained, name: NetName | None = None) -> None:
    """Write one net in our own layout, which holds any net.

    `name` says which net of the cascade it is; without, its size must be that of the paper's.
    """
    content = io.BytesIO()
    told = {"__net__": json.dumps(asdict(trained.net)), "__name__": name or _name_of(trained.net)}
    np.savez(content, **told, **trained.weights)  # type: ignore[arg-type]
    _replace(path, content.getvalue())


def write_own_folder(path: Path, nets: Mapping[NetName, Trained]) -> None:
    """Write nets in our own layout into a folder, which `read` takes as one weights file."""
    for name, trained in nets.items():
        write_own(path / OWN_FILES[name], trained, name)


def write_ipazc(path: Path, nets: Mapping[NetName, Trained]) -> None:
    """Write the three nets as ipazc's mtcnn 0.1.x loads them.

    Raises:
        UserError: naming the net and the first array that the layout cannot hold.
    """
    tables = {name: _to_ipazc(name, nets[name]) for name in NETS}
    content = io.BytesIO()
    np.save(content, np.array(tables, dtype=object), allow_pickle=True)
    _replace(path, content.getvalue())


def refuse_unless_ipazc(name: NetName, net: Net) -> None:
    """Say which layer when ipazc's layout cannot hold a net of these settings."""
    wanted = PAPER_NETS[name]
    if net.size != wanted.size:
        raise UserError(f"ipazc's layout holds a {name} of {wanted.size} pixels, not {net.size}.")
    for number, (given, held) in enumerate(zip(net.layers, wanted.layers, strict=False), 1):
        if given != held:
            raise UserError(
                f"ipazc's layout cannot hold {name}.layer{number}: {_told(given)}, "
                f"it needs {_told(held)}."
            )
    if len(net.layers) > len(wanted.layers):
        number = len(wanted.layers) + 1
        raise UserError(
            f"ipazc's layout cannot hold {name}.layer{number}: "
            f"{_told(net.layers[number - 1])}; it has {number - 1} layers there."
        )
    if len(net.layers) < len(wanted.layers):
        raise UserError(
            f"ipazc's layout holds {len(wanted.layers)} layers in {name}, not {len(net.layers)}."
        )


def refuse_unless_exportable(settings: Settings) -> None:
    """Say before anything is made which layer the layout of the recipe's export cannot hold."""
    if settings.export.layout == "own":
        return
    for name in NETS:
        try:
            refuse_unless_ipazc(name, folded(settings.stage(name).net))
        except UserError as error:
            told = str(error).rstrip(".")
            raise UserError(
                f'{told}; SET="export.layout=own" trains it for our own detector alone.'
            ) from None


def _told(layer: Layer) -> str:
    return ", ".join(f"{key} {value}" for key, value in asdict(layer).items() if value is not None)


def _to_ipazc(name: NetName, trained: Trained) -> list[NDArray[np.float32]]:
    refuse_unless_ipazc(name, trained.net)
    arrays = []
    for key, shape in shapes(PAPER_NETS[name]):
        given = _checked(trained.weights.get(key), shape, f"{name}, to be written: the array {key}")
        arrays.append(np.ascontiguousarray(_transposed(name, key, given)))
    return arrays


def _from_ipazc(name: NetName, arrays: Any, origin: str) -> Trained:
    wanted = list(shapes(PAPER_NETS[name]))
    if not isinstance(arrays, list) or len(arrays) != len(wanted):
        count = len(arrays) if isinstance(arrays, list | dict) else "no"
        raise UserError(
            f"{origin}: ipazc's layout has a list of {len(wanted)} arrays as {name}; "
            f"this file has a {type(arrays).__name__} of {count}."
        )
    weights = {}
    for (key, shape), given in zip(wanted, arrays, strict=True):
        held = _checked(given, shape, f"{origin}: {name}'s array {key}")
        weights[key] = np.ascontiguousarray(_transposed(name, key, held))
    return Trained(PAPER_NETS[name], weights)


def _checked(given: Any, shape: tuple[int, ...], what: str) -> NDArray[np.float32]:
    """An array as float32, if it is one of finite numbers and of this shape."""
    if not isinstance(given, np.ndarray) or given.shape != shape or given.dtype.kind != "f":
        array = isinstance(given, np.ndarray)
        found = f"{given.dtype} {given.shape}" if array else type(given).__name__
        raise UserError(f"{what} should be float32 {shape}; it is {found}.")
    with np.errstate(over="ignore"):  # becomes infinite, which is refused
        held = np.asarray(given, np.float32)
    if not np.isfinite(held).all():
        raise UserError(f"{what} holds values that are not finite numbers.")
    return held


def _transposed(name: NetName, key: str, array: NDArray[Any]) -> NDArray[Any]:
    """Height and width exchanged, as ipazc feeds its images; its own inverse."""
    if array.ndim == 4:
        return array.transpose(1, 0, 2, 3)
    first_dense = next((n for n, layer in enumerate(PAPER_NETS[name].layers, 1) if layer.dense), 0)
    if key != f"layer{first_dense}/kernel":
        return array
    channels = PAPER_NETS[name].layers[first_dense - 2].conv or 0
    side = round((array.shape[0] / channels) ** 0.5)
    spread = array.reshape(side, side, channels, -1).transpose(1, 0, 2, 3)
    return spread.reshape(array.shape)


def read(path: Path) -> dict[NetName, Trained]:
    """The nets in a weights file of any known layout, recognised by looking; runs no code.

    A folder stands for our own files of the nets in it, as a run has them.

    Raises:
        UserError: the file is missing, damaged, hostile, or of an unknown layout.
    """
    found: dict[NetName, Trained] = {}
    for file in files(path):
        found |= _read_file(file)
    return found


def files(path: Path) -> list[Path]:
    """The files that `read` looks into: the file itself, or those of a folder's nets."""
    if not path.is_dir():
        return [path]
    held = [path / file for file in OWN_FILES.values() if (path / file).exists()]
    if not held:
        raise UserError(f"{path} is a folder without any of {', '.join(OWN_FILES.values())}.")
    return held


def _read_file(path: Path) -> dict[NetName, Trained]:
    try:
        with path.open("rb") as file:
            ours = zipfile.is_zipfile(file)
            file.seek(0)
            return _read_own(file, path) if ours else _read_ipazc(file, path)
    except FileNotFoundError:
        raise UserError(f"{path}: there is no such weights file.") from None
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}).") from None


def _read_own(file: BinaryIO, path: Path) -> dict[NetName, Trained]:
    try:
        with np.load(file, allow_pickle=False) as content:
            weights = {key: content[key] for key in content.files if not key.startswith("__")}
            net = net_from_dict(json.loads(str(content["__net__"])), str(path))
            told = str(content["__name__"]) if "__name__" in content.files else _name_of(net)
    except UserError:
        raise
    except Exception as error:  # a damaged archive can fail in any way
        raise UserError(f"{path} is damaged or none of our weights files ({error}).") from None
    name = next((name for name in NETS if name == told), None)
    if name is None:
        raise UserError(f"{path}: no net of the cascade looks at {net.size} pixels.")
    held = {k: _checked(weights.get(k), s, f"{path}: the array {k}") for k, s in shapes(net)}
    return {name: Trained(net, held)}


def _name_of(net: Net) -> str:
    """Which net of the cascade has this size, for files that do not say it."""
    return next((name for name in NETS if PAPER_NETS[name].size == net.size), "")


def _read_ipazc(file: BinaryIO, path: Path) -> dict[NetName, Trained]:
    content = load_npy(file, str(path))
    if not isinstance(content, dict) or not any(name in content for name in NETS):
        raise UserError(f"{path}: ipazc's layout is a dictionary of pnet, rnet and onet.")
    return {n: _from_ipazc(n, content[n], str(path)) for n in NETS if n in content}


def _replace(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_bytes(content)
    temporary.replace(path)
