"""The interface of deployed nets: metadata, a README and `cascade.py` beside the models."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from export import standalone
from mtcnn_detector import cascade
from mtcnn_detector.architecture import cell_map
from mtcnn_detector.backend import inference_net
from mtcnn_detector.files import write_atomically
from mtcnn_detector.net import HEADS, NETS, Net, NetName
from mtcnn_detector.settings import DetectorSettings
from mtcnn_detector.weights.weight_files import TrainedNet

Nets = Mapping[NetName, TrainedNet]
SETTINGS = DetectorSettings()
LANDMARK_STEP = "A landmark is the window's first pixel +\n   fraction x side."
LANDMARK_ORDER = "left eye, right eye, nose, left mouth corner, right mouth corner (of the image)"


def metadata(name: NetName, net: Net) -> dict[str, str]:
    """What a model file says about itself, as text by key."""
    facts = {
        "net": name,
        "input": f"pixels: {input_shape(net)} float32, RGB, 0 to 255; normalised in the model",
        "outputs": "; ".join(f"{head}: {text}" for head, text in outputs(name, net).items()),
        "threshold": str(SETTINGS.thresholds[NETS.index(name)]),
    }
    if net.convolutional:
        facts["cells"] = json.dumps(cell_grid(net))
    return facts


def input_shape(net: Net) -> str:
    """The shape of a net's input, in words."""
    return f"[N, {'H, W' if net.convolutional else f'{net.size}, {net.size}'}, 3]"


def outputs(name: NetName, net: Net) -> dict[str, str]:
    """Shape and meaning of each output of a deployed net."""
    cells = "N, rows, columns" if net.convolutional else "N"
    texts = {
        "score": f"[{cells}] probability of a face, 0 to 1",
        "box": f"[{cells}, {HEADS['box']}] offsets of x1, y1, x2, y2 in sides of the window",
    }
    if inference_net(name, net).landmarks:
        texts["landmarks"] = f"[{cells}, {HEADS['landmarks']}] x1 to x5, y1 to y5 in sides"
    return texts


def landmarks_text(last: Net) -> str:
    """A sentence on the landmarks that the last net gives, or that it gives none."""
    if not last.landmarks:
        return "These nets were trained without landmarks: faces have boxes and scores alone."
    return f"Order of the landmarks: {LANDMARK_ORDER}."


def cell_grid(net: Net) -> dict[str, Any]:
    """Which pixels the cells of P-Net's map see, as `PNET` in `cascade.py` holds it."""
    stride = cell_map(net, net.size).stride
    first = -(-4 * net.size // stride) * stride  # as large as any level; the pattern repeats
    maps = [(side, cell_map(net, side)) for side in range(first, first + stride)]
    before = max(-cells.offset for _, cells in maps)
    after = max(cells.offset + cells.seen - side for side, cells in maps)
    margin = [max(-(-pixels // stride), 0) for pixels in (before, after)]
    offsets = [cells.offset for _, cells in maps]
    return {"size": net.sees, "stride": stride, "offsets": offsets, "margin": margin}


def write_companions(path: Path, nets: Nets) -> None:
    """Write `README.md` and `cascade.py` into a folder of deployed nets."""
    write_atomically(path / "README.md", readme(nets).encode())
    write_atomically(path / "cascade.py", cascade_source(nets).encode())


def cascade_source(nets: Nets) -> str:
    """`standalone.py` with the constants of these nets."""
    constants = {
        "PNET: dict[str, Any]": cell_grid(nets[NETS[0]].net),
        "CROP_SIZES": {name: nets[name].net.size for name in NETS[1:]},
    }
    source = Path(standalone.__file__).read_text(encoding="utf-8")
    for name, value in constants.items():
        line = f"{name} = {json.dumps(value)}"
        source, count = re.subn(rf"^{re.escape(name)} = {{.*}}", line, source, flags=re.MULTILINE)
        if count != 1:
            raise RuntimeError(f"standalone.py has {count} lines that set {name}")
    return source


def readme(nets: Nets) -> str:
    """The interface of the nets and the steps of the cascade, in Markdown."""
    grid = cell_grid(nets[NETS[0]].net)
    rows = [
        f"| {name} | `pixels` {input_shape(nets[name].net)} | {head} | {text} |"
        for name in NETS
        for head, text in outputs(name, nets[name].net).items()
    ]
    same = len(set(grid["offsets"])) == 1
    start = grid["offsets"][0] if same else f"{grid['offsets']}[n % {grid['stride']}]"
    template = Path(__file__).with_name("deployment_readme.md").read_text(encoding="utf-8")
    return template.format(
        rows="\n".join(rows),
        grid=grid,
        start=start,
        inset=f"{grid['size']} / 12",
        rnet=nets["rnet"].net.size,
        onet=nets["onet"].net.size,
        min_face=SETTINGS.min_face_size,
        factor=SETTINGS.scale_factor,
        thresholds=SETTINGS.thresholds,
        nms=(
            *(cascade.NMS_IN_LEVEL, cascade.NMS_OVER_LEVELS),
            *(cascade.NMS_CROPS, cascade.NMS_LAST),
        ),
        landmarks=landmarks_text(nets[NETS[-1]].net),
        landmark_step=LANDMARK_STEP if nets[NETS[-1]].net.landmarks else "",
    )
