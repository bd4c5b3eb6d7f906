"""The pictures over which the detector is timed and watched, and where they lie by default."""

import argparse
from pathlib import Path

from mtcnn_detector.errors import UserError

ROOT = Path(__file__).parent.parent
CONSUMERS = ROOT / ".consumers"
DATA = ROOT / "data"  # where `make wider` puts it
VALIDATION = DATA / "wider" / "WIDER_val" / "images"


def parser(module: str, doc: str | None, images: str, count: int) -> argparse.ArgumentParser:
    """A command line with `--pictures` and `--images`: what the latter means, and its default."""
    made = argparse.ArgumentParser(
        prog=f"python -m benchmarks.{module}",
        description=doc,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.add_argument("--pictures", type=Path, default=VALIDATION, help="folder (%(default)s)")
    made.add_argument("--images", type=int, default=count, help=f"{images} (%(default)s)")
    return made


def pictures_in(folder: Path, count: int = 1) -> list[Path]:
    """All pictures of a folder, in a fixed order.

    Raises:
        UserError: they are fewer than `count`.
    """
    found = sorted(folder.rglob("*.jpg"))
    if len(found) < count:
        raise UserError(f"{folder} has {len(found)} pictures, {count} are asked for: --pictures.")
    return found


def spread(folder: Path, count: int) -> list[Path]:
    """So many pictures, evenly spread over the folder; raises as `pictures_in` does."""
    found = pictures_in(folder, count)
    return found[:: len(found) // count][:count]
