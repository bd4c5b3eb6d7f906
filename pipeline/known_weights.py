"""What is known of a weights file beyond its numbers: the recipe by which its nets were made."""

from pathlib import Path

from configs import recipe
from configs.settings import Settings
from mtcnn_detector.errors import UserError
from mtcnn_detector.net import NETS, NetName
from mtcnn_detector.weights import own
from pipeline import run_recipe

WEIGHTS = Path("weights/mtcnn_weights.npy")  # this project's
WEIGHTS_RECIPE = Path("configs/weights.yaml")  # by which they are made
PUBLISHED = 1.0  # sides of a face: what the nets of the packages look at


def recipe_of(weights: Path) -> Settings | None:
    """The recipe by which weights, or the run in a folder, were made; None: unknown.

    A weights file does not say it. The run that it lies in does, also where it is in a folder of
    the run, as a net's own file and some exports are; and this project's recipe for a copy of its
    weights.
    """
    folders = [weights, weights.parent] if weights.is_dir() else list(weights.parents[:2])
    kept = [folder / run_recipe.FILE for folder in folders]
    try:
        for path in kept:
            if path.exists():
                return recipe.load(path)
    except UserError:  # of an older version
        return None
    files = weights.is_file() and WEIGHTS.exists()
    same = files and weights.read_bytes() == WEIGHTS.read_bytes()
    return recipe.load(WEIGHTS_RECIPE) if same else None


def shift_to_come(weights: Path, net: NetName) -> float:
    """The `export.score_shift` that a net's export adds to its weights; 0: it is in them, or none.

    A run's own nets are as they were trained; what was exported of them has its shift.
    """
    run = weights.parent.parent if weights.parts[-2:] == Path(own.FILES[net]).parts else weights
    made_by = recipe_of(weights) if (run / run_recipe.FILE).exists() else None
    return 0.0 if made_by is None else made_by.export.score_shift[NETS.index(net)]
