"""Settings of the training of one net: batches, loss, schedule, augmentation, starting weights."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace

from configs.fields import check_intervals, setting
from configs.record_settings import SAMPLE_TYPES, SampleType
from mtcnn_detector.validation import require

REFERENCE = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*")  # module:function


@dataclass(frozen=True)
class AugmentSettings:
    """Photometric changes and flips, drawn anew for every crop of every batch."""

    downscale: float = setting(
        "fraction at half the resolution, as small faces are enlarged", "[0, 1]"
    )
    noise: float = setting("fraction with sensor noise", "[0, 1]")
    brightness: float = setting("largest change, as a fraction of 255", "[0, 1]", 0.12)
    contrast: float = setting("largest factor less 1, and its inverse", "[0, 1]", 0.35)
    saturation: float = setting("largest relative change", "[0, 1]", 0.5)
    hue: float = setting("largest change, in half turns of the colour circle", "[0, 1]", 0.1)
    channel_gain: float = setting(
        "largest factor of a colour channel less 1, and its inverse", "[0, 1]", 0.25
    )
    grayscale: float = setting("fraction without colours", "[0, 1]", 0.08)
    monochrome: float = setting("fraction in shades of one colour", "[0, 1]", 0.04)
    blur: float = setting("fraction blurred", "[0, 1]", 0.08)
    occlusion: float = setting("fraction partly covered by another crop", "[0, 1]", 0.1)
    hflip: bool = setting("mirror half of each batch", default=True)

    def __post_init__(self) -> None:
        check_intervals(self)


@dataclass(frozen=True)
class AffineSettings:
    """Geometric augmentation: windows drawn anew about the stored ones, in every batch."""

    probability: float = setting("fraction of the crops", "[0, 1]")
    landmark_rotation: float = setting(
        "largest of landmark crops, degrees, in both directions", "[0, 180]"
    )
    rotation: float = setting("the same, of other crops", "[0, 180]", 10.0)
    shift: float = setting(
        "largest, in sides of the window, in each direction; half of it for negatives",
        "[0, 1)",
        0.08,
    )
    scale: float = setting("largest factor on the window's side, and its inverse", "[1, 2]", 1.12)

    def __post_init__(self) -> None:
        check_intervals(self)


@dataclass(frozen=True)
class TrainSettings:
    """How one net is trained."""

    steps: int = setting(
        "training steps, one batch each; 0: the net of `init` is taken over as it is", "[0, inf)"
    )
    batch: int = setting("crops in a batch", "[8, inf)")
    batch_fractions: tuple[float, float, float, float] = setting(
        "fractions of positive, negative, part and landmark crops in a batch; add up to 1",
        "[0, inf)",
    )
    loss_weights: tuple[float, float, float] = setting(
        "weights of the class, box and landmark losses", "[0, inf)"
    )
    learning_rate: float = setting("learning rate after warm-up", "(0, 1]")
    steps_per_epoch: int = setting("steps between checkpoints, with a validation each", "[1, inf)")
    landmark_beta: float | None = setting(
        "landmarks: smooth L1 loss, quadratic below; null: squared distance",
        "(0, inf)",
        problem="must be above 0, or null",
    )
    augment: AugmentSettings = setting("changes of the crops")
    affine: AffineSettings = setting("windows drawn anew")
    max_passes: float | None = setting(
        "most passes over the positives (where a batch has none: landmark crops, else parts): cuts "
        "steps, warm-up and epochs in proportion; null: steps alone count",
        "(0, inf)",
        None,
        problem="must be above 0, or null",
    )
    box_beta: float | None = setting(
        "boxes: smooth L1 loss, quadratic below; null: squared distance, as in the paper",
        "(0, inf)",
        0.05,
        problem="must be above 0, or null",
    )
    final_learning_rate: float = setting(
        "learning rate at the last step (cosine decay)", "(0, 1]", 0.00001
    )
    warmup_steps: int = setting(
        "steps over which the learning rate rises to its full value; fewer than `steps`",
        "[0, inf)",
        500,
    )
    ohem_ratio: float = setting(
        "OHEM: fraction of the crops, those with the largest class losses, that is learned from",
        "(0, 1]",
        0.7,
    )
    ema_decay: float = setting(
        "decay of the exponential moving average of the weights; 0: none", "[0, 1)", 0.999
    )
    false_positive_rate: float = setting(
        "false positive rate at which the validation reports recall", "(0, 1)", 0.01
    )
    init: str | None = setting(
        "weights file of any known layout to start from; null: random weights", default=None
    )
    frozen: tuple[str, ...] = setting(
        "layers and heads that stay as they are in `init`, such as `[layer1, cls]`", default=()
    )
    init_average: float = setting(
        "weight of `init` in its average with the trained weights, which is kept", "[0, 1)", 0.0
    )
    box_scale: float = setting(
        "of the boxes in the weights that are kept, about their centres", "[0.5, 2]", 1.0
    )
    teacher: str | None = setting(
        "weights file of any known layout whose outputs are learned beside the labels", default=None
    )
    distillation_weight: float = setting(
        "weight of the teacher's outputs in the loss; 1 for the class of crops without a label",
        "(0, 1]",
        0.5,
    )

    callbacks: tuple[str, ...] = setting(
        "functions `module:function` that make further Keras callbacks, see `docs/python.md`",
        default=(),
    )
    loss: str | None = setting(
        "function `module:function` in place of the losses, see `docs/python.md`", default=None
    )
    augmentation: str | None = setting(
        "function `module:function` that changes each batch's crops, see `docs/python.md`",
        default=None,
    )

    def __post_init__(self) -> None:
        least = 1 if self.init is None else 0  # 0: the net is taken over as it is
        require(self.steps >= least, "steps", "must be at least 1, or 0 where init is set")
        check_intervals(self)
        problem = f"must be below steps, which is {self.steps}"
        require(self.warmup_steps < self.steps or not self.steps, "warmup_steps", problem)
        self._check_batch()
        below = self.final_learning_rate <= self.learning_rate
        require(below, "final_learning_rate", "must lie between 0 and learning_rate")
        problem = "needs init: random layers learn"
        require(not self.frozen or self.init is not None, "frozen", problem)
        problem = "needs init: there is nothing else to average with"
        require(not self.init_average or self.init is not None, "init_average", problem)
        for reference, key in self.custom_code.items():
            valid = REFERENCE.fullmatch(reference) is not None
            require(valid, key, "must name a function as module:function, such as my_code:focal")

    def _check_batch(self) -> None:
        fractions = self.batch_fractions
        require(abs(sum(fractions) - 1) < 1e-6, "batch_fractions", "must add up to 1")
        for sample_type, count in self.sample_counts.items():
            fraction = fractions[SAMPLE_TYPES.index(sample_type)]
            problem = f"give no {sample_type} crop in a batch of {self.batch}, but ask for some"
            require(count > 0 or not fraction, "batch_fractions", problem)

    def limited(self, crops: Mapping[SampleType, int]) -> "TrainSettings":
        """The same with no more steps than `max_passes` over these numbers of crops."""
        kinds: tuple[SampleType, ...] = ("positive", "landmark", "part", "negative")
        kind = next(kind for kind in kinds if self.sample_counts[kind])
        if self.max_passes is None or not self.steps:
            return self
        steps = max(round(self.max_passes * crops[kind] / self.sample_counts[kind]), 1)
        if steps >= self.steps:
            return self
        ratio = steps / self.steps
        warmup, epoch = round(ratio * self.warmup_steps), round(ratio * self.steps_per_epoch)
        return replace(
            self, steps=steps, warmup_steps=min(warmup, steps - 1), steps_per_epoch=max(epoch, 1)
        )

    @property
    def sample_counts(self) -> dict[SampleType, int]:
        """How many crops of each type a batch has; the remainder of rounding are negatives."""
        pairs = zip(SAMPLE_TYPES, self.batch_fractions, strict=True)
        counts = {sample_type: int(fraction * self.batch) for sample_type, fraction in pairs}
        counts["negative"] += self.batch - sum(counts.values())
        return counts

    @property
    def custom_code(self) -> dict[str, str]:
        """The user's own functions, as `module:function`, and the setting that names each."""
        named = dict.fromkeys(self.callbacks, "callbacks")
        named |= {self.loss: "loss"} if self.loss is not None else {}
        return named | (
            {self.augmentation: "augmentation"} if self.augmentation is not None else {}
        )
