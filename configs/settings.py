"""One recipe as typed, frozen dataclasses: the one source of defaults and ranges.

A setting has a default here if it is the same for all nets, and none if a recipe has to choose it.
`docs/settings.md` is generated from these classes (`make settings-doc`).
"""

import difflib
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from configs.fields import check_intervals, setting
from configs.record_settings import DataSettings, LabelThresholds, RecordSettings
from configs.train_settings import TrainSettings
from mtcnn_detector.net import NETS, Net, NetName
from mtcnn_detector.settings import DetectorSettings
from mtcnn_detector.validation import require


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
        faces, background = self.train.batch_fractions[:2]
        problem = "need positives and negatives, unless nothing but landmarks learns"
        enough = min(faces, background) > 0 or learning == {"landmarks"}
        require(enough, "train.batch_fractions", problem)


@dataclass(frozen=True)
class ExportSettings:
    """The exported file: which layout the nets must fit, and how their outputs are calibrated.

    A recipe whose nets cannot fit the layout is refused at its first stage. The shifts are for
    detectors whose thresholds are fixed; mining and the recall of a run are without them.
    """

    layout: Literal["ipazc", "own"] = setting(
        "ipazc: the layers of the mtcnn package; own: any layers, for our detector alone",
        default="ipazc",
    )
    score_shift: tuple[float, float, float] = setting(
        "added to the log odds of a face, for each net: moves what the thresholds mean",
        "[-10, 10]",
        (0.0, 0.0, 0.0),
    )
    landmark_shift: float = setting(
        "added to each coordinate of the last net's landmarks, in sides of the crop",
        "[-0.1, 0.1]",
        0.0,
    )

    def __post_init__(self) -> None:
        check_intervals(self)


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
        problem = (
            "must be true: the faces' landmarks come from this net; data.landmarks: false trains "
            "all nets without"
        )
        given = self.for_net(last).net.landmarks or not self.data.landmarks
        require(given, f"{last}.net.landmarks", problem)

    def _check_place(self, place: int, name: NetName) -> None:
        """Refuse what does not fit a net's place in the cascade, counted from 0."""
        records, convolutional = self.for_net(name).records, self.for_net(name).net.convolutional
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
        return self.for_net(NETS[place]).records.context if place < len(NETS) else 1.0

    def for_net(self, name: NetName) -> NetSettings:
        """The part of the recipe that describes one net."""
        net_settings: NetSettings = getattr(self, name)
        return net_settings

    def with_net(self, name: NetName, net_settings: NetSettings) -> "Settings":
        """The recipe with another part for one net."""
        part: dict[str, Any] = {name: net_settings}
        return replace(self, **part)
