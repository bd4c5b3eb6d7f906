"""Thinning: which crops are left out where the images would give more than the training needs.

A crop is kept by a hash of its image's name, its kind and its number, so that more images remove
crops of others, at most: what `scale_balance` changes in them is decided before.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from configs.record_settings import SAMPLE_TYPES, SampleType
from configs.settings import NetSettings, Settings
from data_prep.sampling import Targets, Windows
from data_prep.sources import Images, LabelledImage
from mtcnn_detector.boxes import FloatArray
from mtcnn_detector.net import NETS, NetName
from pipeline import manifest
from pipeline.make_command import make_command

MIN_CROPS = 20_000  # of a kind that are always cut: fewer would save nothing
CROWD = 8  # an image counts for so many average ones at most before all images are thinned
TARGET_BYTES = 60  # of a crop's box, landmarks and side


class Kept(NamedTuple):
    """Which crops of a kind are kept of every image."""

    limit: float  # images that can give more crops are thinned to about so many
    fraction: float  # and then all images to this fraction

    @property
    def most(self) -> float:
        """About how many are kept of the most crowded image."""
        return self.fraction * self.limit

    def share(self, crops: int) -> float:
        """The fraction that is kept of an image that can give so many crops."""
        return self.fraction * min(1.0, self.limit / max(crops, 1))


ALL = Kept(np.inf, 1.0)
Thinning = Mapping[SampleType, Kept]  # kinds of which all crops are kept are absent


def max_crops(labelled: LabelledImage, settings: Settings, name: NetName, mined: bool) -> list[int]:
    """The most crops of each kind that an image can give, from its annotation alone."""
    records = settings.for_net(name).records.times(labelled.weight)
    annotation, least = labelled.annotation, settings.data.min_face
    targets = Targets.of(annotation, least, labelled.weights, records.context)
    faces = np.ones(len(targets.faces))
    known = faces * np.isfinite(targets.landmarks).all(axis=(1, 2))
    per_image = records.negatives_per_image
    if mined:
        per_image += records.mined_negatives_per_image

    def around(per_face: int, which: FloatArray, proposals: int) -> int:
        sampled = np.ceil(per_face * targets.weights) * which
        return int(sampled.sum() + mined * proposals * which.sum())

    counts = {
        "positive": around(records.positives_per_face, faces, records.mined_per_face),
        "negative": around(records.negatives_per_face, faces, 0) + per_image,
        "part": around(records.parts_per_face, faces, records.mined_per_face),
        "landmark": around(records.landmarks_per_face, known, records.mined_per_face),
    }
    return [counts[kind] if kind in labelled.sample_types else 0 for kind in SAMPLE_TYPES]


def plan(split: Images, settings: Settings, name: NetName, mined: bool) -> dict[SampleType, Kept]:
    """Thinning to what the training draws of each kind, and what its memory may hold.

    Where memory is the limit, the kinds are thinned so that a crop of each is drawn equally often.
    """
    net = settings.for_net(name)
    counts = np.array([max_crops(one, settings, name, mined) for one in split["train"]], float)
    totals = counts.reshape(-1, len(SAMPLE_TYPES)).sum(axis=0)
    drawn = net.train.steps * np.array([net.train.sample_counts[kind] for kind in SAMPLE_TYPES])
    wanted = np.maximum(drawn, MIN_CROPS).astype(float)
    fitting = _fitting(net) * len(split["train"]) / max(sum(map(len, split.values())), 1)
    budgets = np.minimum(totals, wanted * min(1.0, water_level(totals, wanted, fitting)))
    return {
        kind: _kept(counts[:, column], budgets[column])
        for column, kind in enumerate(SAMPLE_TYPES)
        if budgets[column] < totals[column]
    }


def _fitting(net: NetSettings) -> float:
    """How many crops the memory for a net's records holds."""
    return net.records.max_gigabytes * 1e9 / (net.stored_size**2 * 3 + TARGET_BYTES)


def _kept(counts: FloatArray, budget: float) -> Kept:
    """Thinning of images with (N,) crops of a kind to a budget: the most crowded first."""
    mean = float(counts[counts > 0].mean())
    limit = max(water_level(counts, np.ones(len(counts)), budget), CROWD * mean)
    fraction = min(1.0, float(budget / np.minimum(counts, limit).sum()))
    return Kept(round(limit, 1), round(fraction, 5))  # as they stand in the manifest


def water_level(sizes: FloatArray, widths: FloatArray, volume: float) -> float:
    """The level at which (N,) vessels of these sizes and widths (> 0), filled alike, hold a volume.

    That is the x at which the sum of min(size, width * x) is `volume`; where all of them hold
    less, the least x at which they are full.
    """
    order = np.argsort(sizes / widths, kind="stable")
    levels = (sizes / widths)[order]
    open_width = widths.sum() - np.cumsum(widths[order])
    volumes = np.cumsum(sizes[order]) + levels * open_width
    return float(np.interp(volume, [0, *volumes], [0, *levels]))


def take_over(
    folder: Path | None, recipe: dict[str, Any], name: NetName, planned: Thinning
) -> tuple[dict[str, Any], Thinning]:
    """The recipe of records with their thinning, which records that were begun keep.

    So a training with more steps goes on with the crops that are there, and one with fewer for a
    trial does too.

    Args:
        folder: the records; None: they are made anew.
        recipe: everything else that decides their content.
        name: their net.
        planned: how new records would be thinned.
    """
    found = None if folder is None else manifest.read_manifest(folder)
    if found is None:
        return recipe | _entry(planned), planned
    old, limit = found["recipe"], f"{name}.records.max_gigabytes"
    new = {k: v for k, v in manifest.flatten(recipe).items() if k != limit or limit in old}
    rest = {k: v for k, v in old.items() if not k.startswith("kept.")}
    if manifest.describe_changes(rest, new):
        return recipe | _entry(planned), planned
    kept = {kind: Kept(*old[f"kept.{kind}"]) for kind in SAMPLE_TYPES if f"kept.{kind}" in old}
    if any(1.5 * one.most < planned.get(kind, ALL).most for kind, one in kept.items()):
        print(
            f"{name}-data: {folder} was cut for a training of fewer steps: "
            f"`{make_command(f'{name}-data', FORCE=1)}` cuts as many crops as are drawn now."
        )
    return new | _entry(kept), kept


def _entry(thinning: Thinning) -> dict[str, Any]:
    return {f"kept.{kind}": list(kept) for kind, kept in thinning.items()}


def thin(
    windows: Mapping[SampleType, Windows],
    labelled: LabelledImage,
    settings: Settings,
    name: NetName,
    thinning: Thinning,
    mined: bool,
) -> dict[SampleType, Windows]:
    """An image's windows without those that are left out."""
    kept = dict(windows)
    if not thinning:
        return kept
    most = dict(zip(SAMPLE_TYPES, max_crops(labelled, settings, name, mined), strict=True))
    for kind in thinning.keys() & windows.keys():
        # No byte of a key is above 255, so no other generator is seeded alike.
        number = 256 + SAMPLE_TYPES.index(kind)
        seeds = [settings.seed, NETS.index(name), *labelled.annotation.key.encode(), number]
        values = np.random.default_rng(seeds).random(len(windows[kind].places))
        rows = values < thinning[kind].share(most[kind])
        places, faces, landmarks, degrees = windows[kind]
        kept[kind] = Windows(places[rows], faces[rows], landmarks[rows], degrees[rows])
    return kept
