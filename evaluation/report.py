"""The report of an evaluation: an HTML page, metrics as Markdown and JSON, a sheet of images."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from configs.settings import Settings
from evaluation import detections, figures, metrics, plots, report_page, sweep, visualization
from evaluation.data_sets import HELD_OUT, file_stem
from evaluation.metrics import Score
from evaluation.report_page import DataSource
from mtcnn_detector.files import write_atomically
from pipeline import folders, manifest


@dataclass(frozen=True)
class Evaluation:
    """Scores of weights files by their labels, and how they were measured."""

    weights: Mapping[str, Path]
    scores: Mapping[str, Score]
    settings: Settings
    runtime: str  # in words
    run: str  # name of the run, for the names of files


def make(
    settings: Settings, files: Mapping[str, Path], folder: Path, package: Path | None = None
) -> dict[str, figures.Figures]:
    """Evaluate weights files; write the report into `folder` and print where.

    Detections are logged below `folder` and resumed; it is locked meanwhile.

    Args:
        settings: the recipe: its validation images, or the held-out ones, and its detector.
        files: weights files by the labels of their columns, the one in question first.
        folder: where the report goes, in the run's folder.
        package: the folder of the original mtcnn 0.1.1 to run in place of our detector.

    Returns:
        The metrics as they are printed, by label, then by name.

    Raises:
        UserError: a weights file cannot be read; or there are no labelled images.
    """
    with folders.locked(folder):
        return _make(settings, files, folder, package)


def _make(
    settings: Settings, files: Mapping[str, Path], folder: Path, package: Path | None
) -> dict[str, figures.Figures]:
    runtime = detections.package_runtime(package) if package else detections.our_runtime()
    scores = {}
    for label, weights in files.items():
        print(f"{label}: {weights}")
        detector = detections.lazy_detector(runtime, weights, settings.detector)
        log = detections.log_folder(folder / "logs", weights, settings.detector, runtime)
        scores[label] = metrics.score(settings, detector, log)
    description = f"mtcnn 0.1.1 from {package}" if package else "Our detector"
    target = write(Evaluation(files, scores, settings, description, folder.parent.name), folder)
    markdown = target.with_name(target.name.removesuffix(".html") + ".md")
    print(f"{markdown.read_text(encoding='utf-8')}{markdown}\n{target}")
    return {label: figures.figures(score) for label, score in scores.items()}


def make_sweep(
    settings: Settings, weights: Path, folder: Path, count: int, package: Path | None
) -> None:
    """Run or resume the sweep; write `sweep.md` and `sweep.png` into `folder` and print them.

    Args:
        settings: The recipe: its validation images and its detector's settings.
        weights: A file with all three nets.
        folder: Where the detections and the results go.
        count: Number of images, evenly spaced over all.
        package: The folder of the original mtcnn 0.1.1 to run in place of our detector.

    Raises:
        UserError: no source has labelled boxes.
    """
    runtime = detections.package_runtime(package) if package else detections.our_runtime()
    annotations = sweep.choose(settings, count)
    results = sweep.measure(settings.detector, runtime, weights, annotations, folder / "logs")
    opening = (
        f"{weights} on {len(annotations)} images; **bold**: the recipe's values. Settings were "
        "timed one after another, so their times also depend on the load of the machine."
    )
    text = f"{opening}\n\n{sweep.table(results)}"
    (folder / "sweep.md").write_text(text + "\n", encoding="utf-8")
    print(f"{text}\n{folder / 'sweep.md'}")
    if plots.available():
        plots.sweep(results, folder / "sweep.png")
        print(folder / "sweep.png")


def write(evaluation: Evaluation, folder: Path) -> Path:
    """Write the report into `folder`, as files that are named after the run and the data sets.

    `.html` is the page, `.md` and `.json` are the metrics, `.jpg` is a sheet of detections. An
    earlier report on the same data sets is replaced; a note is printed when its inputs were others.

    Returns:
        The page's path.
    """
    folder.mkdir(parents=True, exist_ok=True)
    sources = _sources(evaluation)
    stem = folder / file_stem(evaluation.run, *(source.name for source in sources))
    columns = {label: figures.figures(score) for label, score in evaluation.scores.items()}
    _write_json(evaluation, columns, sources, stem.with_name(stem.name + ".json"))
    markdown, sheet, target = (stem.with_name(stem.name + end) for end in (".md", ".jpg", ".html"))
    markdown.write_text(figures.table(columns) + "\n", encoding="utf-8")
    first = next(iter(evaluation.scores.values()))
    page = report_page.render(
        evaluation.scores,
        sheet.read_bytes() if visualization.draw_sheet(first, sheet) else None,
        title=f"Evaluation of {next(iter(columns))} on {', '.join(s.name for s in sources)}",
        runtime=evaluation.runtime,
        detector=evaluation.settings.detector,
        weights=evaluation.weights,
        sources=sources,
    )
    target.write_text(page, encoding="utf-8")
    return target


def _write_json(
    evaluation: Evaluation,
    columns: Mapping[str, figures.Figures],
    sources: Sequence[DataSource],
    target: Path,
) -> None:
    inputs = manifest.flatten(
        {
            "weights": {label: str(path) for label, path in evaluation.weights.items()},
            "runtime": evaluation.runtime,
            "detector": asdict(evaluation.settings.detector),
            "data": {source.name: source.labels for source in sources},
        }
    )
    if target.exists():
        before = json.loads(target.read_text(encoding="utf-8"))["inputs"]
        if changed := manifest.describe_changes(before, inputs):
            print(f"note: the report that was in {target.parent} is replaced ({changed}).")
    content = json.dumps({"inputs": inputs, "figures": columns}, indent=1) + "\n"
    write_atomically(target, content.encode())


def _sources(evaluation: Evaluation) -> list[DataSource]:
    first, data = next(iter(evaluation.scores.values())), evaluation.settings.data
    held_out = {name + HELD_OUT: source for name, source in data.train.items()}
    labels = {name: source.label_files for name, source in (held_out | data.validation).items()}
    return [
        DataSource(name, count, ", ".join(str(Path(data.folder) / f) for f in labels[name]))
        for name, count in first.images.items()
    ]
