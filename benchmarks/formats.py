"""`python -m benchmarks.formats`: figures of an exported format beside those of its weights.

The cascade runs twice over the recipe's validation images: with the nets of the weights file,
and with what was written from them (a folder of LiteRT, ONNX or SavedModel nets) in their place.
"""

import argparse
import functools
from pathlib import Path
from typing import TYPE_CHECKING

from export.formats import FORMATS
from mtcnn_detector.settings import DetectorSettings
from pipeline import cli, tf_setup
from pipeline.cli import run_cli

if TYPE_CHECKING:
    from evaluation.detections import DetectFunction, Runtime


def main() -> None:
    """Print the table of both."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.formats",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    cli.add_arguments(parser)
    parser.add_argument("--weights", type=Path, required=True, help="what was exported")
    parser.add_argument("--written", type=Path, required=True, help="the export's folder or file")
    parser.add_argument("--format", choices=FORMATS, required=True, help="its format")
    arguments = parser.parse_args()
    folder, settings = cli.open_run(arguments)
    tf_setup.import_tensorflow()
    from evaluation import detections, figures, metrics

    columns = {}
    ours = detections.our_runtime()
    written = _runtime(arguments.written, arguments.format, ours.code)
    for path, runtime in ((arguments.weights, ours), (arguments.written, written)):
        given = arguments.weights, settings.detector
        log = detections.log_folder(folder / "benchmark-formats", *given, runtime)
        result = metrics.score(settings, detections.lazy_detector(runtime, *given), log)
        columns[str(path)] = figures.figures(result)
    print(figures.table(columns))


def _runtime(written: Path, format: str, code: str) -> "Runtime":
    """Our cascade with what was written in the places of its nets."""
    from evaluation.detections import Runtime
    from export.exported_cascade import exported_cascade
    from mtcnn_detector.weights import weight_files
    from pipeline import manifest

    def start(weights: Path, settings: DetectorSettings) -> "DetectFunction":
        load = functools.partial(FORMATS[format].load, written)
        return exported_cascade(weight_files.read(weights), load, settings).stages

    return Runtime(start, f"{code}, {format} {manifest.digest_tree(written)}")


if __name__ == "__main__":
    run_cli(main)
