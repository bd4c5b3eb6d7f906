"""Validation of settings: the error of a bad value."""

from .errors import UserError


class BadValueError(UserError):
    """A value out of its range; `Schema` puts the section's name before the key."""

    def __init__(self, key: str, problem: str) -> None:
        super().__init__(f"{key} {problem}")
        self.key, self.problem = key, problem


def require(holds: bool, key: str, problem: str) -> None:
    """Raise BadValueError unless the condition holds; the message is `key` and `problem`."""
    if not holds:
        raise BadValueError(key, problem)
