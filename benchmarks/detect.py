"""`python -m benchmarks.detect`: images a second of our detector beside other packages.

The same images and settings (smallest face 20 px, thresholds 0.6, 0.7, 0.7, factor 0.709), each
detector in a process of its own, block after block of images in turn, so that a noisy moment
hits all alike; every one has seen the first images before. Then ours on one thread: where its
time goes, and how far P-Net is from what a large matrix product reaches.
"""

import itertools
import json
import statistics
import subprocess
import sys
from pathlib import Path

import numpy as np

from benchmarks import image_files
from benchmarks.consumers import CONSUMERS, Answer, Consumer
from mtcnn_detector.boxes import iou
from mtcnn_detector.errors import UserError
from pipeline.cli import run_cli

WARM_UP, SURE = 3, 0.75


def main() -> None:
    """Run all in turn and print two tables."""
    parser = image_files.parser("detect", __doc__, "spread over all", 60)
    consumers = image_files.CONSUMERS
    parser.add_argument("--consumers", type=Path, default=consumers, help="(%(default)s)")
    parser.add_argument("--only", nargs="+", choices=CONSUMERS, default=list(CONSUMERS))
    parser.add_argument("--blocks", type=int, default=6, help="of images (%(default)s)")
    arguments = parser.parse_args()
    files = image_files.spread(arguments.folder, arguments.count)
    edges = np.linspace(0, len(files), arguments.blocks + 1).round().astype(int).tolist()
    blocks = [[str(p) for p in files[a:b]] for a, b in itertools.pairwise(edges)]
    print(f"{len(files)} images of {arguments.folder}, in {len(blocks)} blocks")
    answers = in_turn(installed(arguments.only, arguments.consumers), files, blocks)
    print(table(answers))
    if "ours" in answers:
        weights = arguments.consumers / CONSUMERS["ours"][1] / CONSUMERS["ours"][2]
        command = [sys.executable, "-m", "benchmarks.stages", str(weights)]
        subprocess.run(command, input=json.dumps([*map(str, files)]), text=True, check=True)


def installed(names: list[str], folder: Path) -> list[Consumer]:
    """The detectors that can be started; the others are named."""
    consumers = []
    for name in names:
        _, place, needed = CONSUMERS[name]
        if (folder / place / needed).exists():
            consumers.append(Consumer(name, folder / place))
        else:
            print(f"left out: {name}, since {folder / place / needed} is not there")
    if not consumers:
        raise UserError("no detector is there: `make consumers` installs them, --consumers=.")
    return consumers


def in_turn(
    consumers: list[Consumer], files: list[Path], blocks: list[list[str]]
) -> dict[str, list[Answer]]:
    """Each detector's answer to each block."""
    answers: dict[str, list[Answer]] = {consumer.name: [] for consumer in consumers}
    for consumer in consumers:
        consumer.look(files[:WARM_UP])
    for number, block in enumerate(blocks):
        turn = number % len(consumers)
        for consumer in consumers[turn:] + consumers[:turn]:
            answers[consumer.name].append(consumer.look([Path(p) for p in block]))
    for consumer in consumers:
        consumer.end()
    return answers


def table(answers: dict[str, list[Answer]]) -> str:
    """Rates, ratios block by block, and how far the faces are the same."""
    lines = [
        "| | images/s | ours is so many times faster (of all blocks) | faces above 0.75 "
        "| of which ours at IoU 0.5 |",
        "| --- | --- | --- | --- | --- |",
    ]
    ours = answers.get("ours")
    for name, blocks in answers.items():
        seconds = [sum(block.seconds) for block in blocks]
        count = sum(len(block.seconds) for block in blocks)
        ratio, shared = "", ""
        if ours and name != "ours":
            ratios = [s / sum(our.seconds) for s, our in zip(seconds, ours, strict=True)]
            each = " ".join(f"{value:.1f}" for value in ratios)
            ratio = f"{statistics.median(ratios):.1f} ({each})"
            shared = str(common(blocks, ours))
        lines.append(
            f"| {name} | {count / sum(seconds):.2f} | {ratio} | {sure(blocks)} | {shared} |"
        )
    if "facenet-pytorch 2.6.0" in answers:
        lines.append("\nfacenet-pytorch: torchvision's batched_nms is cv2.dnn.NMSBoxes here")
    return "\n".join(lines)


def sure(blocks: list[Answer]) -> int:
    """How many faces were reported above 0.75."""
    return sum(row[4] > SURE for block in blocks for rows in block.faces for row in rows)


def common(blocks: list[Answer], ours: list[Answer]) -> int:
    """How many of them ours reports too."""
    count = 0
    for block, our in zip(blocks, ours, strict=True):
        for theirs, mine in zip(block.faces, our.faces, strict=True):
            certain = np.array([row[:4] for row in theirs if row[4] > SURE]).reshape(-1, 4)
            boxes = np.array([row[:4] for row in mine]).reshape(-1, 4)
            count += int((iou(certain, boxes).max(axis=1, initial=0) >= 0.5).sum())
    return count


if __name__ == "__main__":
    run_cli(main)
