"""The images over which the detector is timed and watched, and where they lie by default."""

import argparse
from pathlib import Path

from mtcnn_detector.errors import UserError

ROOT = Path(__file__).parent.parent
CONSUMERS = ROOT / ".consumers"
SHIPPED_WEIGHTS = CONSUMERS / "mtcnn-0.1.1" / "mtcnn" / "data" / "mtcnn_weights.npy"
DATA = ROOT / "data"  # where `make data` puts it
VALIDATION = DATA / "wider" / "WIDER_val" / "images"


def parser(module: str, doc: str | None, meaning: str, count: int) -> argparse.ArgumentParser:
    """A command line with `--folder` and `--count`: what the latter means, and its default."""
    made = argparse.ArgumentParser(
        prog=f"python -m benchmarks.{module}",
        description=doc,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.add_argument("--folder", type=Path, default=VALIDATION, help="folder (%(default)s)")
    made.add_argument("--count", type=int, default=count, help=f"{meaning} (%(default)s)")
    return made


def images_in(folder: Path, count: int = 1) -> list[Path]:
    """All images of a folder, in a fixed order.

    Raises:
        UserError: they are fewer than `count`.
    """
    found = sorted(folder.rglob("*.jpg"))
    if len(found) < count:
        problem = f"{folder} has {len(found)} images, {count} are asked for"
        raise UserError(f"{problem}: --folder names others.")
    return found


def spread(folder: Path, count: int) -> list[Path]:
    """So many images, evenly spread over the folder; raises as `images_in` does."""
    found = images_in(folder, count)
    return found[:: len(found) // count][:count]
