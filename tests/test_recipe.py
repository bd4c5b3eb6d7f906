"""Recipes: both of ours load and hold every setting; each mistake is reported by its full key."""

import re
from collections.abc import Iterator
from dataclasses import MISSING, asdict, fields, is_dataclass
from pathlib import Path
from typing import Any, get_type_hints

import pytest
import yaml

from configs import recipe
from configs.record_settings import RecordSettings
from configs.settings import Settings
from configs.train_settings import TrainSettings
from mtcnn_detector.errors import UserError
from mtcnn_detector.net import NETS, Layer, Net
from mtcnn_detector.schema import Schema

CONFIGS = Path(recipe.__file__).parent
MTCNN = CONFIGS / "mtcnn.yaml"


def load(*overrides: str) -> Settings:
    return recipe.load(MTCNN, overrides)


def refusal(*overrides: str) -> str:
    """The sentence with which our recipe and these overrides are refused."""
    with pytest.raises(UserError) as caught:
        load(*overrides)
    return str(caught.value)


def written(folder: Path, content: str, name: str = "own.yaml") -> Path:
    path = folder / name
    path.write_text(content, encoding="utf-8")
    return path


def plain_fields(kind: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Full name and field of every setting in a section that each recipe has."""
    hints = get_type_hints(kind)
    for field in fields(kind):
        if is_dataclass(hints[field.name]):
            yield from plain_fields(hints[field.name], f"{prefix}{field.name}.")
        else:
            yield prefix + field.name, field


def in_tree(tree: Any, key: str) -> bool:
    for part in key.split("."):
        if not isinstance(tree, dict) or part not in tree:
            return False
        tree = tree[part]
    return True


def test_every_setting_has_one_source() -> None:
    """Our recipe sets what has no default, and nothing else: none can differ from its default."""
    tree = yaml.safe_load(MTCNN.read_text(encoding="utf-8"))
    twice = []
    for key, field in plain_fields(Settings):
        default = field.default is not MISSING or field.default_factory is not MISSING
        assert default or in_tree(tree, key), f"{key} has no value"
        if default and in_tree(tree, key):
            twice.append(key)
    # These are of the data and of a net's place in the cascade: a recipe without them is refused,
    # or has no images for `make evaluate`. Scores are shifted as these nets, so trained, need it.
    assert twice == [
        "data.validation",
        "rnet.records.proposal_thresholds",
        "onet.records.proposal_thresholds",
        "export.score_shift",
    ]


def test_what_the_nets_share_is_the_same_for_all() -> None:
    """A recipe without `base:` trains as one with it: what it may leave out differs nowhere."""
    settings = load()
    for kind, part in ((RecordSettings, "records"), (TrainSettings, "train")):
        for field in fields(kind):
            if field.default is not MISSING and field.name != "proposal_thresholds":
                values = [getattr(getattr(settings.for_net(n), part), field.name) for n in NETS]
                assert values == [field.default] * len(NETS), field.name


def test_our_recipe_means_what_it_says() -> None:
    settings = load()
    assert [settings.for_net(name).net.size for name in NETS] == [12, 24, 48]
    assert (settings.labels.negative, settings.labels.part, settings.labels.positive) == (
        0.3,
        0.4,
        0.65,
    )
    # Smooth L1 distances are larger than squared ones, and these two nets' landmarks only help.
    assert settings.pnet.train.loss_weights == settings.rnet.train.loss_weights == (1, 0.5, 0.1)
    assert settings.onet.train.loss_weights == (2, 0.5, 2)
    assert settings.onet.net.layers[-1].dense == 256
    assert settings.data.train["lfw"].sample_types == ("landmark",)
    assert settings.data.train["lfw"].optional
    assert settings.data.train["wider"].landmarks is not None


def test_the_demo_changes_only_what_it_names() -> None:
    ours, demo = asdict(load()), asdict(recipe.load(CONFIGS / "demo.yaml"))
    assert list(demo["data"]["train"]) == ["scenes"], "its sources replace ours as a whole"
    assert list(demo["data"]["validation"]) == ["scenes"]
    assert demo["pnet"]["train"]["steps"] < ours["pnet"]["train"]["steps"]
    for name in NETS:
        assert demo[name]["net"] == ours[name]["net"]
        assert demo[name]["train"]["augment"] == ours[name]["train"]["augment"]
    for key in ("labels", "detector", "seed"):
        assert demo[key] == ours[key]


def test_overrides_reach_any_depth() -> None:
    settings = load(
        "seed=7",
        "pnet.train.learning_rate=1e-4",
        "onet.train.augment.hflip=false",
        "detector.thresholds=[0.5, 0.6, 0.7]",
        "data.train.wider.labels=other.txt",
        "data.train.own={format: coco, labels: a.json, images: .}",
        "detector.min_face_size=12",
    )
    assert settings.seed == 7
    assert settings.pnet.train.learning_rate == 0.0001
    assert settings.onet.train.augment.hflip is False
    assert settings.detector.thresholds == (0.5, 0.6, 0.7)
    assert settings.data.train["wider"].labels == "other.txt"
    assert settings.data.train["wider"].format == "wider"
    assert settings.data.train["own"].format == "coco"
    assert load("seed=1", "seed=2").seed == 2, "the last one counts"


def test_whole_numbers_do_for_fractions_but_not_the_other_way() -> None:
    max_rotation = load("pnet.records.max_rotation=10").pnet.records.max_rotation
    assert isinstance(max_rotation, float)
    assert "seed must be a whole number; got 1.5" in refusal("seed=1.5")
    assert "seed must be a whole number; got True" in refusal("seed=true")


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("seeed=1", "unknown key seeed; did you mean seed?"),
        ("pnet.train.lerning_rate=1", "unknown key pnet.train.lerning_rate; did you mean pnet.tra"),
        ("pnet.train.hard_share=0.7", "pnet.train.hard_share is renamed to pnet.train.ohem_ratio."),
        ("data.train.wider.points=x", "wider.points is renamed to data.train.wider.landmarks."),
        ("onet.train.augment.graysale=0.1", "did you mean onet.train.augment.grayscale?"),
        ("data.train.wider.label=x", "did you mean data.train.wider.labels?"),
        ("pnet.xyzzy=1", "unknown key pnet.xyzzy; known: net, records, train."),
        ("pnet.net.layers=[{conv: 10, krenel: 5}]", "did you mean pnet.net.layers[0].kernel?"),
        ("pnet.train=5", "pnet.train must be a section; got 5"),
        ("pnet.train.steps=many", "pnet.train.steps must be a whole number; got 'many'"),
        ("pnet.train.augment.hflip=1", "pnet.train.augment.hflip must be true or false; got 1"),
        ("labels.part=high", "labels.part must be a number; got 'high'"),
        ("labels.part=.nan", "labels.part must be a number; got nan"),
        ("pnet.train.loss_weights=[1, .inf, 1]", "loss_weights[1] must be a number; got inf"),
        ("data.folder=5", "data.folder must be text; got 5"),
        ("rnet.records.proposal_thresholds=0.3", "proposal_thresholds must be a list; got 0.3"),
        ("pnet.train.loss_weights=[1, 1]", "pnet.train.loss_weights needs 3 values; got 2"),
        ("pnet.train.loss_weights=[1, a, 1]", "pnet.train.loss_weights[1] must be a number; got"),
        ("data.train.wider.format=dlib", "data.train.wider.format must be one of wider, retinaf"),
        (
            "data.train.wider.sample_types=[face]",
            "data.train.wider.sample_types[0] must be one of positive, ",
        ),
        ("data.train.own={format: coco, labels: x}", "data.train.own.images is missing."),
        ("seed", "SET='seed': write key.path=value"),
        ("pnet.train.steps.more=1", "SET pnet.train.steps.more: steps is a value, not a section"),
        ("seed=2024-31-12", "SET seed: cannot read the value '2024-31-12'"),
        ("seed=[", "SET seed: cannot read the value '['"),
    ],
)
def test_mistakes_are_reported_by_their_full_key(override: str, message: str) -> None:
    assert message in refusal(override)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("seed=-1", "seed must lie between 0 and"),
        ("data.train={}", "data.train names no source"),
        (
            "data.validation_fraction=0",
            "data.validation_fraction must lie between 0 and 1 (got 0.0)",
        ),
        ("data.validation_fraction=1", "data.validation_fraction must lie"),
        ("data.max_broken_fraction=-0.1", "data.max_broken_fraction must lie"),
        ("data.min_face=0", "data.min_face must be at least 1"),
        ("data.train.wider.sample_types=[]", "data.train.wider.sample_types names no kind"),
        (
            "data.train.wider.sample_weight=-3",
            "data.train.wider.sample_weight must be above 0, up to 10 (got -3.0)",
        ),
        ("labels.negative=0.5", "labels.positive must keep 0 < negative <= part"),
        ("labels.positive=0.4", "labels.positive must keep"),
        ("labels.ignored=0", "labels.ignored must be a share"),
        ("pnet.records.negatives_per_image=-1", "pnet.records.negatives_per_image cannot be neg"),
        ("rnet.records.mined_per_face=-1", "rnet.records.mined_per_face cannot be negative"),
        ("pnet.records.images_per_shard=0", "pnet.records.images_per_shard must be at least 1"),
        ("pnet.records.scale_balance=1.5", "pnet.records.scale_balance must lie"),
        ("pnet.records.max_shift=1", "pnet.records.max_shift must lie"),
        ("pnet.records.max_scale=1", "pnet.records.max_scale must be above 1"),
        ("pnet.records.max_scale=100", "pnet.records.max_scale must be above 1, up to 4"),
        ("pnet.records.max_rotation=-1", "pnet.records.max_rotation must lie"),
        ("rnet.records.proposal_thresholds=[1]", "rnet.records.proposal_thresholds must lie"),
        ("rnet.records.proposal_thresholds=[]", "rnet.records.proposal_thresholds needs 1 values"),
        ("pnet.records.proposal_thresholds=[0.1]", "pnet.records.proposal_thresholds needs 0 val"),
        ("pnet.net.size=7", "pnet.net.size must be at least 8"),
        ("pnet.net.layers=[]", "pnet.net.layers cannot be empty"),
        (
            "pnet.net.layers=[{}]",
            "pnet.net.layers[0].conv separable, pool or dense: a layer is exa",
        ),
        ("pnet.net.layers=[{conv: 1, pool: 2}]", "a layer is exactly one"),
        ("pnet.net.layers=[{conv: 0}]", "pnet.net.layers[0].conv must be at least 1 (got 0)"),
        ("pnet.net.layers=[{conv: 1, stride: 0}]", "layers[0].kernel and stride must be"),
        ("pnet.train.augment.hue=2", "pnet.train.augment.hue must lie between 0 and 1 (got 2.0)"),
        ("pnet.train.steps=0", "pnet.train.steps must be at least 1"),
        ("pnet.train.steps_per_epoch=0", "pnet.train.steps_per_epoch must be"),
        ("pnet.train.batch=7", "pnet.train.batch must be at least 8"),
        (
            "pnet.train.batch_fractions=[1.2, 0.1, -0.3, 0]",
            "pnet.train.batch_fractions cannot be neg",
        ),
        ("pnet.train.batch_fractions=[0.5, 0.5, 0.5, 0]", "batch_fractions must add up to 1"),
        (
            "pnet.train.batch_fractions=[0, 0.5, 0.5, 0]",
            "batch_fractions need positives and negatives",
        ),
        ("pnet.train.loss_weights=[1, -1, 1]", "pnet.train.loss_weights cannot be negative"),
        ("pnet.train.learning_rate=0", "pnet.train.learning_rate must lie"),
        ("pnet.train.final_learning_rate=0.1", "final_learning_rate must lie between 0 and learn"),
        ("pnet.train.ohem_ratio=0", "pnet.train.ohem_ratio must lie"),
        ("pnet.train.ema_decay=1", "pnet.train.ema_decay must lie"),
        ("pnet.train.warmup_steps=-1", "pnet.train.warmup_steps cannot be negative"),
        ("pnet.train.warmup_steps=20000", "warmup_steps must be below steps, which is 20000 (got"),
        ("onet.train.steps=500", "onet.train.warmup_steps must be below steps, which is 500."),
        ("pnet.train.batch_fractions=[0.3, 0.69, 0.0009, 0.0091]", "give no part crop in a batch"),
        ("pnet.train.false_positive_rate=1", "pnet.train.false_positive_rate must lie"),
        ("detector.min_face_size=0", "detector.min_face_size must be at least 1"),
        ("detector.scale_factor=1", "detector.scale_factor must lie"),
        ("detector.thresholds=[0.5, 1, 0.5]", "detector.thresholds must lie"),
    ],
)
def test_impossible_values_are_refused(override: str, message: str) -> None:
    sentence = refusal(override)
    assert message in sentence
    assert sentence.startswith(f"{MTCNN}: ")
    assert re.search(r"\.$", sentence)


def test_a_net_that_is_taken_over_needs_no_warm_up() -> None:
    assert load("pnet.train.init=w.npy", "pnet.train.steps=0").pnet.train.warmup_steps == 500


def test_a_batch_holds_each_type_that_it_asks_for() -> None:
    counts = load("pnet.train.batch_fractions=[0.3, 0.69, 0.001, 0.009]").pnet.train.sample_counts
    assert counts == {"positive": 307, "negative": 707, "part": 1, "landmark": 9}
    assert load("pnet.train.batch_fractions=[0.3, 0.7, 0, 0]").pnet.train.sample_counts["part"] == 0


def test_a_recipe_changes_its_base(tmp_path: Path) -> None:
    written(tmp_path, MTCNN.read_text(encoding="utf-8"), "mtcnn.yaml")
    middle = "base: mtcnn.yaml\nseed: 3\npnet: {train: {steps: 5, warmup_steps: 0}}\n"
    written(tmp_path, middle, "middle.yaml")
    own = "base: middle.yaml\npnet: {train: {batch: 16}}\n"
    own += "data: {train: {2024: {format: coco, labels: a.json, images: b}}}\n"
    settings = recipe.load(written(tmp_path, own))
    assert (settings.seed, settings.pnet.train.steps, settings.pnet.train.batch) == (3, 5, 16)
    assert settings.pnet.train.learning_rate == load().pnet.train.learning_rate
    assert list(settings.data.train) == ["2024"], "a name is text, and the base's sources are gone"
    assert settings.data.validation == load().data.validation


def test_a_base_may_be_corrected_in_one_source(tmp_path: Path) -> None:
    written(tmp_path, MTCNN.read_text(encoding="utf-8"), "mtcnn.yaml")
    own = "base: mtcnn.yaml\ndata: {train: {wider: {images: elsewhere}}}\n"
    train = recipe.load(written(tmp_path, own)).data.train
    assert list(train) == ["wider", "lfw", "net_7876"]
    assert (train["wider"].images, train["wider"].labels) == (
        "elsewhere",
        load().data.train["wider"].labels,
    )


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("seed: [1", "is not a YAML file"),
        ("? [seed]\n: 1\n", "is not a YAML file"),
        (
            "pnet: {train: {steps: 5}}\nseed: 1\npnet: {train: {batch: 64}}\n",
            'the key pnet stands here a second time in "<unicode string>", line 3, column 1',
        ),
        ("- a\n- b\n", "a recipe is a mapping"),
        ("", "a recipe is a mapping"),
        ("seed: 1\n", "data is missing"),
        ("base: 5\n", "base must be text; got 5"),
        ("base: own.yaml\n", "base leads back to"),
        ("base: gone.yaml\n", "own.yaml: base names "),
        ("name: 2024-31-12\n", "is not a YAML file: month must be in 1..12"),
    ],
)
def test_files_that_are_no_recipes(tmp_path: Path, content: str, message: str) -> None:
    with pytest.raises(UserError, match=re.escape(message)):
        recipe.load(written(tmp_path, content))


def test_missing_binary_and_folder(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="there is no such recipe; CONFIG= names one"):
        recipe.load(tmp_path / "gone.yaml")
    with pytest.raises(UserError, match="cannot be read as a recipe: Is a directory"):
        recipe.load(tmp_path)
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00\x80")
    with pytest.raises(UserError, match="is not a YAML file"):
        recipe.load(tmp_path / "binary.yaml")


def test_a_net_survives_the_weights_file() -> None:
    net = load().onet.net
    as_json = yaml.safe_load(yaml.safe_dump(recipe.to_dict(net)).replace("!!python/tuple", ""))
    assert Schema("weights.npz").build(Net, as_json, "net") == net
    with pytest.raises(UserError, match=r"weights\.npz: net\.size must be a whole number"):
        Schema("weights.npz").build(Net, as_json | {"size": "48"}, "net")


def test_one_layer_of_a_list_is_set_by_its_place() -> None:
    settings = load("pnet.net.layers.1.relu=before", "pnet.net.layers.4.padding=same")
    layers = settings.pnet.net.layers
    assert [layer.relu for layer in layers] == ["before", None, None, None]
    assert [layer.padding for layer in layers] == ["valid", "same", "valid", "same"]
    longer = load("pnet.net.layers.5.conv=64", "pnet.net.layers.5.kernel=1").pnet.net.layers
    assert longer == (*load().pnet.net.layers, Layer(conv=64, kernel=1))


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("pnet.net.layers.6.conv=1", "SET pnet.net.layers.6.conv: 6 is none of the places 1 to 5"),
        ("pnet.net.layers.0.conv=1", "0 is none of the places 1 to 5"),
        ("pnet.net.layers.layer1.conv=1", "layer1 is none of the places 1 to 5"),
        ("pnet.net.layers.1=3", "layers is a list; name a setting of one of its items"),
    ],
)
def test_a_place_that_a_list_has_not_is_refused(override: str, message: str) -> None:
    assert message in refusal(override)


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("seed=7 pnet.train.steps=5", ["seed=7", "pnet.train.steps=5"]),
        ("a.b=[1, 2, 3]  c={d: e}", ["a.b=[1, 2, 3]", "c={d: e}"]),
        ("data.folder=/my pictures seed=7", ["data.folder=/my pictures", "seed=7"]),
        ("data.folder='a b=c' seed=7", ["data.folder='a b=c'", "seed=7"]),
        ("a={x: b=c, y: [d=e f=g]} h=1", ["a={x: b=c, y: [d=e f=g]}", "h=1"]),
        ("data.folder=it's seed=1", ["data.folder=it's", "seed=1"]),
        ("\n  seed=7 \n", ["seed=7"]),
        ("seed", ["seed"]),
        ("", []),
    ],
)
def test_several_settings_in_one_text(text: str, parts: list[str]) -> None:
    assert recipe.split_overrides([text]) == parts
    assert recipe.split_overrides([text, "z=1"]) == [*parts, "z=1"]
