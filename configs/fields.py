"""Declaration of a setting: its meaning, its range and its default in one place."""

from dataclasses import MISSING, dataclass, field, fields
from math import inf
from typing import Any

from mtcnn_detector.validation import require


@dataclass(frozen=True)
class Interval:
    """A range of numbers in interval notation, such as `[0, 1)`; `inf` for no bound."""

    text: str

    @property
    def bounds(self) -> tuple[float, float]:
        """The lower and the upper bound."""
        low, high = self.text[1:-1].split(",")
        return float(low), float(high)

    def __contains__(self, value: float) -> bool:
        low, high = self.bounds
        above = value > low or (value == low and self.text.startswith("["))
        return above and (value < high or (value == high and self.text.endswith("]")))

    @property
    def problem(self) -> str:
        """The problem of a value outside, to be read after the name of the setting."""
        low, high = self.bounds
        if high < inf:
            return f"must lie between {low:g} and {int(high) if high.is_integer() else high}"
        if self.text.startswith("("):
            return f"must be above {low:g}"
        return f"must be at least {low:g}" if low else "cannot be negative"


def setting(
    meaning: str, interval: str | None = None, default: Any = MISSING, problem: str | None = None
) -> Any:
    """A dataclass field that knows what it is for.

    Args:
        meaning: One line for `docs/settings.md`, with the unit.
        interval: The values that a number, or each number of a tuple, may have; see `Interval`.
        default: The same for every net; without it a recipe has to set the value.
        problem: The problem of a value outside, where the interval's own words do not do.
    """
    metadata = {"meaning": meaning, "interval": interval and Interval(interval)}
    metadata["problem"] = problem
    return field(default=default, metadata=metadata)


def check_intervals(settings: Any) -> None:
    """Refuse a value outside the interval that its setting declares.

    Raises:
        BadValueError: names the setting and its interval.
    """
    for one in fields(settings):
        interval = one.metadata.get("interval")
        if interval is None:
            continue
        value = getattr(settings, one.name)
        numbers = value if isinstance(value, tuple) else () if value is None else (value,)
        problem = one.metadata["problem"] or interval.problem
        require(all(number in interval for number in numbers), one.name, problem)
