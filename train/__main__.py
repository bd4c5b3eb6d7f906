"""`python -m train`: one net from its records."""

import argparse

from mtcnn_detector.net import NETS
from pipeline import cli, tf_setup
from pipeline.cli import run_cli


def main() -> None:
    """Parse the command line and train."""
    parser = argparse.ArgumentParser(prog="python -m train", description=__doc__)
    parser.add_argument("net", choices=NETS, help="which net to train")
    cli.add_arguments(parser)
    arguments = parser.parse_args()
    run = cli.open_run(arguments)
    tf_setup.import_tensorflow()  # it takes seconds: first the recipe's faults
    from train.loop import train

    train(run.settings, arguments.net, run.folder, arguments.force)


if __name__ == "__main__":
    run_cli(main)
