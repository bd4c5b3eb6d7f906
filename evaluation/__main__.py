"""`python -m evaluation`: metrics of weights on labelled images, reports, detection."""

import argparse
from pathlib import Path

from evaluation import cli_inputs, detect
from mtcnn_detector.errors import UserError
from mtcnn_detector.net import NETS
from pipeline import cli, folders, run_recipe, tf_setup
from pipeline.cli import run_cli


def main() -> None:
    """Parse the command line and run the command."""
    arguments = _parser().parse_args()
    commands = {
        "detect": detect.detect,
        "recall": _recall,
        "rounds": _rounds,
        "score": _score,
        "sweep": _sweep,
    }
    commands[arguments.command](arguments)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m evaluation", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    detect.add_arguments(commands.add_parser("detect", help="faces in images, drawn and as JSON"))
    recall = commands.add_parser("recall", help="recall after each net of a run, by face size")
    recall.add_argument("net", choices=NETS, help="the last net to measure")
    score = commands.add_parser("score", help="a report on a weights file: metrics, curves, errors")
    sweep = commands.add_parser("sweep", help="effect of each setting of the detector")
    rounds = commands.add_parser("rounds", help="keep the weights of the best of a run's rounds")
    for command in (recall, rounds, score, sweep):
        cli.add_arguments(command)
    for command in (score, sweep):
        _add_inputs(command)
    score.add_argument(
        "--against",
        metavar="FILE",
        help="weights to compare with, or `none` (the ones mtcnn 0.1.1 ships, where found)",
    )
    sweep.add_argument(
        "--count", type=int, default=60, help="number of images, evenly spaced (%(default)s)"
    )
    return parser


def _add_inputs(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--weights", type=Path, metavar="FILE", help="default: the run's mtcnn_weights"
    )
    command.add_argument(
        "--data",
        type=Path,
        metavar="FOLDER",
        help="another data folder in place of the recipe's",
    )
    command.add_argument(
        "--labels", type=Path, metavar="FILE", help="own labels in place of the recipe's"
    )
    command.add_argument(
        "--images", type=Path, metavar="FOLDER", help="the images of --labels (beside them)"
    )
    command.add_argument(
        "--labels-format",
        metavar="FORMAT",
        help="format of --labels, such as coco or voc (recognised)",
    )
    command.add_argument(
        "--mtcnn",
        type=Path,
        metavar="FOLDER",
        help="run the original mtcnn 0.1.1 from this folder instead of our detector",
    )


def _recall(arguments: argparse.Namespace) -> None:
    run = cli.open_run(arguments)
    from evaluation.recall import write_report

    write_report(run.settings, arguments.net, run.folder)


def _rounds(arguments: argparse.Namespace) -> None:
    run = cli.open_run(arguments)
    from evaluation.rounds import keep_best

    with folders.locked(run.folder):
        keep_best(run.settings, run.folder, arguments.force)


def _score(arguments: argparse.Namespace) -> None:
    run = _run(arguments)
    files = cli_inputs.weights_files(_weights(arguments, run), arguments.against)
    if arguments.mtcnn:
        tf_setup.import_tensorflow()
    from evaluation import report

    report.make(run.settings, files, run.folder / "evaluation", arguments.mtcnn)


def _sweep(arguments: argparse.Namespace) -> None:
    run = _run(arguments)
    (weights,) = cli_inputs.weights_files(_weights(arguments, run), "none").values()
    if arguments.count < 1:
        raise UserError(f"COUNT must be at least 1; got {arguments.count}.")
    if arguments.mtcnn:
        tf_setup.import_tensorflow()
    from evaluation import report

    folder = run.folder / "evaluation" / "sweep"
    with folders.locked(folder):
        report.make_sweep(run.settings, weights, folder, arguments.count, arguments.mtcnn)


def _run(arguments: argparse.Namespace) -> run_recipe.Run:
    data, labels = arguments.data, arguments.labels
    own = cli_inputs.overrides(data, labels, arguments.images, arguments.labels_format)
    arguments.set, described = cli_inputs.of_labels(arguments.set, labels)
    return cli.open_run(arguments, [*own, *described])


def _weights(arguments: argparse.Namespace, run: run_recipe.Run) -> Path:
    weights: Path = arguments.weights or cli_inputs.exported(run.folder)
    return weights


if __name__ == "__main__":
    run_cli(main)
