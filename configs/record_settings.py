"""Settings of the data: sources of images, labels of crops, numbers of records."""

from dataclasses import dataclass, field, replace
from pathlib import PurePosixPath
from typing import Literal

from configs.fields import check_intervals, setting
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
        "numbers of a box, where the format leaves them open: a corner, width and height (xywh) or "
        "two corners (xyxy), in pixels or as fractions of the image's size",
        default=None,
    )
    first_pixel: Literal[0, 1] | None = setting(
        "what the annotations call the first pixel's column and row: 1 where they come from "
        "MATLAB; null: 0",
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
        check_intervals(self)

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
    landmarks: bool = setting(
        "false: no net learns landmarks, whatever the labels hold; their fraction of each batch "
        "goes to the other types, sources of landmarks alone are left out, and faces are found "
        "without landmarks unless the last net's `init` has a head for them",
        default=True,
    )
    min_face: int = setting(
        "px, longer side; smaller faces are neither faces nor background", "[1, inf)", 16
    )

    def __post_init__(self) -> None:
        require(bool(self.train), "train", "names no source of images")
        plain = all(PurePosixPath(name).parts == (name,) for name in self.train)  # begin keys
        require(plain, "train", "must name sources by words without a slash")
        problem = "cannot be false: all sources of data.train are for landmarks alone"
        require(self.landmarks or not self.landmarks_only, "landmarks", problem)
        check_intervals(self)

    @property
    def landmarks_only(self) -> bool:
        """Whether no image has all its faces labelled: they serve for landmarks alone."""
        return all(source.landmarks_only for source in self.train.values())


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
    context: float = setting(
        "side of the square that the net looks at, in longer sides of the face; the net before it "
        "is taught such boxes",
        "[1, 2]",
    )
    max_rotation: float = setting("degrees; largest rotation of landmark crops", "[0, 180]")
    margin: float = setting(
        "stored around each crop, in its sides: room for `train.affine`", "[0, 1]"
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
    max_gigabytes: float = setting(
        "memory for the crops while the net is trained; fewer are cut where they would not fit",
        "(0, inf)",
        4.8,  # a training needs 1.1 to 1.6 besides
    )
    images_per_shard: int = setting("images whose crops share a TFRecord file", "[1, inf)", 64)

    def __post_init__(self) -> None:
        check_intervals(self)

    def times(self, weight: float) -> "RecordSettings":
        """The same with all numbers of crops multiplied, each at least 1 where it was above 0."""
        counts = {k: v for k, v in vars(self).items() if k.endswith(("_per_image", "_per_face"))}
        return replace(self, **{k: max(round(weight * v), min(v, 1)) for k, v in counts.items()})
