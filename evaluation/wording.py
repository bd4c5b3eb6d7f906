"""Words of reports for the detected object: `data.object` in place of 'face'."""

import functools
import re

FACE = "face"


def plural(noun: str) -> str:
    """The regular English plural of a noun."""
    return noun + ("es" if noun.endswith(("s", "x", "z", "ch", "sh")) else "s")


def with_object(text: str, noun: str) -> str:
    """A text about faces as one about another object."""
    return re.sub(r"\b([Ff])ace(s?)\b", functools.partial(_replacement, noun), text)


def _replacement(noun: str, found: re.Match[str]) -> str:
    word = plural(noun) if found[2] else noun
    return word.capitalize() if found[1] == "F" else word
