"""Training curves, plotted from the log."""

import sys
from pathlib import Path

from train.log import PLACE, read_log


def draw_curves(log: Path, target: Path, title: str) -> None:
    """Plot every column of a `log.csv` over its epochs; needs matplotlib (extra `report`)."""
    try:
        import matplotlib
    except ImportError:
        print(
            "matplotlib is not installed (extra `report`): no plot of the curves.", file=sys.stderr
        )
        return
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    rows = read_log(log)
    epochs = [row["epoch"] + 1 for row in rows]
    columns = {key: [row[key] for row in rows] for key in rows[0] if key not in PLACE}
    losses = [key for key in columns if not key.startswith("val_")]
    figures = [key for key in columns if key.startswith("val_") and key != "val_threshold"]
    figure, axes = plt.subplots(1, 1 + len(figures), figsize=(4 * (1 + len(figures)), 3.4))
    for key in losses:
        axes[0].plot(epochs, columns[key], label=key)
    axes[0].set(title=f"{title}: training loss", xlabel="epoch", yscale="log")
    axes[0].legend()
    for axis, key in zip(axes[1:], figures, strict=True):
        axis.plot(epochs, columns[key], marker=".")
        axis.set(title=f"validation {key.removeprefix('val_')}", xlabel="epoch")
    figure.tight_layout()
    figure.savefig(target, dpi=90)
    plt.close(figure)
