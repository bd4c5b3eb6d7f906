"""The training log: a row of figures an epoch, in `log.csv`."""

import csv
import io
from pathlib import Path

from mtcnn_detector.files import write_atomically

PLACE = ("epoch", "step")  # whole numbers: the epoch from 0 on, and the steps until its end


def read_log(path: Path) -> list[dict[str, float]]:
    """The rows of a `log.csv`; none where there is no file."""
    if not path.exists():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        rows = [{k: float(value) for k, value in row.items()} for row in csv.DictReader(file)]
    return [row | {key: int(row[key]) for key in PLACE} for row in rows]


def write_log(path: Path, rows: list[dict[str, float]]) -> None:
    """Replace a log atomically."""
    file = io.StringIO(newline="")
    writer = csv.DictWriter(file, list(rows[-1]))
    writer.writeheader()
    writer.writerows(rows)
    write_atomically(path, file.getvalue().encode())


def best_row(path: Path) -> dict[str, float]:
    """The validation figures of the epoch with the lowest loss, whose weights were saved."""
    best = min(read_log(path), key=lambda row: row["val_loss"])
    return {key.removeprefix("val_"): v for key, v in best.items() if key.startswith("val_")}
