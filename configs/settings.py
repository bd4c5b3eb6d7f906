"""Every setting of a run as typed, frozen dataclasses; a class checks its own values."""

import difflib
from dataclasses import dataclass, field
from typing import Literal

from mtcnn_detector.net import NETS, Net, NetName
from mtcnn_detector.settings import DetectorSettings
from mtcnn_detector.validation import require

SampleType = Literal["positive", "negative", "part", "landmark"]
SAMPLE_TYPES: tuple[SampleType, ...] = ("positive", "negative", "part", "landmark")


@dataclass(frozen=True)
class Source:
    """One annotated set of pictures; paths are relative to `data.folder`."""

    format: Literal["wider", "retinaface", "mtfl", "celeba", "coco"]
    labels: str
    images: str
    landmarks: str | None = None  # a second file that holds the five landmarks
    # Kinds of crops cut from it; no negatives where other faces stand unlabelled.
    sample_types: tuple[SampleType, ...] = SAMPLE_TYPES
    optional: bool = False  # True: say so and go on when it is not on this machine
    wider_ground_truth: str | None = None  # folder of WIDER FACE's .mat files, for its own protocol

    def __post_init__(self) -> None:
        require(bool(self.sample_types), "sample_types", "names no kind of crop")

    @property
    def landmarks_only(self) -> bool:
        """Whether its pictures serve for landmarks alone."""
        return self.sample_types == ("landmark",)


@dataclass(frozen=True)
class DataSettings:
    """The pictures of a run."""

    folder: str
    train: dict[str, Source]
    validation: dict[str, Source] = field(default_factory=dict)
    validation_fraction: float = 0.1
    max_broken_fraction: float = 0.01
    min_face: int = 12

    def __post_init__(self) -> None:
        require(bool(self.train), "train", "names no source of pictures")
        require(0 < self.validation_fraction < 1, "validation_fraction", "must lie between 0 and 1")
        require(
            0 <= self.max_broken_fraction < 1, "max_broken_fraction", "must lie between 0 and 1"
        )
        require(self.min_face >= 1, "min_face", "must be at least 1 pixel")


@dataclass(frozen=True)
class LabelThresholds:
    """IoU with a face -> kind of crop (Zhang et al. 2016, section III.B)."""

    negative: float = 0.3
    part: float = 0.4
    positive: float = 0.65
    ignored: float = 0.3
    squared_faces: bool = True

    def __post_init__(self) -> None:
        ordered = 0 < self.negative <= self.part < self.positive < 1
        require(ordered, "positive", "must keep 0 < negative <= part < positive < 1")
        require(0 < self.ignored <= 1, "ignored", "must be a share, above 0 up to 1")


@dataclass(frozen=True)
class RecordSettings:
    """How many crops a net's records get, and where they come from."""

    negatives_per_image: int
    negatives_per_face: int
    positives_per_face: int
    parts_per_face: int
    landmarks_per_face: int
    proposal_thresholds: tuple[float, ...] = ()
    mined_negatives_per_image: int = 0
    mined_per_face: int = 0
    mined_by: str | None = None  # weights whose first net mines for this one, if it is the first
    scale_balance: float = 0.5
    max_shift: float = 0.2
    max_scale: float = 1.25
    max_rotation: float = 15.0
    images_per_shard: int = 64

    def __post_init__(self) -> None:
        for key, value in vars(self).items():
            if key.endswith(("_per_image", "_per_face")):
                require(value >= 0, key, "cannot be negative")
        require(self.images_per_shard >= 1, "images_per_shard", "must be at least 1")
        require(0 <= self.scale_balance <= 1, "scale_balance", "must lie between 0 and 1")
        require(0 <= self.max_shift < 1, "max_shift", "must lie between 0 and 1")
        require(1 < self.max_scale <= 4, "max_scale", "must be above 1, up to 4")
        turned = 0 <= self.max_rotation <= 180
        require(turned, "max_rotation", "must lie between 0 and 180 degrees")
        inside = all(0 < t < 1 for t in self.proposal_thresholds)
        require(inside, "proposal_thresholds", "must lie between 0 and 1")


@dataclass(frozen=True)
class AugmentSettings:
    """Photometric changes, each drawn anew for every crop of every batch."""

    brightness: float = 0.2
    contrast: float = 0.3
    saturation: float = 0.4
    hue: float = 0.1
    channel_gain: float = 0.0
    grayscale: float = 0.1
    monochrome: float = 0.0
    blur: float = 0.1
    downscale: float = 0.0
    noise: float = 0.0
    occlusion: float = 0.0
    hflip: bool = True

    def __post_init__(self) -> None:
        for key, value in vars(self).items():
            require(0 <= value <= 1, key, "must lie between 0 and 1")


@dataclass(frozen=True)
class TrainSettings:
    """How one net is trained."""

    steps: int
    batch: int
    batch_fractions: tuple[float, float, float, float]  # in the order of SAMPLE_TYPES
    loss_weights: tuple[float, float, float]  # class, box, landmarks
    learning_rate: float = 0.001
    final_learning_rate: float = 0.00001
    warmup_steps: int = 200
    ohem_ratio: float = 0.7
    box_beta: float | None = None  # null: squared distance, as in the paper
    landmark_beta: float | None = None
    ema_decay: float = 0.0
    steps_per_epoch: int = 1000
    false_positive_rate: float = 0.01
    init: str | None = None  # a weights file of any known layout to start from
    frozen: tuple[str, ...] = ()  # layers and heads that stay as they are in init
    init_average: float = 0.0  # of init in the average with it that is kept
    score_shift: float = 0.0  # added to the log odds of a face in what is kept
    landmark_shift: float = 0.0  # added to each coordinate in what is kept, in sides of the crop
    teacher: str | None = None  # a weights file of any known layout to learn from beside labels
    distillation_weight: float = 0.5  # of what is learned, where there is a label too
    augment: AugmentSettings = field(default_factory=AugmentSettings)

    def __post_init__(self) -> None:
        least = 1 if self.init is None else 0  # 0: the net is taken over as it is
        require(self.steps >= least, "steps", "must be at least 1, or 0 where init is set")
        require(
            not self.frozen or self.init is not None, "frozen", "needs init: random layers learn"
        )
        require(self.steps_per_epoch >= 1, "steps_per_epoch", "must be at least 1")
        require(self.batch >= 8, "batch", "must be at least 8")
        require(min(self.batch_fractions) >= 0, "batch_fractions", "cannot be negative")
        require(abs(sum(self.batch_fractions) - 1) < 1e-6, "batch_fractions", "must add up to 1")
        require(
            min(self.batch_fractions[:2]) > 0, "batch_fractions", "need positives and negatives"
        )
        require(min(self.loss_weights) >= 0, "loss_weights", "cannot be negative")
        require(0 < self.learning_rate <= 1, "learning_rate", "must lie between 0 and 1")
        below = 0 < self.final_learning_rate <= self.learning_rate
        require(below, "final_learning_rate", "must lie between 0 and learning_rate")
        require(0 < self.ohem_ratio <= 1, "ohem_ratio", "must lie between 0 and 1")
        require(0 <= self.ema_decay < 1, "ema_decay", "must lie between 0 and 1")
        require(self.warmup_steps >= 0, "warmup_steps", "cannot be negative")
        for key in ("box_beta", "landmark_beta"):
            beta = getattr(self, key)
            require(beta is None or beta > 0, key, "must be above 0, or null")
        require(0 <= self.init_average < 1, "init_average", "must lie between 0 and 1")
        given = not self.init_average or self.init is not None
        require(given, "init_average", "needs init: there is nothing else to average with")
        require(abs(self.landmark_shift) <= 0.1, "landmark_shift", "must lie between -0.1 and 0.1")
        require(
            0 < self.distillation_weight <= 1, "distillation_weight", "must lie between 0 and 1"
        )
        require(abs(self.score_shift) <= 10, "score_shift", "must lie between -10 and 10")
        rate = self.false_positive_rate
        require(0 < rate < 1, "false_positive_rate", "must lie between 0 and 1")


@dataclass(frozen=True)
class NetSettings:
    """One net of the cascade: what it is, what its records hold, how it is trained."""

    net: Net
    records: RecordSettings
    train: TrainSettings

    def __post_init__(self) -> None:
        exact = not self.net.convolutional or self.net.size == self.net.sees
        problem = f"must be what an output of these layers sees: {self.net.sees} pixels"
        require(exact, "net.size", problem)
        known = [*self.net.named, *self.net.heads]
        for name in self.train.frozen:
            near = difflib.get_close_matches(name, known, 2, 0.5) or known
            require(name in known, "train.frozen", f"knows no {name}; near: {', '.join(near)}")
        learning = set(known) - set(self.train.frozen)
        problem = "leaves nothing to train: take the net over with steps: 0"
        require(bool(learning), "train.frozen", problem)


@dataclass(frozen=True)
class ExportSettings:
    """Which files the trained nets must fit; a recipe that cannot is refused at its first stage."""

    layout: Literal["ipazc", "own"] = "ipazc"  # own: our detector alone, with any layers


@dataclass(frozen=True)
class Settings:
    """One recipe."""

    data: DataSettings
    pnet: NetSettings
    rnet: NetSettings
    onet: NetSettings
    labels: LabelThresholds = field(default_factory=LabelThresholds)
    detector: DetectorSettings = field(default_factory=DetectorSettings)
    export: ExportSettings = field(default_factory=ExportSettings)
    seed: int = 1

    def __post_init__(self) -> None:
        require(0 <= self.seed < 2**31, "seed", "must lie between 0 and 2147483647")
        for place, name in enumerate(NETS):
            records = self.stage(name).records
            own = records.mined_by is not None
            problem = "is for the first net; this one is mined by the run's nets before it"
            require(place == 0 or not own, f"{name}.records.mined_by", problem)
            wanted, given = place or int(own), len(records.proposal_thresholds)
            problem = f"needs {wanted} values, one for each net that mines; there are {given}"
            require(given == wanted, f"{name}.records.proposal_thresholds", problem)
            over_pictures = self.stage(name).net.convolutional
            problem = "hold a dense one, but the first net runs over whole pictures"
            require(place > 0 or over_pictures, f"{name}.net.layers", problem)
            problem = "hold no dense one: only the first net runs over whole pictures"
            require(place == 0 or not over_pictures, f"{name}.net.layers", problem)
        last = NETS[-1]
        problem = "must be true: the faces' landmarks come from this net"
        require(self.stage(last).net.landmarks, f"{last}.net.landmarks", problem)

    def stage(self, name: NetName) -> NetSettings:
        """The part of the recipe that describes one net."""
        stage: NetSettings = getattr(self, name)
        return stage
