"""VGG Image Annotator 3's projects, as images with the regions of version 2."""

from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from data_prep.readers.entries import member, unexpected
from mtcnn_detector.errors import UserError

KEYS = {"metadata", "file", "project"}  # of a project, by which it is recognised
NUMBERS = {  # number of a shape -> its name and the names of its numbers in version 2
    1: ("point", ("cx", "cy")),
    2: ("rect", ("x", "y", "width", "height")),
    3: ("circle", ("cx", "cy", "r")),
    4: ("ellipse", ("cx", "cy", "rx", "ry")),
}
POLYGONS = (6, 7, 8)  # a line with corners, a polygon, a rectangle by points of its edges


def images(whole: dict[str, Any], labels: Path) -> Iterator[tuple[str, str, list[Any]]]:
    """(place, name, regions) of every image.

    Raises:
        UserError: the project lacks a part, or a part is damaged.
    """
    files, views = (member(whole, key, dict, str(labels)) for key in ("file", "view"))
    regions: dict[str, list[Any]] = defaultdict(list)
    for key, region in member(whole, "metadata", dict, str(labels)).items():
        where = f"{labels}: metadata {key}"
        if member(region, "xy", list, where):
            regions[str(member(region, "vid", object, where))].append(region)
    if unknown := regions.keys() - views.keys():
        raise UserError(f"{labels}: metadata names view {min(unknown)}, which is not there.")
    for key, view in views.items():
        where = f"{labels}: view {key}"
        listed = member(view, "fid_list", list, where)
        if len(listed) != 1 or str(listed[0]) not in files:
            raise unexpected(where, "one file of the project", str(listed))
        name = member(files[str(listed[0])], "fname", str, where)
        yield where, name, [_as_version_2(one, whole.get("attribute")) for one in regions[key]]


def _as_version_2(region: dict[str, Any], attributes: Any) -> dict[str, Any]:
    kind, *values = region["xy"]
    kind = str(kind) if isinstance(kind, list | dict) else kind
    if kind in NUMBERS:
        name, keys = NUMBERS[kind]
        shape: dict[str, Any] = {"name": name, **dict(zip(keys, values, strict=False))}
    elif kind in POLYGONS:
        points = {"all_points_x": values[::2], "all_points_y": values[1::2]}
        shape = {"name": "polygon", **points}
    else:
        shape = {"name": f"shape {kind}"}
    return {"shape_attributes": shape, "region_attributes": _named(region, attributes)}


def _named(region: dict[str, Any], attributes: Any) -> dict[str, Any]:
    """The values of a region's attributes by their names; of choices, the text of the choice."""
    values = region.get("av")
    named = {}
    for key, value in values.items() if isinstance(values, dict) else ():
        attribute = attributes.get(key) if isinstance(attributes, dict) else None
        attribute = attribute if isinstance(attribute, dict) else {}
        options = attribute.get("options")
        chosen = options.get(str(value), value) if isinstance(options, dict) else value
        named[str(attribute.get("aname", key))] = chosen
    return named
