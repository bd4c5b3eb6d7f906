"""Worker process of the record stages: images in, crops out; without TensorFlow."""

import multiprocessing
import os
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from configs.record_settings import SAMPLE_TYPES, SampleType
from configs.settings import Settings
from data_prep.crops import Crops, cut_crops
from data_prep.mining import mine
from data_prep.sampling import Targets, Windows, sample
from data_prep.sources import LabelledImage
from data_prep.thinning import Thinning, thin
from mtcnn_detector import pixels
from mtcnn_detector.net import NETS, NetName
from mtcnn_detector.weights.weight_files import TrainedNet


class Cut(NamedTuple):
    """The crops of a chunk of images."""

    crops: dict[SampleType, Crops]
    broken: dict[str, str]  # path of each image that cannot be used -> reason

    @staticmethod
    def joined(parts: list["Cut"], size: int) -> "Cut":
        """Concatenate the crops, of `size` pixels, of several chunks."""
        crops = {k: Crops.joined([part.crops[k] for part in parts], size) for k in SAMPLE_TYPES}
        return Cut(crops, {path: why for part in parts for path, why in part.broken.items()})


@dataclass(frozen=True)
class Plan:
    """Settings and nets of a stage; small, and the same for every worker."""

    settings: Settings
    name: NetName
    nets: Mapping[NetName, TrainedNet]  # of the earlier stages, which propose windows
    problems: Mapping[str, str] = field(default_factory=dict)  # path of an unusable image -> why
    thinning: Thinning = field(default_factory=dict)

    @property
    def size(self) -> int:
        """Side of the crops without their margin, pixels."""
        return self.settings.for_net(self.name).net.size

    @property
    def stored_size(self) -> int:
        """Side of the stored crops, pixels."""
        return self.settings.for_net(self.name).stored_size


class _Worker(NamedTuple):
    plan: Plan
    cascade: Any  # mtcnn_detector.cascade.Cascade, or None where nothing is mined


_worker: _Worker
_token = ""  # of the plan that the process was last prepared for by `cut_for_plan`


def start(plan: Plan) -> None:
    """Initialise a worker process of the local pool for `cut_chunk`."""
    threading.Thread(target=_die_with_parent, daemon=True).start()
    _prepare(plan)


def _prepare(plan: Plan) -> None:
    global _worker
    pixels.use_threads(1)
    cascade = None
    if plan.nets:
        from mtcnn_detector.cascade import Cascade
        from mtcnn_detector.threads import use_threads

        use_threads(1)  # results must not depend on the number of workers
        low = plan.settings.for_net(plan.name).records.proposal_thresholds
        cascade = Cascade(plan.nets, plan.settings.detector.at(low))
    _worker = _Worker(plan, cascade)


def cut_for_plan(token: str, plan: Plan, images: list[LabelledImage]) -> Cut:
    """`cut_chunk` in a process that serves any plan; `token` tells one plan from another."""
    global _token
    if token != _token:
        _prepare(plan)
        _token = token
    return cut_chunk(images)


def _die_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def cut_chunk(images: list[LabelledImage]) -> Cut:
    """All crops of the images, by the plan that the process was started with."""
    parts: dict[SampleType, list[Crops]] = {kind: [] for kind in SAMPLE_TYPES}
    broken = {}
    size, stored_size = _worker.plan.size, _worker.plan.stored_size
    for labelled in images:
        path = labelled.annotation.image
        if str(path) in _worker.plan.problems:
            broken[str(path)] = _worker.plan.problems[str(path)]
            continue
        image = labelled.annotation.load_checked()
        if isinstance(image, str):
            broken[str(path)] = image
            continue
        for kind, windows in _windows(labelled, image).items():
            parts[kind].append(cut_crops(image, windows, size, (stored_size - size) // 2))
    return Cut({k: Crops.joined(p, stored_size) for k, p in parts.items()}, broken)


def _windows(labelled: LabelledImage, image: pixels.Image) -> dict[SampleType, Windows]:
    """All windows of one image, a function of the seed and its key."""
    plan, annotation = _worker.plan, labelled.annotation
    settings = plan.settings
    records = settings.for_net(plan.name).records.times(labelled.weight)
    seeds = [settings.seed, NETS.index(plan.name), *annotation.key.encode()]
    rng = np.random.default_rng(seeds)
    targets = Targets.of(annotation, settings.data.min_face, labelled.weights, records.context)
    height, width = image.shape[:2]
    found = sample(rng, height, width, targets, records, settings.labels)
    if _worker.cascade is not None:
        proposed = _worker.cascade.detect(image).boxes
        mined = mine(rng, proposed, targets, records, settings.labels)
        found |= {kind: Windows.joined([found[kind], mined[kind]]) for kind in mined}
    found = {kind: windows for kind, windows in found.items() if kind in labelled.sample_types}
    return thin(found, labelled, settings, plan.name, plan.thinning, bool(plan.nets))
