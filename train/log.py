"""The log of a training: a row of figures an epoch, in `log.csv`."""

import csv
import io
from pathlib import Path

from mtcnn_detector.files import write_atomically


def read_log(path: Path) -> list[dict[str, float]]:
    """The rows of a training's `log.csv`; none where there is no log."""
    if not path.exists():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        rows = [{k: float(value) for k, value in row.items()} for row in csv.DictReader(file)]
    return [row | {"epoch": int(row["epoch"])} for row in rows]


def write_log(path: Path, rows: list[dict[str, float]]) -> None:
    """Replace a training's log."""
    file = io.StringIO(newline="")
    writer = csv.DictWriter(file, list(rows[-1]))
    writer.writeheader()
    writer.writerows(rows)
    write_atomically(path, file.getvalue().encode())


def best_row(path: Path) -> dict[str, float]:
    """The validation figures of the epoch whose weights were kept."""
    best = min(read_log(path), key=lambda row: row["val_loss"])
    return {key.removeprefix("val_"): v for key, v in best.items() if key.startswith("val_")}
