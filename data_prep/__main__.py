"""`python -m data_prep`: images and annotations into TFRecords."""

import argparse
import os
from pathlib import Path

from data_prep import archives, cluster, download
from mtcnn_detector.errors import UserError
from mtcnn_detector.net import NETS
from pipeline import cli
from pipeline.cli import run_cli
from pipeline.make_command import set_variables


def main() -> None:
    """Parse the command line and run one command."""
    arguments = _parser().parse_args()
    commands = {
        "data": _data,
        "wider": _wider,
        "sample": _sample,
        "labels": _labels,
        "scheduler": _scheduler,
        "worker": _worker,
    }
    commands.get(arguments.command, _records)(arguments)


def _data(arguments: argparse.Namespace) -> None:
    run = cli.open_run(arguments)
    own = {"DATA": arguments.folder, "DOWNLOADS": arguments.downloads}
    set_variables({**cli.make_variables(arguments), **own})
    folder = arguments.folder or Path(run.settings.data.folder)
    sets = archives.load(arguments.downloads or archives.DOWNLOADS)
    download.download_data(folder, run.settings.data, sets)


def _wider(arguments: argparse.Namespace) -> None:
    download.download_wider(arguments.folder, arguments.url, archives.load()["wider"])


def _sample(arguments: argparse.Namespace) -> None:
    from data_prep.sample_faces import compose

    compose(arguments.folder, arguments.train, arguments.validation, arguments.seed)


def _scheduler(arguments: argparse.Namespace) -> None:
    cluster.run_scheduler(arguments.host)


def _worker(arguments: argparse.Namespace) -> None:
    if not arguments.scheduler:
        raise UserError("SCHEDULER= names the scheduler: `make worker SCHEDULER=tcp://HOST:8786`.")
    cluster.run_worker(arguments.scheduler, arguments.workers)


def _labels(arguments: argparse.Namespace) -> None:
    from data_prep.label_check import check_labels

    run = cli.open_run(arguments)
    check_labels(run.settings, run.folder)


def _records(arguments: argparse.Namespace) -> None:
    from data_prep.build_records import prepare

    run = cli.open_run(arguments)
    if arguments.workers < 1:
        raise UserError(f"--workers must be at least 1; got {arguments.workers}.")
    scheduler = arguments.scheduler
    settings, net, workers = run.settings, arguments.command, arguments.workers
    prepare(settings, net, run.folder, workers, arguments.force, scheduler)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m data_prep", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    cores = os.cpu_count() or 1
    for name in NETS:
        records = commands.add_parser(name, help=f"make the records that {name} is trained on")
        cli.add_arguments(records)
        records.add_argument("--workers", type=int, default=cores, help="processes (%(default)s)")
        records.add_argument(
            "--scheduler", metavar="ADDRESS", help="a Dask scheduler whose workers cut the crops"
        )
    labels = commands.add_parser("labels", help="check the labels of a recipe's sources")
    cli.add_arguments(labels)
    data = commands.add_parser("data", help="download the data that a recipe names")
    cli.add_arguments(data)
    data.add_argument("--folder", type=Path, help="default: the recipe's data.folder")
    data.add_argument(
        "--downloads", type=Path, metavar="YAML", help=f"addresses (default: {archives.DOWNLOADS})"
    )
    wider = commands.add_parser("wider", help="download WIDER FACE")
    wider.add_argument("--folder", type=Path, default=Path("data"), help="default: %(default)s")
    wider.add_argument("--url", help="another copy of its repository (that of the Hub)")
    scheduler = commands.add_parser("scheduler", help="start a Dask scheduler")
    scheduler.add_argument("--host", default="127.0.0.1", help="its address (%(default)s)")
    worker = commands.add_parser("worker", help="start processes that cut records for a scheduler")
    worker.add_argument("--scheduler", metavar="ADDRESS", help="the scheduler's address or file")
    worker.add_argument("--workers", type=int, default=cores, help="processes (%(default)s)")
    sample = commands.add_parser("sample", help="compose the demo's scenes")
    sample.add_argument("--folder", type=Path, default=Path("data/sample"), help="%(default)s")
    sample.add_argument("--train", type=int, default=240, help="scenes (%(default)s)")
    sample.add_argument("--validation", type=int, default=60, help="scenes (%(default)s)")
    sample.add_argument("--seed", type=int, default=1, help="(%(default)s)")
    return parser


if __name__ == "__main__":
    run_cli(main)
