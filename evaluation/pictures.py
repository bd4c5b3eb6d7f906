"""What was found, as pictures to look at."""

from pathlib import Path

import numpy as np

from configs.settings import Settings
from data_prep.annotations import Annotation
from data_prep.sources import read_sources
from evaluation.detect import read_log
from models import pixels
from models.boxes import iou
from models.cascade import Faces
from models.drawing import RED, draw_boxes, draw_faces

TILE_HEIGHT, ACROSS, SHOWN = 360, 4, 12


def draw_sheet(settings: Settings, folder: Path, target: Path) -> None:
    """Some validation pictures with what was found (green) and missed (red), as one picture."""
    tiles = []
    for name, pictures in read_sources(
        Path(settings.data.folder), settings.data.validation
    ).items():
        if settings.data.validation[name].points_only:
            continue
        found = read_log(folder / f"{name}.jsonl")
        chosen = pictures[:: max(len(pictures) // SHOWN, 1)][:SHOWN]
        tiles += [_tile(picture, found[picture.key]) for picture in chosen]
    rows = [np.hstack(tiles[i : i + ACROSS]) for i in range(0, len(tiles), ACROSS)]
    if rows:
        width = max(row.shape[1] for row in rows)
        pad = [((0, 0), (0, width - row.shape[1]), (0, 0)) for row in rows]
        padded = [np.pad(row, edges) for row, edges in zip(rows, pad, strict=True)]
        pixels.write_image(target, np.vstack(padded))


def _tile(picture: Annotation, found: Faces) -> pixels.Image:
    image = pixels.read_image(picture.image)
    assert image is not None, "it was readable when it was looked at"
    canvas = draw_faces(image, found)
    missed = iou(picture.boxes, found.boxes).max(axis=1, initial=0) < 0.5
    draw_boxes(canvas, picture.boxes[missed & ~picture.ignored], RED)
    width = round(canvas.shape[1] * TILE_HEIGHT / canvas.shape[0])
    return pixels.resize(canvas, width, TILE_HEIGHT)
