"""The HTML page of a report: contents of its sections, rendered by `report.html.jinja`.

The page is one file with all images inside, so that it can be mailed or opened anywhere.
"""

import base64
import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any, NamedTuple

import jinja2

from evaluation import error_analysis, plots, visualization
from evaluation.error_analysis import DetectionError
from evaluation.figures import as_rows, confidence, figures
from evaluation.metrics import BoxScore, LandmarkScore, Score
from evaluation.protocol import MIN_OVERLAP
from evaluation.wording import plural, with_object
from mtcnn_detector.net import NETS

TEMPLATE = Path(__file__).with_name("report.html.jinja")
MAX_TILES, MAX_PER_IMAGE = 12, 3  # shown of each span of sizes

Table = tuple[list[str], list[list[str]]]  # header and rows


class DataSource(NamedTuple):
    """One data set of the report."""

    name: str
    images: int
    labels: str  # its labels file


class Plot(NamedTuple):
    """A plot as PNG; the first of a source has the heading of them all."""

    heading: str
    png: bytes
    description: str


class Tile(NamedTuple):
    """A small image with lines of text below; the first line is printed bold."""

    jpeg: bytes
    lines: Sequence[str]
    path: Path  # of the whole image


class Group(NamedTuple):
    """Tiles of the errors in one span of sizes, of so many in total."""

    label: str
    total: int
    tiles: list[Tile]


class Training(NamedTuple):
    """The plots of a run's trainings, by net."""

    label: str  # of its weights
    plots: dict[str, bytes]  # PNG


class ErrorSection(NamedTuple):
    """Missed faces and false alarms on one data set, of the first weights."""

    name: str
    missed_table: Table
    missed: list[Group]
    best_f1: str  # F1 and the confidence that reaches it, in words; empty where nothing is found
    alarm_table: Table
    alarms: list[Group]
    rescued: int | None  # missed faces that the other weights find; None without other weights
    lost_by_other: int  # faces found that the other weights miss


def render(scores: Mapping[str, Score], sheet: bytes | None, **header: Any) -> str:
    """The page as HTML.

    Args:
        scores: The results by the labels of the weights; errors are shown of the first.
        sheet: A JPEG image of detections, or None.
        header: What the head of the page says: `title`, `runtime`, `detector` (its settings),
            `weights` (label -> path) and `sources` (a list of `DataSource`).
    """
    environment = jinja2.Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    environment.filters["base64"] = lambda content: base64.b64encode(content).decode("ascii")
    first, *others = scores.values()
    other = others[0].boxes if others else {}
    columns = {label: figures(score) for label, score in scores.items()}
    return environment.from_string(TEMPLATE.read_text(encoding="utf-8")).render(
        **header,
        min_overlap=MIN_OVERLAP,
        tile_size=visualization.TILE,
        figures=as_rows(columns),
        noun=first.object,
        nouns=plural(first.object),
        plots=list(_plots(scores)) if plots.available() else [],
        plots_missing=plots.MISSING,
        trainings=[_training(label, path) for label, path in header["weights"].items()],
        sections=[
            _errors(name, first, boxes, other.get(name)) for name, boxes in first.boxes.items()
        ],
        landmarks={name: _worst_landmarks(one) for name, one in first.landmarks.items()},
        sheet=sheet,
    )


def _training(label: str, weights: Path) -> Training:
    """The curves that the trainings of a run drew; none for weights that lie in no run."""
    run = weights if (weights / NETS[0]).is_dir() else weights.parent
    files = {net: run / net / "curves.png" for net in NETS}
    return Training(label, {net: f.read_bytes() for net, f in files.items() if f.is_file()})


def _plots(scores: Mapping[str, Score]) -> Iterator[Plot]:
    first = next(iter(scores.values()))
    for name in first.boxes:
        yield _plot(f"{name}: precision and recall", plots.precision_recall, scores, name)
        yield _plot("", plots.recall_by_size, scores, name)
    for name in first.landmarks:
        yield _plot(f"{name}: landmarks", plots.landmark_errors, scores, name)


def _plot(
    heading: str,
    draw: Callable[[Mapping[str, Score], str, IO[bytes]], None],
    scores: Mapping[str, Score],
    name: str,
) -> Plot:
    content = io.BytesIO()
    draw(scores, name, content)
    return Plot(heading, content.getvalue(), f"{name}: {draw.__name__.replace('_', ' ')}")


def _errors(name: str, score: Score, boxes: BoxScore, other: BoxScore | None) -> ErrorSection:
    f1, threshold = boxes.curves["plain"].best_f1()
    noun = score.object
    missed = error_analysis.missed_faces(boxes, other)
    alarms = error_analysis.false_alarms(boxes, other)
    missed_by_other = error_analysis.missed_faces(other, boxes) if other else []
    return ErrorSection(
        name,
        _kinds(missed, noun),
        _groups(missed, _describe_miss, noun),
        f"{f1:.3f} at {confidence(threshold)}" if f1 else "",
        _kinds(alarms, noun),
        _groups(alarms, _describe_alarm, noun),
        sum(miss.other_score > 0 for miss in missed) if other else None,
        sum(miss.other_score > 0 for miss in missed_by_other),
    )


def _kinds(errors: Sequence[DetectionError], noun: str) -> Table:
    header, rows = error_analysis.count_kinds(errors)
    return [with_object(cell, noun) for cell in header], rows


def _groups(
    errors: Sequence[DetectionError],
    describe: Callable[[DetectionError], list[str]],
    noun: str,
) -> list[Group]:
    return [
        Group(
            label,
            len(within),
            [
                _error_tile(error, [with_object(line, noun) for line in describe(error)])
                for error in error_analysis.sample(within, MAX_TILES, MAX_PER_IMAGE)
            ],
        )
        for label, within in error_analysis.by_size(errors).items()
    ]


def _error_tile(error: DetectionError, lines: list[str]) -> Tile:
    other = [f"the other weights: {error.other_score:.3f}"] if error.other_score else []
    jpeg = visualization.as_jpeg(visualization.error_tile(error))
    return Tile(jpeg, [*lines, *other], error.annotation.image)


def _describe_miss(miss: DetectionError) -> list[str]:
    near = [f"IoU {miss.overlap:.2f} at {miss.score:.3f}"] if miss.score else []
    return [f"{miss.side:.0f} px: {miss.kind}", *near]


def _describe_alarm(alarm: DetectionError) -> list[str]:
    near = [f"IoU {alarm.overlap:.2f}"] if alarm.overlap >= error_analysis.NEAR else []
    return [f"{alarm.score:.3f}, {alarm.side:.0f} px", ", ".join([alarm.kind, *near])]


def _worst_landmarks(score: LandmarkScore) -> list[Tile]:
    errors = score.errors.errors
    found = sorted(
        (face for face in score.faces if face.key in errors), key=lambda face: -errors[face.key]
    )
    return [
        Tile(
            visualization.as_jpeg(visualization.landmarks_tile(face)),
            [f"error {100 * errors[face.key]:.1f} %"],
            face.annotation.image,
        )
        for face in found[:MAX_TILES]
    ]
