"""Where a training starts, which layers learn, and the folded net that it saves."""

from pathlib import Path

import numpy as np
import pytest

from configs import recipe
from configs.record_settings import SAMPLE_TYPES
from data_prep.build_records import prepare
from models import keras_nets
from mtcnn_detector.architecture import PAPER_NETS, for_crops
from mtcnn_detector.errors import UserError
from mtcnn_detector.net import NetName
from mtcnn_detector.weights import weight_files
from pipeline import manifest
from tests.trainings import RECIPE, SHORT, Killed, at_step, copy_run, kill, saved_net, train
from train import callbacks, loading, trainable_net

pytestmark = pytest.mark.slow

OTHER = "pnet.net.layers=[{conv: 8, norm: batch, padding: same}, {pool: 2, stride: 2}, "
OTHER += "{separable: 12, norm: batch, relu: before}, {conv: 16, relu: instead, padding: same}]"
OWN = "export.layout=own"


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A weights file to start from."""
    path = tmp_path_factory.mktemp("start") / "weights.npz"
    net = PAPER_NETS["pnet"]
    weight_files.write_own(
        path, weight_files.TrainedNet(net, keras_nets.get_weights(keras_nets.build(net, seed=9)))
    )
    return path


@pytest.fixture(scope="module")
def other(prepared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A training of a net with every sort of layer."""
    run = copy_run(prepared, tmp_path_factory.mktemp("other"))
    train(run, *SHORT, OTHER, OWN)
    return run


def test_a_net_with_norms_is_saved_folded_and_gives_the_logged_figures(other: Path) -> None:
    trained = saved_net(other)
    assert not any(layer.norm or layer.relu for layer in trained.net.layers)
    assert [layer.padding for layer in trained.net.layers] == ["same", "valid", "valid", "same"]
    assert not trained.weights["prelu3/alpha"].any() and not trained.weights["prelu4/alpha"].any()
    settings = recipe.load(RECIPE, [*SHORT, OWN]).pnet
    model = trainable_net.TrainableNet(keras_nets.build(for_crops(trained.net)), settings.train)
    keras_nets.set_weights(model.net, trained.weights, "the test")
    model.compile()
    folder = other / "records" / "pnet"
    held_out = loading.load(folder, "validation", 12, dict.fromkeys(SAMPLE_TYPES, 40))
    figures = callbacks.evaluate(model, held_out, "pnet", settings.train)
    content = manifest.read_manifest(other / "pnet")
    assert content
    wanted = content["validation"]
    assert figures == pytest.approx(wanted, abs=1e-4)


def test_a_net_with_norms_goes_on_after_a_kill_and_ends_the_same(
    other: Path, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(callbacks.StopAtLastStep, "on_train_batch_end", at_step(33, kill))
        with pytest.raises(Killed):
            train(run, *SHORT, OTHER, OWN)
    train(run, *SHORT, OTHER, OWN)
    for key, array in saved_net(other).weights.items():
        np.testing.assert_array_equal(saved_net(run).weights[key], array, err_msg=key)


@pytest.mark.parametrize("average", [0, 0.9])
def test_frozen_layers_stay_and_the_others_learn(run: Path, start: Path, average: float) -> None:
    frozen = "pnet.train.frozen=[layer1, layer3, cls]"
    init = f"pnet.train.init={start}"
    train(run, *SHORT, init, frozen, f"pnet.train.ema_decay={average}")
    given, found = weight_files.read(start)["pnet"].weights, saved_net(run).weights
    for key, array in given.items():
        same = np.array_equal(found[key], array)
        assert same == key.startswith(("layer1/", "prelu1/", "layer3/", "prelu3/", "cls/")), key
    assert "landmarks/kernel" in found, "new, and learned"


def test_what_is_new_cannot_be_frozen(run: Path, start: Path) -> None:
    with pytest.raises(UserError, match="has no landmarks that fits pnet: take it out of"):
        train(run, *SHORT, f"pnet.train.init={start}", "pnet.train.frozen=[landmarks]")


@pytest.mark.parametrize(
    ("frozen", "problem"),
    [
        ("[layer5]", r"pnet\.train\.frozen knows no layer5; near: layer"),
        ("[layer2]", "knows no layer2; near: "),  # a pool
        ("[boxes]", "knows no boxes; near: box"),
        ("[layer1, layer3, layer4, cls, box, landmarks]", r"leaves nothing to train: .*steps: 0"),
    ],
)
def test_what_cannot_be_frozen_is_refused(frozen: str, problem: str) -> None:
    with pytest.raises(UserError, match=problem):
        recipe.load(RECIPE, ["pnet.train.init=x", f"pnet.train.frozen={frozen}"])
    with pytest.raises(UserError, match=r"pnet\.train\.frozen needs init"):
        recipe.load(RECIPE, ["pnet.train.frozen=[layer1]"])


def test_a_net_is_adopted_without_records(
    tmp_path: Path, start: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = [f"pnet.train.init={start}", "pnet.train.steps=0"]
    train(tmp_path, *settings)
    assert saved_net(tmp_path).net == PAPER_NETS["pnet"], (
        "without the head that only training needs"
    )
    for key, array in weight_files.read(start)["pnet"].weights.items():
        np.testing.assert_array_equal(saved_net(tmp_path).weights[key], array)
    prepare(recipe.load(RECIPE, settings), "pnet", tmp_path, 1, False)
    assert "taken over as it is (train.steps: 0); it needs no records" in capsys.readouterr().out
    assert not (tmp_path / "records").exists()


def test_the_weights_that_a_training_starts_from_are_not_removed(
    tmp_path: Path, start: Path
) -> None:
    train(tmp_path, f"pnet.train.init={start}", "pnet.train.steps=0")
    again = [f"pnet.train.init={tmp_path}", "pnet.train.steps=0"]
    with pytest.raises(UserError, match=r"pnet, which FORCE=1 removes: name another run's"):
        train(tmp_path, *again, force=True)
    assert saved_net(tmp_path).net == PAPER_NETS["pnet"]


def test_a_net_that_lacks_something_is_not_adopted(tmp_path: Path, start: Path) -> None:
    settings = [f"pnet.train.init={start}", "pnet.train.steps=0", "pnet.net.layers.1.conv=12"]
    with pytest.raises(
        UserError, match=r"no layer1/kernel that fits pnet.*raise pnet\.train\.steps"
    ):
        train(tmp_path, *settings, OWN)


@pytest.mark.parametrize(
    ("setting", "problem"),
    [
        (OTHER, r"cannot hold pnet\.layer1: conv 8"),
        ("rnet.net.layers=[{conv: 28, padding: same}, {dense: 128}]", r"rnet\.layer1: .*same"),
    ],
)
def test_what_the_export_cannot_hold_is_refused_before_anything_is_made(
    tmp_path: Path, setting: str, problem: str
) -> None:
    settings = recipe.load(RECIPE, [setting])
    with pytest.raises(UserError, match=f"{problem}.*export.layout=own"):
        prepare(settings, "pnet", tmp_path, 1, False)
    with pytest.raises(UserError, match=f"{problem}.*export.layout=own"):
        train(tmp_path, setting)
    assert not list(tmp_path.iterdir())


def test_an_extra_relu_and_a_norm_fit_the_package() -> None:
    layers = "[{conv: 10, relu: before}, {pool: 2, stride: 2, padding: same}, "
    layers += "{conv: 16, norm: batch}, {conv: 32, relu: instead}]"
    recipe.refuse_unless_exportable(recipe.load(RECIPE, [f"pnet.net.layers={layers}"]))


@pytest.mark.parametrize(
    ("setting", "problem"),
    [
        ("pnet.net.size=16", r"pnet\.net\.size must be what an output .* sees: 12 pixels"),
        ("pnet.net.layers=[{dense: 8}, {conv: 8}]", "only go on with dense ones, but layer2"),
        ("pnet.net.layers.5.conv=8", r"pnet\.net\.size must be what .* sees: 16 pixels"),
        ("rnet.net.layers.5.kernel=9", "leave nothing of 24 pixels after layer5: raise size"),
        ("pnet.net.layers=[{pool: 2, norm: batch}]", "has neither norm nor relu"),
        ("pnet.net.layers=[{conv: 8}, {dense: 8}]", r"pnet\.net\.layers hold a dense one"),
        ("rnet.net.layers=[{conv: 8, kernel: 24}]", r"rnet\.net\.layers hold no dense one"),
        (
            "onet.net.landmarks=false",
            r"onet\.net\.landmarks must be true: the faces' landmarks come from",
        ),
    ],
)
def test_nets_that_cannot_be_are_refused(setting: str, problem: str) -> None:
    with pytest.raises(UserError, match=problem):
        recipe.load(RECIPE, [setting])


def test_the_saved_net_is_averaged_with_the_start(
    run: Path, prepared: Path, start: Path, tmp_path: Path
) -> None:
    plain = copy_run(prepared, tmp_path / "plain")
    from_start = [
        *SHORT,
        f"pnet.train.init={start}",
        "pnet.train.steps=2",
        "pnet.train.warmup_steps=1",
    ]
    train(plain, *from_start)
    train(run, *from_start, "pnet.train.init_average=0.75")
    began = weight_files.read(start)["pnet"].weights
    for key, value in saved_net(run).weights.items():
        trained = saved_net(plain).weights[key]
        share = 0.75 if key in began else 0  # the head for landmarks is new
        wanted = (1 - share) * trained + share * began.get(key, trained)
        np.testing.assert_allclose(value, wanted, atol=1e-5, err_msg=key)
    assert not np.allclose(saved_net(plain).weights["layer1/kernel"], began["layer1/kernel"])


def test_a_net_learns_what_its_teacher_says(run: Path, start: Path) -> None:
    """It starts from the same weights, so with no labels in between there is nothing to learn."""
    setting = [
        f"pnet.train.init={start}",
        f"pnet.train.teacher={start}",
        "pnet.train.steps=2",
        "pnet.train.warmup_steps=1",
    ]
    alone = ["pnet.train.distillation_weight=1", "pnet.train.loss_weights=[1, 0, 0]"]
    train(run, *SHORT, *setting, *alone)
    for key, array in weight_files.read(start)["pnet"].weights.items():
        np.testing.assert_allclose(saved_net(run).weights[key], array, atol=1e-3, err_msg=key)
    content = manifest.read_manifest(run / "pnet")
    assert content
    made = content["recipe"]
    assert made["pnet.teacher"] == made["pnet.init"], "digests of the file"


@pytest.mark.parametrize(
    ("net", "problem"),
    [
        ("rnet", "holds rnet, but no pnet"),
        (None, "no.npz, which pnet.train.teacher names, is not there"),
    ],
)
def test_a_teacher_that_cannot_teach_is_refused(
    run: Path, tmp_path: Path, net: NetName | None, problem: str
) -> None:
    path = tmp_path / "no.npz"
    if net:
        model = keras_nets.build(PAPER_NETS[net])
        weight_files.write_own(
            path, weight_files.TrainedNet(PAPER_NETS[net], keras_nets.get_weights(model)), net
        )
    with pytest.raises(UserError, match=problem):
        train(run, *SHORT, f"pnet.train.teacher={path}")


def test_a_teacher_is_no_part_of_what_is_trained_and_saved(start: Path) -> None:
    settings = [[], [f"pnet.train.teacher={start}"]]
    models = [
        trainable_net.build_trainable(recipe.load(RECIPE, [*SHORT, *one]), "pnet")[0]
        for one in settings
    ]
    for weights in ("weights", "trainable_variables"):
        without, taught = ([w.path for w in getattr(model, weights)] for model in models)
        assert len(taught) == len(without) > 0


def test_boxes_of_a_net_that_is_taken_over_can_be_scaled(run: Path, start: Path) -> None:
    train(run, f"pnet.train.init={start}", "pnet.train.steps=0", "pnet.train.box_scale=1.3")
    features = np.random.default_rng(0).normal(size=(50, 32)).astype(np.float32)
    before, after = (
        features @ weights["box/kernel"].reshape(32, 4) + weights["box/bias"] + [0, 0, 1, 1]
        for weights in (weight_files.read(start)["pnet"].weights, saved_net(run).weights)
    )
    middles, sides = (
        [b[:, :2] + b[:, 2:] for b in (before, after)],
        [b[:, 2:] - b[:, :2] for b in (before, after)],
    )
    np.testing.assert_allclose(middles[1], middles[0], atol=1e-5)
    np.testing.assert_allclose(sides[1], 1.3 * sides[0], atol=1e-5)
