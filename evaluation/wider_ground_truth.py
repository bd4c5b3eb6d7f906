"""WIDER FACE's ground truth for its own protocol: the `.mat` files of its `eval_tools`."""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from evaluation import protocol
from evaluation.protocol import Detections, GroundTruth, PrecisionRecall
from mtcnn_detector.errors import UserError

Level = Literal["easy", "medium", "hard"]
LEVELS: tuple[Level, ...] = get_args(Level)


def curves(folder: Path, detections: Mapping[str, Detections]) -> dict[Level, PrecisionRecall]:
    """Precision and recall at each level, of detections by key "<source>/<event>/<image>.jpg".

    A level of which no image has a face has no curve. WIDER's images come without these files, and
    all other metrics do without them: where one is missing a warning is printed, and there are no
    curves.
    """
    names = [f"wider_{level}_val.mat" for level in (*LEVELS, "face")]
    missing = [name for name in names if not (folder / name).exists()]
    if missing:
        print(
            f"warning: {folder / missing[0]} is not there (`make data` brings it, from WIDER "
            "FACE's `eval_tools`): going on without the figures of its protocol.",
            file=sys.stderr,
        )
        return {}
    named = {key.partition("/")[2].rpartition(".")[0]: one for key, one in detections.items()}
    truths = {level: protocol.restrict(read_wider_mats(folder, level), named) for level in LEVELS}
    return {
        level: protocol.evaluate(named, at_hand)
        for level, at_hand in truths.items()
        if any((~truth.ignored).any() for truth in at_hand.values())
    }


def read_wider_mats(folder: Path, level: Level) -> dict[str, GroundTruth]:
    """The official ground truth of WIDER FACE's 3,226 validation images, by image key.

    A key is as in WIDER's lists: "0--Parade/0_Parade_marchingband_1_465".

    `folder` holds `wider_face_val.mat` (all boxes) and `wider_<level>_val.mat`, whose `gt_list`
    gives the 1-based indices of the faces that count; the other faces of the image are ignored.

    Raises:
        UserError: scipy or a file is missing, or a file is not the official one.
    """
    every = _columns(folder / "wider_face_val.mat", ("event_list", "file_list", "face_bbx_list"))
    (counting,) = _columns(folder / f"wider_{level}_val.mat", ("gt_list",))
    truths = {}
    for event, names, boxes, places in zip(*every, counting, strict=True):
        for name, xywh, place in zip(names[:, 0], boxes[:, 0], places[:, 0], strict=True):
            corners = np.hstack([xywh[:, :2], xywh[:, :2] + xywh[:, 2:]]).astype(np.float64)
            ignored = np.isin(np.arange(len(xywh)) + 1, place, invert=True)
            truths[f"{event[0]}/{name[0]}"] = GroundTruth(corners, ignored)
    return truths


def _columns(path: Path, names: tuple[str, ...]) -> list[NDArray[Any]]:
    try:
        from scipy.io import loadmat
    except ImportError as error:
        raise UserError("WIDER's .mat files need scipy: run `pip install scipy`.") from error
    if not path.is_file():
        raise UserError(f"{path} not found: `make data` brings it, from WIDER FACE's `eval_tools`.")
    try:
        content = loadmat(path)
        return [content[name][:, 0] for name in names]
    except Exception as error:  # scipy answers a damaged file with a dozen kinds
        raise UserError(f"{path} is damaged or not WIDER's: download it again.") from error
