"""`python -m export`: a run's nets, or those of other files, into files for other packages."""

import argparse
import sys
from pathlib import Path

from export.formats import FORMATS
from mtcnn_detector.errors import UserError
from mtcnn_detector.net import NETS
from pipeline import cli, run_recipe, tf_setup
from pipeline.cli import run_cli


def main() -> None:
    """Parse the command line, then export or inspect."""
    parser = argparse.ArgumentParser(prog="python -m export", description=__doc__)
    cli.add_arguments(parser)
    for name in NETS:
        parser.add_argument(
            f"--{name}",
            type=Path,
            metavar="FILE",
            help=f"take {name} from this weights file, of any layout, or folder of such files",
        )
    parser.add_argument(
        "--format", choices=FORMATS, help="format of the export (the recipe's export.layout)"
    )
    parser.add_argument(
        "--calibration",
        type=Path,
        metavar="FOLDER",
        help="for tflite-int8: images with faces, from which it takes the ranges of its values",
    )
    commands = parser.add_subparsers(dest="command", title="another command", metavar="")
    inspecting = commands.add_parser("inspect", help="describe a weights file; runs nothing in it")
    inspecting.add_argument(
        "file", type=Path, nargs="?", help="a weights file, or a folder of a layout's files"
    )
    arguments = parser.parse_args()
    if arguments.command:
        _inspect(arguments.file)
    else:
        _merge(arguments, cli.open_run(arguments))


def _inspect(file: Path | None) -> None:
    if file is None:
        raise UserError(
            "FILE= names a weights file, as `make inspect FILE=weights/mtcnn_weights.npy`."
        )
    tf_setup.import_tensorflow()  # it takes seconds: after the errors of the command line
    from export.inspect import inspect

    if not inspect(file):
        sys.exit("error: a check has failed.")


def _merge(arguments: argparse.Namespace, run: run_recipe.Run) -> None:
    tf_setup.import_tensorflow()
    from export.merge import export_weights

    sources = {name: vars(arguments)[name] for name in NETS if vars(arguments)[name]}
    inputs = arguments.format, arguments.calibration
    export_weights(run.settings, run.folder, sources, arguments.force, *inputs)


if __name__ == "__main__":
    run_cli(main)
