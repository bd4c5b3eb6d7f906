"""`python -m benchmarks.formats`: figures of an exported format beside those of its weights.

The cascade runs twice over the recipe's validation pictures: with the nets of the weights file,
and with what was written from them (a folder of LiteRT, ONNX or SavedModel nets) in their place.
"""

import argparse
from pathlib import Path

from configs import quiet, recipe, stages
from configs.errors import run_cli
from export.formats import FORMATS


def main() -> None:
    """Print the table of both."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.formats",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    recipe.add_arguments(parser)
    parser.add_argument("--weights", type=Path, required=True, help="what was exported")
    parser.add_argument("--written", type=Path, required=True, help="the export's folder or file")
    parser.add_argument("--format", choices=FORMATS, required=True, help="its format")
    arguments = parser.parse_args()
    settings = recipe.load(arguments.config, arguments.set)
    quiet.import_tensorflow()
    from evaluation import detect, score
    from export.calibration import cascade_of
    from models import layouts

    form, trained = FORMATS[arguments.format], layouts.read(arguments.weights)
    written = cascade_of(
        trained, lambda name: form.runner(arguments.written, name), settings.detector
    )
    detectors = {
        str(arguments.weights): detect.ours(arguments.weights, settings.detector),
        str(arguments.written): written.stages,
    }
    columns = {}
    for name, detector in detectors.items():
        # A log is gone on with only where the same files made it.
        parts = sorted(part for part in [Path(name), *Path(name).rglob("*")] if part.is_file())
        log = arguments.run / "benchmark-formats" / stages.digest(parts)[:12]
        columns[name] = score.figures(score.score(settings, detector, log))
    print(score.table(columns))


if __name__ == "__main__":
    run_cli(main)
