"""Hard examples: the worst mistakes first, fair shares for the faces, nothing over ignored ones."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np

from configs import recipe
from configs.record_settings import LabelThresholds, RecordSettings, SampleType
from data_prep.mining import mine
from data_prep.sampling import Targets, Windows
from tests.windows import RECORDS as DRAWN

RECORDS = replace(DRAWN, mined_negatives_per_image=3, mined_per_face=2)
FACES = [[50, 50, 90, 90], [200, 50, 240, 90]]
IGNORED = [[100, 150, 112, 162]]


def targets() -> Targets:
    landmarks = np.zeros((2, 5, 2)) + np.arange(2)[:, None, None]
    return Targets(np.array(FACES, float), landmarks, np.ones(2), np.array(IGNORED, float))


def reported(windows: list[list[int]]) -> np.ndarray:
    """(N, 4) reported boxes: the first corner counted from 1."""
    corners: np.ndarray = np.array(windows, float).reshape(-1, 4) + np.array([1, 1, 0, 0])
    return corners


def mined(
    windows: list[list[int]], records: RecordSettings = RECORDS, seed: int = 0
) -> dict[SampleType, Windows]:
    rng = np.random.default_rng(seed)
    return mine(rng, reported(windows), targets(), records, LabelThresholds())


FALSE = [[x, 300, x + 20, 320] for x in range(0, 200, 30)]
TRUE = [[50 + i, 50, 90 + i, 90] for i in range(4)]  # IoU 1 to 0.86


def test_the_highest_scoring_mistakes_come_first() -> None:
    best_first = [*FALSE[:1], TRUE[0], *FALSE[1:]]
    assert mined(best_first)["negative"].places.tolist() == FALSE[:3]
    everything = replace(RECORDS, mined_negatives_per_image=100)
    assert mined(best_first, everything)["negative"].places.tolist() == FALSE
    assert np.isnan(mined(best_first)["negative"].faces).all()


def test_a_face_with_many_proposals_does_not_outweigh_another() -> None:
    other = [[200, 50, 240, 90]]
    found = mined([*TRUE, *other])["positive"]
    assert Counter(found.faces[:, 0].tolist()) == {50: 2, 200: 1}
    chosen = {tuple(mined(TRUE, seed=s)["positive"].places[0].tolist()) for s in range(30)}
    assert len(chosen) == 4, "any of them, not always those that score highest"
    for window, face, landmarks in zip(found.places, found.faces, found.landmarks, strict=True):
        assert abs(window - face).max() <= 4
        assert (landmarks == (face[0] == 200)).all()


def test_parts_are_capped_too() -> None:
    parts = [[50 + i, 50, 90 + i, 90] for i in (12, 13, 14)]  # IoU 0.54 to 0.48
    found = mined([*parts, *TRUE[:1]])
    assert len(found["part"].places) == 2
    assert len(found["positive"].places) == 1


def test_landmark_crops_hold_all_the_landmarks_of_their_face() -> None:
    """What the last net sees at run time are proposals, not windows drawn at random."""
    known = np.array([[[55, 60], [85, 60], [70, 70], [60, 80], [80, 80]]] * 2, float)
    known[1] += [150, 0]
    known[1, 2] = np.nan
    held = Targets(np.array(FACES, float), known, np.ones(2), np.zeros((0, 4)))
    windows = [[50, 50, 90, 90], [56, 50, 96, 90], [200, 50, 240, 90], *FALSE[:1]]
    found = mine(np.random.default_rng(0), reported(windows), held, RECORDS, LabelThresholds())[
        "landmark"
    ]
    assert found.places.tolist() == [windows[0]], "the second cuts an eye off"
    assert (found.landmarks == known[:1]).all() and np.isnan(found.faces).all()


def test_nothing_over_a_face_that_is_ignored_or_too_small() -> None:
    """Peers' fault 12: faces under the size limit learned as background."""
    over = [[100, 150, 112, 162], [90, 140, 190, 240], [103, 153, 109, 159]]
    found = mined([*over, FALSE[0]])
    assert found["negative"].places.tolist() == [FALSE[0]]
    assert len(found["positive"].places) == len(found["part"].places) == 0


def test_in_between_is_nothing() -> None:
    between = [[50, 50, 90, 64]]  # IoU 0.35
    assert [len(windows.places) for windows in mined(between).values()] == [0, 0, 0, 0]


def test_no_proposals_and_no_faces() -> None:
    assert [len(windows.places) for windows in mined([]).values()] == [0, 0, 0, 0]
    nobody = Targets(np.zeros((0, 4)), np.zeros((0, 5, 2)), np.ones(0), np.zeros((0, 4)))
    found = mine(np.random.default_rng(0), reported(TRUE), nobody, RECORDS, LabelThresholds())
    assert {kind: len(windows.places) for kind, windows in found.items()} == {
        "negative": 3,
        "positive": 0,
        "part": 0,
        "landmark": 0,
    }


def test_our_recipes_mine_with_low_thresholds() -> None:
    """Peers' fault 9: the detector's own thresholds starve R-Net of positives."""
    for path in Path(recipe.__file__).parent.glob("*.yaml"):
        settings = recipe.load(path)
        assert max(settings.rnet.records.proposal_thresholds) <= 0.3
        low = settings.onet.records.proposal_thresholds
        assert low[0] <= 0.3 and low[1] <= 0.1
        mining = settings.detector.at(settings.onet.records.proposal_thresholds)
        assert mining.thresholds[:2] == low
        assert settings.rnet.records.mined_negatives_per_image > 0
        assert settings.onet.records.mined_per_face > 0
