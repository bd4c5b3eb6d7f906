"""Whether the nets of one export were made for each other: the boxes that each gets from the last.

A net that looks at more than a face needs boxes of that size from the net before it, which a net of
another file does not give.
"""

from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path

from configs.settings import Settings
from mtcnn_detector.net import NETS, NetName
from pipeline import known_weights
from pipeline.known_weights import PUBLISHED
from pipeline.make_command import also_set, make_command


def mismatches(settings: Settings, sources: Mapping[NetName, Path]) -> list[str]:
    """Each pair of nets that do not fit, in a sentence with what mends it; none as a rule.

    Args:
        settings: the recipe of the run's own nets.
        sources: weights files, or folders of them, of the other nets.
    """
    recipes = {
        net: known_weights.recipe_of(sources[net]) if net in sources else settings for net in NETS
    }
    sentences = []
    for before, net in pairwise(NETS):
        giver, taker = recipes[before], recipes[net]
        gives = PUBLISHED if giver is None else giver.box_target(before)
        looks = PUBLISHED if taker is None else taker.for_net(net).records.context
        if gives == looks:
            continue
        text = f"{before}'s boxes are {gives:g} x the side of a face, {net} looks at {looks:g} x"
        if before not in sources:
            text += f": `{_again(f'train-{before}', net, looks)}` trains {before} for it"
        elif net not in sources:
            text += f": `{_again(f'{net}-data train-{net}', net, gives)}` trains {net} for them"
        sentences.append(f"{text}.")
    return sentences


def _again(targets: str, net: NetName, context: float) -> str:
    """The command that makes complete stages anew with another context of a net."""
    return make_command(targets, SET=also_set(f"{net}.records.context={context:g}"), FORCE=1)
