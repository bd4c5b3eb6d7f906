"""The error that is shown to a user without a traceback."""


class UserError(Exception):
    """An error of the user, in one sentence: which file, line or key, and what to do."""
