"""Text of `labels.md`: the figures of every source, and what is suspicious in it."""

import itertools
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from data_prep.annotations import LabelSet
from mtcnn_detector.boxes import FloatArray

OCTAVES = (0, 8, 16, 32, 64, 128, 256, 512, np.inf)  # px, longer side of a face
BAR = 40  # characters
MAX_LISTED = 1000  # of the images that are left out


class SourceFigures(NamedTuple):
    """The figures of one source, and sentences on what is suspicious."""

    name: str
    figures: dict[str, int | str]
    sides: FloatArray
    warnings: list[str]
    left_out: Sequence[str] = ()  # a sentence for each image or label that cannot be used


def report(
    sources: Sequence[SourceFigures], sets: Mapping[str, LabelSet], general: Sequence[str]
) -> str:
    """The page as Markdown.

    Args:
        sources: the figures.
        sets: notes on how the labels of each source were read.
        general: sentences on the recipe as a whole.
    """
    lines = ["# Labels", "", "`labels.jpg` shows a choice of the images with their boxes and ", ""]
    lines[2] += "landmarks; the left eye is yellow."
    for sentence in general:
        lines += [f"- {sentence}"]
    for source in sources:
        lines += ["", f"## {source.name} ({sets[source.name].format})", ""]
        sentences = [*sets[source.name].notes, *source.warnings]
        lines += [f"- {sentence}" for sentence in sentences] + [""] * bool(sentences)
        lines += _left_out(source.left_out)
        lines += ["| | |", "| --- | --- |"]
        lines += [f"| {key} | {value} |" for key, value in source.figures.items()]
        lines += [
            "",
            "Faces by their longer side, px:",
            "",
            "```",
            *_histogram(source.sides),
            "```",
        ]
    return "\n".join(lines) + "\n"


def _left_out(sentences: Sequence[str]) -> list[str]:
    if not sentences:
        return []
    lines = [f"{len(sentences)} images or labels cannot be used and are left out:", ""]
    lines += [f"- {sentence.removesuffix('.')}." for sentence in sentences[:MAX_LISTED]]
    if len(sentences) > MAX_LISTED:
        lines.append(f"- and {len(sentences) - MAX_LISTED} more.")
    return [*lines, ""]


def _histogram(sides: FloatArray) -> list[str]:
    counts = np.histogram(sides, OCTAVES)[0]
    tallest = max(int(counts.max(initial=0)), 1)
    names = [f"{low:g} to {high:g}" for low, high in itertools.pairwise(OCTAVES)]
    names[-1] = f"{OCTAVES[-2]:g} and more"
    rows = zip(names, counts.tolist(), strict=True)
    return [f"{n:>12} {count:>7} {'#' * round(BAR * count / tallest)}" for n, count in rows]
