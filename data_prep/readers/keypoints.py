"""The five landmarks among the keypoints of other schemes, by name or by number of points."""

import math
import re
from collections.abc import Collection, Sequence
from typing import Any, NamedTuple

from data_prep.readers.entries import TEN_LANDMARKS, UNKNOWN, ReadOptions
from mtcnn_detector.errors import UserError

NAMES = ("left_eye", "right_eye", "nose", "left_mouth", "right_mouth")
Indices = Sequence[tuple[int, ...]]  # of the points whose mean is each of the five; () for none
ORDER: Indices = ((0,), (1,), (2,), (3,), (4,))
NONE: Indices = ((),) * 5
# Schemes that are recognised by their number of points: iBUG's 68 and WFLW's 98 (the eyes' centres
# are means or points of their own), and the 17 of COCO's persons, which have no mouth.
BY_COUNT: dict[int, Indices] = {
    5: ORDER,
    17: ((1,), (2,), (0,), (), ()),
    68: (tuple(range(36, 42)), tuple(range(42, 48)), (30,), (48,), (54,)),
    98: ((96,), (97,), (54,), (76,), (82,)),
}
EYE = r"(center|centre|pupil|iris|middle)?"
PATTERNS = [
    rf"({{side}}eye{EYE}|eye{{side}}{EYE}|eye{EYE}{{side}}|{{side}}pupil|pupil{{side}})",
    r"(nose|nosetip|tipofnose|tipnose|nosecenter|nosecentre)",
    r"({side}(mouth|lips?)(corner|end|edge)?|(mouth|lips?)(corner|end|edge)?{side}(corner)?"
    r"|{side}corner(of)?(the)?mouth|mouthcorner{side}|{side}mouth)",
]
SIDES = (r"(left|l)", r"(right|r)")
MATCHERS = [
    re.compile(PATTERNS[part].format(side=side))
    for part, side in ((0, SIDES[0]), (0, SIDES[1]), (1, ""), (2, SIDES[0]), (2, SIDES[1]))
]


class Point(NamedTuple):
    """A keypoint in the units of its entry; `known` is false where it was not placed."""

    x: float
    y: float
    known: bool = True


def which(name: str) -> int | None:
    """The place of a named keypoint among the five landmarks; None for another keypoint."""
    letters = re.sub("[^a-z]", "", name.lower())
    return next((i for i, matcher in enumerate(MATCHERS) if matcher.fullmatch(letters)), None)


def place(name: str, options: ReadOptions) -> int | None:
    """As `which`; where `landmark_names` are set, by them alone."""
    options.names_seen.add(name)
    if not options.landmark_names:
        return which(name)
    wanted = list(options.landmark_names)
    return wanted.index(name) if name in wanted else None


def require_names(found: Collection[str], wanted: Sequence[str], where: str) -> None:
    """Raise UserError where one of the `landmark_names` is not among the names of a file."""
    missing = [name for name in wanted if name not in found]
    if missing:
        named = f"are named {', '.join(found)[:200]}" if found else "have no names: leave it out"
        raise UserError(
            f"{where}: landmark_names asks for {', '.join(missing)}, but the keypoints {named}."
        )


def choose(names: Sequence[str] | None, count: int, options: ReadOptions, where: str) -> Indices:
    """The indices of the five landmarks among `count` keypoints.

    Args:
        names: of the keypoints, in their order; None where the file does not name them.
        count: the number of keypoints.
        options: `landmark_names`, if set, decides; without `use_landmarks` there are none.
        where: the place, for messages.

    Raises:
        UserError: the five cannot be told from the names or the number.
    """
    if not options.use_landmarks:
        return NONE
    options.names_seen.update(names or ())
    if options.landmark_names and names:
        require_names(names, options.landmark_names, where)
        return [(names.index(name),) for name in options.landmark_names]
    if not names:
        found = BY_COUNT.get(count)
        if found is None:
            raise UserError(
                f"{where}: expected 5 keypoints ({TEN_LANDMARKS}), or 17, 68 or 98 of the usual "
                f"schemes; got {count} without names."
            )
    else:
        found = _by_names(names, where)
    missing = [name for name, indices in zip(NAMES, found, strict=True) if not indices]
    if missing:
        options.note(
            f"of {count} keypoints {', '.join(n for n in NAMES if n not in missing)} were found "
            f"and {', '.join(missing)} not: such faces give no landmark crops."
        )
    return found


def _by_names(names: Sequence[str], where: str) -> Indices:
    places = [which(name) for name in names]
    found = [tuple(i for i, place in enumerate(places) if place == five)[:1] for five in range(5)]
    if len(names) in (68, 98) and not all(found):
        return BY_COUNT[len(names)]
    if not any(found) or (len(names) <= 5 and not all(found)):
        raise UserError(
            f"{where}: the keypoints are named {', '.join(map(str, names))[:200]}: set "
            "landmark_names to the five that are left eye, right eye, nose, left and right mouth "
            "corner."
        )
    return found


def gather(points: Sequence[Point], indices: Indices) -> Sequence[float]:
    """Ten numbers: the means of the chosen points that are known, NaN where there are none."""
    if not points:
        return UNKNOWN
    ten: list[float] = []
    for places in indices:
        known = [points[place] for place in places if points[place].known]
        count = len(known) or math.nan
        ten += [sum(p.x for p in known) / count, sum(p.y for p in known) / count]
    return ten


def triples(values: Sequence[float]) -> list[Point]:
    """x y v, ... -> points; v of 0 and below stands for a point that was not placed."""
    rows = [values[i : i + 3] for i in range(0, len(values), 3)]
    return [Point(x, y, visible > 0) for x, y, visible in rows]


def attach(
    boxes: Sequence[Sequence[float]],
    named: Sequence[tuple[str, Point, Any]],
    options: ReadOptions,
    groups: Sequence[Any] = (),
) -> list[list[float]]:
    """Landmarks of each box x y w h from single named points.

    A point belongs to the box of its group; without one, to the smallest box around it. Points
    outside all boxes, or of other names than the five landmarks', are left out.

    Args:
        boxes: of the faces.
        named: name, point and group of each point; a group of None is none.
        options: `landmark_names`, if set, are the names of the five.
        groups: of the boxes; empty for none.
    """
    ten: list[list[float]] = [list(UNKNOWN) for _ in boxes]
    grouped = {str(group): i for i, group in enumerate(groups) if group is not None}
    for name, point, group in named:
        number = place(name, options)
        owner = grouped.get(str(group), _smallest_around(point, boxes))
        if number is not None and owner is not None:
            ten[owner][2 * number : 2 * number + 2] = [point.x, point.y]
    return ten


def _smallest_around(point: Point, boxes: Sequence[Sequence[float]]) -> int | None:
    around = [i for i, box in enumerate(boxes) if _inside(point, box)]
    return min(around, key=lambda i: boxes[i][2] * boxes[i][3], default=None)


def _inside(point: Point, box: Sequence[float]) -> bool:
    x, y, width, height = box
    return x <= point.x <= x + width and y <= point.y <= y + height
