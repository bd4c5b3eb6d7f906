"""The one error that a user is meant to read."""


class UserError(Exception):
    """One sentence for the person at the keyboard: which file, line or key, and what to do."""
