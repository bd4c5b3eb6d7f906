"""Layout detection: which package's layout the content of a weights file has; its nets."""

import re
from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any, NamedTuple

import numpy as np

from ..architecture import PAPER_NETS, shapes
from ..errors import UserError
from ..net import NETS, NetName
from .external_layouts import LAYOUTS
from .layout import Layout, Place, place_text
from .net_weights import TrainedNet

NESTED = "ipazc"  # the layout that dictionaries of layers stand for: its list, nested
MAX_ENTRIES, MAX_DEPTH = 1000, 4  # how far a part of a file is searched for arrays


class Found(NamedTuple):
    """A net and the layout it was read by: a key of `LAYOUTS`, or "own"."""

    layout: str
    trained: TrainedNet


class _Match(NamedTuple):
    """How many arrays of a part of a file match a layout of one of the nets."""

    arrays: int
    layout: str
    name: NetName

    @property
    def complete(self) -> bool:
        return self.arrays == len(list(shapes(PAPER_NETS[self.name])))


def nets_in(content: Any, origin: str) -> dict[NetName, Found]:
    """The nets in the content of a file, as `serialization.load` returns it.

    Raises:
        UserError: naming the layout that it resembles, and the array that is missing or wrong.
    """
    content = _without_wrapping(_as_list(content))
    parts = {name: _as_list(part) for name, part in _parts(content).items()}
    if parts:
        return {name: _net_in(part, [name], origin)[1] for name, part in parts.items()}
    name, found = _net_in(content, list(NETS), origin)
    return {name: found}


def _as_list(content: Any) -> Any:
    """A list of arrays that was saved as an array of objects, as `np.array` makes of it."""
    objects = isinstance(content, np.ndarray) and content.dtype == object and content.ndim == 1
    return content.tolist() if objects else content


def _without_wrapping(content: Any) -> Any:
    """The weights out of wrappers such as {"state_dict": {...}, "step": 1000}."""
    for _ in range(3):
        if not isinstance(content, dict) or any(_net_of(key) for key in content):
            break
        inner = [value for value in content.values() if isinstance(value, dict | list)]
        if len(inner) != 1 or any(isinstance(value, np.ndarray) for value in content.values()):
            break
        (content,) = inner
    return content


def _parts(content: Any) -> dict[NetName, Any]:
    """The part of each net, where the content has them by the nets' names."""
    if not isinstance(content, dict):
        return {}
    by_key = {name: content[key] for key in content if (name := _net_of(key)) is not None}
    parts = by_key or _by_prefix(content)
    return {name: _unwrapped(name, parts[name]) for name in NETS if name in parts}


def _net_of(key: Any) -> NetName | None:
    return next((name for name in NETS if isinstance(key, str) and key.lower() == name), None)


def _by_prefix(content: Mapping[Any, Any]) -> dict[NetName, Any]:
    """Parts of a torch module with three nets, whose arrays are named `pnet.conv1.weight`."""
    parts: dict[NetName, Any] = {}
    for key, value in content.items():
        net, _, rest = key.partition(".") if isinstance(key, str) else ("", "", "")
        if rest and (name := _net_of(net)) is not None:
            parts.setdefault(name, {})[rest] = value
    return parts


def _unwrapped(name: NetName, part: Any) -> Any:
    """A net's part out of {"pnet": {"pnet": {...}}}, as some converters write it."""
    for _ in range(3):
        if not isinstance(part, dict) or len(part) != 1 or _net_of(*part) != name:
            break
        (part,) = part.values()
    return part


def _net_in(part: Any, names: list[NetName], origin: str) -> tuple[NetName, Found]:
    """The part as the net that matches it best, of these names."""
    candidates = [
        _Match(layout.count_matches(name, part), key, name)
        for key, layout in LAYOUTS.items()
        for name in names
    ]
    best = max(candidates, key=lambda match: match.arrays)
    layout = LAYOUTS[best.layout]
    if not best.arrays and len(names) > 1:
        raise UserError(
            f"{origin}: no layout that we know; ipazc's is a dictionary of pnet, rnet and onet, "
            f"this file has a {_kind(part)}."
        )
    if not best.arrays:
        return names[0], _out_of_layers(names[0], part, origin)
    surplus = next(_surplus(layout, best.name, part), None)
    resembles = f"{origin}: it resembles {layout.owner} layout as {best.name}"
    if best.complete and surplus is not None:
        raise UserError(f"{resembles}, but has an array more than that: {place_text(surplus)}.")
    return best.name, Found(best.layout, layout.trained(best.name, part, resembles))


def _kind(part: Any) -> str:
    count = f" of {len(part)}" if isinstance(part, list | dict) else ""
    names = ", ".join(str(key)[:20] for key in islice(part, 3)) if isinstance(part, dict) else ""
    kind = "single array" if isinstance(part, np.ndarray) else type(part).__name__
    return f"{kind}{count}" + (f" ({names}, ...)" if names else "")


def _surplus(layout: Layout, name: NetName, part: Any) -> Iterator[Place]:
    """Places of arrays that the layout does not have: the part is another net."""
    known = set(layout.places(name).values())
    for place, _ in _arrays(part):
        if place not in known:
            yield place


def _arrays(part: Any) -> Iterator[tuple[Place, Any]]:
    """Arrays with their places, in the file's order; limited, as a hostile part can be endless."""
    pending: list[tuple[Place, Any]] = [((), part)]
    for _ in range(MAX_ENTRIES):
        if not pending:
            return
        place, value = pending.pop()
        if isinstance(value, np.ndarray):
            yield place, value
        if isinstance(value, dict | list) and len(place) < MAX_DEPTH:
            entries = value.items() if isinstance(value, dict) else enumerate(value)
            inner = [((*place, step), entry) for step, entry in islice(entries, MAX_ENTRIES)]
            pending += reversed(inner)


KINDS = {"kernel": r"kernel|weights?|w", "bias": r"bias(es)?|b", "alpha": r"alphas?"}


def _out_of_layers(name: NetName, part: Any, origin: str) -> Found:
    """The net out of a dictionary of layers that has all arrays of the package's list.

    Converters write the layers under names of their own, in alphabetical or in layer order. Arrays
    are matched by kind and shape, in the file's order where two are alike, with kernels in the
    package's axis order.
    """
    unused, taken, lacking = list(_arrays(part)), [], []
    for key, shape in shapes(PAPER_NETS[name]):
        kind = key.rpartition("/")[2]
        allowed = {shape, shape[-1:]} if kind == "alpha" else {shape}
        at = next(
            (i for i, entry in enumerate(unused) if _matches(entry, KINDS[kind], allowed)), None
        )
        if at is None:
            lacking.append(key)
        else:
            taken.append(unused.pop(at)[1].reshape(shape))
    layout = LAYOUTS[NESTED]
    if not lacking and not unused:
        return Found(NESTED, layout.trained(name, taken, origin))
    problem = f" without {lacking[0]}" if taken and lacking else ""
    if taken and not lacking:
        problem = f" with {place_text(unused[0][0])} besides"
    raise UserError(
        f"{origin}: it resembles {layout.owner} layout, which has a list of "
        f"{len(taken) + len(lacking)} arrays as {name}; this file has a {_kind(part)}{problem}."
    )


def _matches(entry: tuple[Place, Any], kind: str, allowed: set[tuple[int, ...]]) -> bool:
    place, array = entry
    last = str(place[-1]).split(":")[0].lower() if place else ""  # Keras writes kernel:0
    return re.fullmatch(kind, last) is not None and array.shape in allowed
