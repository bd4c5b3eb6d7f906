"""Survival gate: a stage refuses to begin when too few held-out faces survive the net before it.

`python -m evaluation recall` measures the survival after each training and keeps it in the net's
folder; mining and export check it. A net that loses nearly all faces would only cost the time of
the nets after it.
"""

import json
from pathlib import Path

from mtcnn_detector.errors import UserError
from mtcnn_detector.files import write_atomically
from mtcnn_detector.net import NETS, NetName
from pipeline import manifest

FILE = "recall.json"


def write_survival(run: Path, name: NetName, share: float, faces: int) -> None:
    """Keep the share (0 to 1) of held-out faces that survive the nets of a run up to `name`."""
    content = {"survival": share, "faces": faces, "nets": _digest(run, name)}
    write_atomically(run / name / FILE, (json.dumps(content, indent=1) + "\n").encode())


def require_survival(run: Path, name: NetName, minimum: float) -> None:
    """Refuse to go on after the net `name` when less than the share `minimum` survives it.

    A survival that was not measured, or was measured with other nets than the run has now, says
    nothing and passes.

    Raises:
        UserError: too few faces survive; the sentence holds the usual causes.
    """
    try:
        content = json.loads((run / name / FILE).read_text(encoding="utf-8"))
        share, faces, nets = content["survival"], content["faces"], content["nets"]
    except FileNotFoundError:
        return
    except (ValueError, KeyError, TypeError):
        raise UserError(
            f"{run / name / FILE} is damaged: remove it and repeat the command."
        ) from None
    if nets != _digest(run, name) or share >= minimum:
        return
    raise UserError(
        f"only {100 * share:.1f} % of {faces} held-out faces survive {name} "
        f"(see {run / name / 'recall.md'}), under {100 * minimum:g} %: nothing after it can find "
        f"the others. Usual causes: {name} was trained too short ({name}.train.steps), the "
        "labelled boxes do not lie on the faces, or its threshold is too high "
        "(detector.thresholds). SET=data.min_survival=0 goes on without this check."
    )


def _digest(run: Path, name: NetName) -> str:
    """Digest of the weights of the nets up to `name`; a net that is gone makes it another one."""
    files = [run / net / "weights.npz" for net in NETS[: NETS.index(name) + 1]]
    return manifest.digest([file for file in files if file.exists()])[:16]
