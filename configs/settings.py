"""Settings of a run as typed, frozen dataclasses: the one source of defaults and ranges.

A setting has a default here if it is the same for all nets, and none if a recipe has to choose it.
`docs/settings.md` is generated from these classes (`make settings-doc`).
"""

import difflib
from dataclasses import dataclass, field, replace
from typing import Literal

from configs.fields import check_intervals, setting
from mtcnn_detector.net import NETS, Net, NetName
from mtcnn_detector.settings import DetectorSettings
from mtcnn_detector.validation import require

SampleType = Literal["positive", "negative", "part", "landmark"]
LabelFormat = Literal[
    "wider", "retinaface", "mtfl", "celeba",
    "coco", "voc", "yolo", "labelme", "cvat", "via", "csv", "auto",
]  # fmt: skip
COLUMNS = (
    *("path", "x1", "y1", "x2", "y2", "x", "y", "width", "height", "cx", "cy"),
    *("bbox", "category", "image_width", "image_height"),
)
SAMPLE_TYPES: tuple[SampleType, ...] = ("positive", "negative", "part", "landmark")


@dataclass(frozen=True)
class Source:
    """One annotated set of images; paths are relative to `data.folder`."""

    format: LabelFormat = setting("format of the annotations; `auto` recognises it")
    labels: str | tuple[str, ...] = setting("file or folder of annotations, or a list of such")
    images: str = setting("folder to which the annotations' image paths are relative")
    landmarks: str | None = setting(
        "second annotation file, for the five landmarks (RetinaFace's `label.txt`)", default=None
    )
    sample_types: tuple[SampleType, ...] = setting(
        "types of crops cut from it; no negatives where other faces stand unlabelled",
        default=SAMPLE_TYPES,
    )
    optional: bool = setting(
        "true: a warning instead of an error where it is not on this machine", default=False
    )
    sample_weight: float = setting(
        "factor on the numbers of crops that the recipe asks for",
        "(0, 10]",
        1.0,
        problem="must be above 0, up to 10",
    )
    use_landmarks: bool = setting(
        "false: its landmarks are not learned, because they are not good enough", default=True
    )
    detections: str | None = setting(
        "JSON file of a strong detector's faces in its images: unlabelled ones become ignored "
        "regions, faces without landmarks get its landmarks",
        default=None,
    )
    wider_ground_truth: str | None = setting(
        "folder of WIDER FACE's .mat files, for its easy, medium and hard figures", default=None
    )

    categories: tuple[str, ...] | None = setting(
        "categories of objects that are faces; null: the one that the annotations have",
        default=None,
    )
    boxes: Literal["xywh", "xyxy", "fractions", "fractions_xyxy"] | None = setting(
        "numbers of a box, where the format leaves them open; fractions are of the image's size",
        default=None,
    )
    exif: Literal["upright", "stored"] | None = setting(
        "image whose pixels the annotations count: rotated as its EXIF data say, or as it is "
        "stored; null: by the sizes in the annotations",
        default=None,
    )
    landmark_names: tuple[str, ...] | None = setting(
        "names in the annotations of left eye, right eye, nose, left and right mouth corner, left "
        "being the image's; null: the usual names",
        default=None,
    )
    columns: dict[str, str] | None = setting(
        "names of a table's columns, by meaning: path, x1, y1, x2, y2, x, y, width, height, cx, "
        "cy, bbox, category, image_width, image_height",
        default=None,
    )
    split: Literal["train", "validation"] | None = setting(
        "part that all its images belong to; null: the annotations' own split, or by their names",
        default=None,
    )

    def __post_init__(self) -> None:
        require(bool(self.sample_types), "sample_types", "names no kind of crop")
        require(bool(self.label_files), "labels", "names no file")
        five = self.landmark_names is None or len(set(self.landmark_names)) == 5
        require(five, "landmark_names", "must be five different names")
        unknown = set(self.columns or ()) - set(COLUMNS)
        require(not unknown, "columns", f"may name {', '.join(COLUMNS)}")

    @property
    def label_files(self) -> tuple[str, ...]:
        """The files and folders of annotations."""
        return (self.labels,) if isinstance(self.labels, str) else self.labels

    @property
    def landmarks_only(self) -> bool:
        """Whether its images serve for landmarks alone."""
        return self.sample_types == ("landmark",)


@dataclass(frozen=True)
class DataSettings:
    """The annotated images of a run."""

    folder: str = setting("folder of the data; the sources' paths are relative to it")
    train: dict[str, Source] = setting(
        "sources to train on, by name; they replace the base's as a whole"
    )
    validation: dict[str, Source] = field(
        default_factory=dict,
        metadata={"meaning": "sources for `make evaluate`, by name; no stage trains on them"},
    )
    validation_fraction: float = setting(
        "fraction of the training images, chosen by name, that is held out from training",
        "(0, 1)",
        0.1,
    )
    max_broken_fraction: float = setting(
        "fraction of the images that may be missing or unreadable before a stage stops",
        "[0, 1)",
        0.01,
    )
    min_survival: float = setting(
        "of the held-out faces must survive a net; under it the next stage stops", "[0, 1]", 0.2
    )
    object: str = setting("what is detected, a noun for reports", default="face")
    min_face: int = setting(
        "px, longer side; smaller faces are neither faces nor background", "[1, inf)", 16
    )

    def __post_init__(self) -> None:
        require(bool(self.train), "train", "names no source of images")
        check_intervals(self)


@dataclass(frozen=True)
class LabelThresholds:
    """IoU with the nearest face -> type of crop (Zhang et al. 2016, section III.B)."""

    negative: float = setting("IoU below which a crop is negative", "(0, 1)", 0.3)
    part: float = setting("IoU from which a crop is part of a face", "(0, 1)", 0.4)
    positive: float = setting("IoU from which a crop is positive", "(0, 1)", 0.65)
    ignored: float = setting(
        "overlap (of the smaller) with an ignored face from which a crop is no negative",
        "(0, 1]",
        0.3,
        problem="must be a share, above 0 up to 1",
    )
    squared_faces: bool = setting(
        "true: IoU with the square about a face, which is what the cascade cuts; false: with the "
        "face itself, as in the paper, which a narrow face's windows hardly ever reach",
        default=True,
    )

    def __post_init__(self) -> None:
        ordered = 0 < self.negative <= self.part < self.positive < 1
        require(ordered, "positive", "must keep 0 < negative <= part < positive < 1")
        check_intervals(self)


@dataclass(frozen=True)
class RecordSettings:
    """How many crops a net's records get, and where they come from."""

    negatives_per_image: int = setting("negatives anywhere in the image", "[0, inf)")
    negatives_per_face: int = setting("negatives near a face", "[0, inf)")
    positives_per_face: int = setting("positives", "[0, inf)")
    parts_per_face: int = setting("parts", "[0, inf)")
    landmarks_per_face: int = setting("landmark crops", "[0, inf)")
    mined_negatives_per_image: int = setting(
        "false proposals of the nets before, the highest-scoring ones", "[0, inf)"
    )
    mined_per_face: int = setting(
        "positives, parts and landmark crops among the proposals, of each", "[0, inf)"
    )
    proposal_thresholds: tuple[float, ...] = setting(
        "score thresholds of the nets before when they propose, one for each", "(0, 1)", ()
    )
    mined_by: str | None = setting(
        "weights file whose P-Net proposes for P-Net's own records; for P-Net only", default=None
    )
    scale_balance: float = setting(
        "0: face sizes as they come; 1: as many crops from every octave of sizes", "[0, 1]", 0.5
    )
    max_shift: float = setting(
        "largest shift of a crop's centre, in sides of the face", "[0, 1)", 0.2
    )
    max_scale: float = setting(
        "largest ratio of a crop's side to the face's",
        "(1, 4]",
        1.25,
        problem="must be above 1, up to 4",
    )
    max_rotation: float = setting("degrees; largest rotation of landmark crops", "[0, 180]", 15.0)
    context: float = setting(
        "side of the square that the net looks at, in longer sides of the face; the net before it "
        "is taught such boxes",
        "[1, 2]",
        1.0,
    )
    margin: float = setting(
        "stored around each crop, in its sides: room for `train.affine`", "[0, 1]", 0.0
    )
    images_per_shard: int = setting("images whose crops share a TFRecord file", "[1, inf)", 64)

    def __post_init__(self) -> None:
        check_intervals(self)

    def times(self, weight: float) -> "RecordSettings":
        """The same with all numbers of crops multiplied, each at least 1 where it was above 0."""
        counts = {k: v for k, v in vars(self).items() if k.endswith(("_per_image", "_per_face"))}
        return replace(self, **{k: max(round(weight * v), min(v, 1)) for k, v in counts.items()})


@dataclass(frozen=True)
class AugmentSettings:
    """Photometric changes and flips, drawn anew for every crop of every batch."""

    downscale: float = setting(
        "fraction at half the resolution, as small faces are enlarged", "[0, 1]"
    )
    noise: float = setting("fraction with sensor noise", "[0, 1]")
    brightness: float = setting("largest change", "[0, 1]", 0.12)
    contrast: float = setting("largest change", "[0, 1]", 0.35)
    saturation: float = setting("largest change", "[0, 1]", 0.5)
    hue: float = setting("largest change", "[0, 1]", 0.1)
    channel_gain: float = setting("largest change of a colour channel's gain", "[0, 1]", 0.25)
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

    probability: float = setting("fraction of the crops", "[0, 1]", 0.0)
    shift: float = setting(
        "largest, in sides of the window, in each direction; half of it for negatives",
        "[0, 1)",
        0.0,
    )
    scale: float = setting("largest factor on the window's side, and its inverse", "[1, 2]", 1.0)
    rotation: float = setting("largest, degrees, in both directions", "[0, 180]", 0.0)
    landmark_rotation: float = setting("the same, of landmark crops", "[0, 180]", 0.0)

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
    iou_scores: tuple[float, float] | None = setting(
        "score taught to a crop about a face: 0 at the first IoU with it, 1 from the second on, "
        "for parts too; null: 1 for positives, and parts teach none",
        "[0, 1]",
        None,
        problem="must be two rising values from 0 to 1, or null",
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
    score_shift: float = setting(
        "added to the log odds of a face in the weights that are kept: moves what the thresholds "
        "mean",
        "[-10, 10]",
        0.0,
    )
    box_scale: float = setting(
        "of the boxes in the weights that are kept, about their centres", "[0.5, 2]", 1.0
    )
    landmark_shift: float = setting(
        "added to each coordinate in the weights that are kept, in sides of the crop",
        "[-0.1, 0.1]",
        0.0,
    )
    teacher: str | None = setting(
        "weights file of any known layout whose outputs are learned beside the labels", default=None
    )
    distillation_weight: float = setting(
        "weight of the teacher's outputs in the loss; 1 for the class of crops without a label",
        "(0, 1]",
        0.5,
    )

    affine: AffineSettings = field(
        default_factory=AffineSettings, metadata={"meaning": "windows drawn anew"}
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
        low, high = self.iou_scores or (0.0, 1.0)
        problem = "must be two rising values from 0 to 1"
        require(low < high, "iou_scores", problem)
        problem = "needs init: random layers learn"
        require(not self.frozen or self.init is not None, "frozen", problem)
        problem = "needs init: there is nothing else to average with"
        require(not self.init_average or self.init is not None, "init_average", problem)

    def _check_batch(self) -> None:
        fractions = self.batch_fractions
        require(abs(sum(fractions) - 1) < 1e-6, "batch_fractions", "must add up to 1")
        require(min(fractions[:2]) > 0, "batch_fractions", "need positives and negatives")
        for sample_type, count in self.sample_counts.items():
            fraction = fractions[SAMPLE_TYPES.index(sample_type)]
            problem = f"give no {sample_type} crop in a batch of {self.batch}, but ask for some"
            require(count > 0 or not fraction, "batch_fractions", problem)

    @property
    def sample_counts(self) -> dict[SampleType, int]:
        """How many crops of each type a batch has; the remainder of rounding are negatives."""
        pairs = zip(SAMPLE_TYPES, self.batch_fractions, strict=True)
        counts = {sample_type: int(fraction * self.batch) for sample_type, fraction in pairs}
        counts["negative"] += self.batch - sum(counts.values())
        return counts


@dataclass(frozen=True)
class NetSettings:
    """One net of the cascade: its layers, its records and its training."""

    net: Net
    records: RecordSettings
    train: TrainSettings

    @property
    def stored_size(self) -> int:
        """Pixels of a side of the stored crops: the window and the margin around it."""
        return self.net.size + 2 * round(self.records.margin * self.net.size)

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

    layout: Literal["ipazc", "own"] = setting(
        "ipazc: the layers of the mtcnn package; own: any layers, for our detector alone",
        default="ipazc",
    )


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
    seed: int = setting("from which everything random follows", "[0, 2147483647]", 1)

    def __post_init__(self) -> None:
        check_intervals(self)
        for place, name in enumerate(NETS):
            self._check_place(place, name)
        last = NETS[-1]
        problem = "must be true: the faces' landmarks come from this net"
        require(self.stage(last).net.landmarks, f"{last}.net.landmarks", problem)

    def _check_place(self, place: int, name: NetName) -> None:
        """Refuse what does not fit a net's place in the cascade, counted from 0."""
        records, convolutional = self.stage(name).records, self.stage(name).net.convolutional
        own = records.mined_by is not None
        problem = "is for the first net; this one is mined by the run's nets before it"
        require(place == 0 or not own, f"{name}.records.mined_by", problem)
        expected, found = place or int(own), len(records.proposal_thresholds)
        problem = f"needs {expected} values, one for each net that mines; there are {found}"
        require(found == expected, f"{name}.records.proposal_thresholds", problem)
        problem = "hold a dense one, but the first net runs over whole images"
        require(place > 0 or convolutional, f"{name}.net.layers", problem)
        problem = "hold no dense one: only the first net runs over whole images"
        require(place == 0 or not convolutional, f"{name}.net.layers", problem)

    def box_target(self, name: NetName) -> float:
        """Sides of the boxes that a net is taught, in faces: the next net's context."""
        place = NETS.index(name) + 1
        return self.stage(NETS[place]).records.context if place < len(NETS) else 1.0

    def stage(self, name: NetName) -> NetSettings:
        """The part of the recipe that describes one net."""
        stage: NetSettings = getattr(self, name)
        return stage
