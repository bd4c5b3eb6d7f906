"""What a setting that cannot be is answered with."""

from .errors import UserError


class BadValueError(UserError):
    """A setting that cannot be; the reader puts the section's full name before the key."""

    def __init__(self, key: str, problem: str) -> None:
        super().__init__(f"{key} {problem}")
        self.key, self.problem = key, problem


def require(holds: bool, key: str, problem: str) -> None:
    """Refuse a setting unless it holds; `problem` goes on after the key's name."""
    if not holds:
        raise BadValueError(key, problem)
