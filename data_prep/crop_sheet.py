"""Contact sheet of training crops of every kind with their targets, as the net gets them."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from configs.record_settings import SAMPLE_TYPES, SampleType
from data_prep import records
from data_prep.crops import Crops
from data_prep.label_sheet import GREEN, draw_label
from mtcnn_detector import boxes, pixels

TILE = 96  # px
PER_KIND, MAX_SHARDS = 12, 6


def write(target: Path, folder: Path, stored: int, size: int) -> None:
    """Write a sheet with a row for each kind: positives, negatives, parts and landmark crops.

    Args:
        target: the image file to write.
        folder: of the training shards.
        stored: side of the crops as they are stored, pixels.
        size: of that, the side of the window in the middle that targets are relative to.
    """
    rows = [_row(folder, kind, stored, size / stored) for kind in SAMPLE_TYPES]
    pixels.write_image(target, np.vstack(rows))


def _row(folder: Path, kind: SampleType, stored: int, inner: float) -> pixels.Image:
    shards = [path for path in sorted(folder.glob(f"{kind}-*.tfrecord")) if path.stat().st_size]
    step = max(len(shards) // MAX_SHARDS, 1)
    crops = [records.read_shard(path, stored, kind) for path in shards[::step][:MAX_SHARDS]]
    tiles = [tile for one in crops for tile in _tiles(one, -(-PER_KIND // len(crops)), inner)][
        :PER_KIND
    ]
    tiles += [np.zeros((TILE, TILE, 3), np.uint8)] * (PER_KIND - len(tiles))
    return np.pad(np.hstack(tiles), ((0, 4), (0, 0), (0, 0)))


def _tiles(crops: Crops, count: int, inner: float) -> Sequence[pixels.Image]:
    """Crops evenly spread over a shard, enlarged, with their box and landmarks."""
    first, last = TILE * (1 - inner) / 2, TILE * (1 + inner) / 2
    window = np.array([[first, first, last, last]])
    unit = window[:, 2:] - window[:, :2]
    tiles = []
    for i in np.linspace(0, len(crops.images) - 1, min(count, len(crops.images))).astype(int):
        tile = pixels.resize(crops.images[i], TILE, TILE)
        offsets = crops.boxes[i].astype(np.float64)
        box = boxes.decode_offsets(offsets[None], window, unit)[0]
        points = boxes.decode_landmarks(crops.landmarks[i : i + 1].astype(np.float64), window)[0]
        draw_label(tile, box, points, GREEN)
        tiles.append(tile)
    return tiles
