"""A recipe without landmarks: what `data.landmarks: false` means for the settings of each net."""

from dataclasses import replace

from configs.settings import NetSettings, Settings
from mtcnn_detector.errors import UserError
from mtcnn_detector.net import NETS, NetName
from mtcnn_detector.validation import BadValueError, require

DIGITS = 6  # of a fraction


def without_landmarks(settings: Settings) -> Settings:
    """The recipe without all that asks for landmarks; the same for such a recipe.

    The fraction of landmark crops goes to the other types in proportion. The last net keeps its
    landmark head where it starts from weights, since these may have one.

    Raises:
        UserError: a net is to learn nothing but landmarks.
    """
    for name in NETS:
        try:
            settings = settings.with_net(name, _without(settings.for_net(name), name))
        except BadValueError as error:
            raise UserError(
                f"data.landmarks is false, but then {name}.{error.key} {error.problem}."
            ) from None
    return settings


def _without(stage: NetSettings, name: NetName) -> NetSettings:
    keeps_head = name == NETS[-1] and stage.train.init is not None
    net = replace(stage.net, landmarks=stage.net.landmarks and keeps_head)
    frozen = tuple(part for part in stage.train.frozen if part in (*net.named, *net.heads))
    fractions = _redistributed(stage.train.batch_fractions)
    return replace(
        stage,
        net=net,
        records=replace(stage.records, landmarks_per_face=0),
        train=replace(stage.train, batch_fractions=fractions, frozen=frozen),
    )


def _redistributed(
    fractions: tuple[float, float, float, float],
) -> tuple[float, float, float, float]:
    """Fractions of a batch with those of landmark crops given to the others in proportion."""
    positive, negative, part, landmark = fractions
    if not landmark:
        return fractions  # not divided: repeated, it stays the same to the last digit
    rest = positive + negative + part
    require(rest > 0, "train.batch_fractions", "asks for landmark crops alone")
    positive, part = round(positive / rest, DIGITS), round(part / rest, DIGITS)
    return positive, round(1 - positive - part, DIGITS), part, 0.0
