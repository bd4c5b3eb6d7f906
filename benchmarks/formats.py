"""`python -m benchmarks.formats`: figures of an exported format beside those of its weights.

The cascade runs twice over the recipe's validation pictures: with the nets of the weights file,
and with what was written from them (a folder of LiteRT, ONNX or SavedModel nets) in their place.
"""

import argparse
import functools
from pathlib import Path
from typing import TYPE_CHECKING

from configs import quiet, recipe, stages
from configs.errors import run_cli
from configs.settings import Detector
from export.formats import FORMATS

if TYPE_CHECKING:
    from evaluation import detect


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

    columns = {}
    ours = detect.our_runtime()
    written = _runtime(arguments.written, arguments.format, ours.code)
    for path, runtime in ((arguments.weights, ours), (arguments.written, written)):
        given = arguments.weights, settings.detector
        log = detect.log_folder(arguments.run / "benchmark-formats", *given, runtime)
        result = score.score(settings, detect.when_needed(runtime, *given), log)
        columns[str(path)] = score.figures(result)
    print(score.table(columns))


def _runtime(written: Path, format: str, code: str) -> "detect.Runtime":
    """Our cascade with what was written in the places of its nets."""
    from evaluation.detect import Runtime
    from export.calibration import cascade_of
    from models import layouts

    def start(weights: Path, settings: Detector) -> "detect.Detect":
        runner = functools.partial(FORMATS[format].runner, written)
        return cascade_of(layouts.read(weights), runner, settings).stages

    return Runtime(start, f"{code}, {format} {stages.digest_of(written)}")


if __name__ == "__main__":
    run_cli(main)
