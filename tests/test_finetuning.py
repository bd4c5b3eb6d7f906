"""The recipe of a fine-tuning: what it sets, whose settings come first, which nets are trained."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from configs import recipe
from configs.record_settings import SampleType
from configs.settings import Settings
from configs.train_settings import TrainSettings
from mtcnn_detector.errors import UserError
from mtcnn_detector.net import NETS, NetName
from pipeline import finetuning

ROOT = Path(__file__).parents[1]
MTCNN, COMMON = ROOT / "configs/mtcnn.yaml", ROOT / "configs/finetune.yaml"
OURS = Path("weights/mtcnn_weights.npy")
POINTS = "train: {p: {format: mtfl, labels: l.txt, images: i, sample_types: [landmark]}}"


def own_recipe(folder: Path, *lines: str, base: Path = MTCNN) -> Path:
    path = folder / "mine.yaml"
    path.write_text("\n".join([f"base: {base}", *lines]) + "\n")
    return path


def finetuned(
    config: Path, *overrides: str, weights: Path | None = None, nets: tuple[NetName, ...] = ()
) -> Settings:
    """The settings of a fine-tuning whose run lies beside its recipe."""
    run = config.parent / "run"
    written = finetuning.write_recipe(config, run, overrides, weights, nets)
    assert written == (run / "finetune.yaml", run)
    return recipe.load(written[0], overrides)


@pytest.fixture(autouse=True)
def _root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)


def test_our_weights_and_gentle_settings_whatever_the_base(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = finetuned(own_recipe(tmp_path, "data: {min_face: 20}"))
    gentle = recipe.load(COMMON)
    for net in NETS:
        train = settings.for_net(net).train
        assert train.init == str(OURS)
        assert train.learning_rate == gentle.for_net(net).train.learning_rate
        assert train.learning_rate <= recipe.load(MTCNN).for_net(net).train.learning_rate / 5
        assert train.steps == gentle.for_net(net).train.steps > 0
        assert train.max_passes is not None
    assert settings.data.min_face == 20
    assert settings.pnet.records.mined_by == str(OURS)
    assert settings.pnet.records.proposal_thresholds == (0.5,)
    run = tmp_path / "run"
    assert capsys.readouterr().out == (
        f"finetune: pnet, rnet, onet from {OURS}; learning rates and steps of "
        f"configs/finetune.yaml; rnet looks at 1.3 sides of a face; all in {run}/finetune.yaml.\n"
    )


def test_what_the_recipe_itself_sets_comes_first(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own = own_recipe(tmp_path, "onet: {train: {learning_rate: 0.0007, augment: {hue: 0}}}")
    settings = finetuned(own, "rnet.train.steps=600")
    assert settings.onet.train.learning_rate == 0.0007
    assert settings.onet.train.augment.hue == 0
    assert settings.onet.train.steps == recipe.load(COMMON).onet.train.steps
    assert settings.rnet.train.steps == 600
    assert f"but onet.train.learning_rate of {own}; all in" in capsys.readouterr().out
    between = own.rename(tmp_path / "between.yaml")
    settings = finetuned(own_recipe(tmp_path, base=between))
    assert settings.onet.train.learning_rate == recipe.load(COMMON).onet.train.learning_rate


def test_weights_are_those_named_or_the_recipes_own(tmp_path: Path) -> None:
    mine, other = tmp_path / "mine.npy", tmp_path / "other.npy"
    mine.touch()
    other.touch()
    config = own_recipe(tmp_path, f"rnet: {{train: {{init: {mine}}}}}")
    settings = finetuned(config)
    assert [settings.for_net(n).train.init for n in NETS] == [str(OURS), str(mine), str(OURS)]
    settings = finetuned(config, weights=other)
    assert [settings.for_net(n).train.init for n in NETS] == [str(other)] * 3
    other.unlink()
    with pytest.raises(UserError, match=r"WEIGHTS=\S+other\.npy is not there"):
        finetuned(config, weights=other)


def test_nets_look_at_as_much_about_a_face_as_those_they_start_from(tmp_path: Path) -> None:
    ours = recipe.load(ROOT / "configs/weights.yaml").rnet.records.context
    assert ours == 1.3
    assert finetuned(own_recipe(tmp_path)).rnet.records.context == ours
    copied = Path(shutil.copy(OURS, tmp_path / "copied.npy"))
    assert finetuned(own_recipe(tmp_path), weights=copied).rnet.records.context == ours
    others = tmp_path / "others.npy"
    others.write_bytes(b"")
    assert finetuned(own_recipe(tmp_path), weights=others).rnet.records.context == 1
    (tmp_path / "recipe.yaml").write_text(f"base: {MTCNN}\nonet: {{records: {{context: 1.1}}}}\n")
    in_a_run = finetuned(own_recipe(tmp_path), weights=others)
    assert [in_a_run.for_net(net).records.context for net in NETS] == [1, 1.3, 1.1]
    own = finetuned(own_recipe(tmp_path, "rnet: {records: {context: 1.2}}"))
    assert own.rnet.records.context == 1.2


def test_without_a_recipe_of_the_users_all_is_gentle(tmp_path: Path) -> None:
    gentle, plain = recipe.load(COMMON), recipe.load(MTCNN)
    path, _ = finetuning.write_recipe(None, tmp_path, [], OURS, ["pnet"])
    settings = recipe.load(path)
    assert settings.pnet.train.learning_rate == gentle.pnet.train.learning_rate
    assert settings.pnet.train.learning_rate < plain.pnet.train.learning_rate
    assert (settings.pnet.train.steps, settings.onet.train.steps) == (gentle.pnet.train.steps, 0)
    assert settings.export.score_shift == (0, 0, 0)


def test_a_runs_own_nets_have_their_shift_to_come(tmp_path: Path) -> None:
    run = tmp_path / "old"
    (run / "onet").mkdir(parents=True)
    (run / "recipe.yaml").write_text(f"base: {MTCNN}\nexport: {{score_shift: [0.1, 0.2, 0.3]}}\n")
    net, export = run / "onet" / "weights.npz", run / "mtcnn_weights.npy"
    for file in (net, export):
        file.touch()
    own = own_recipe(tmp_path)
    for weights, wanted in ((run, (0.1, 0.2, 0.3)), (export, (0, 0, 0))):
        assert finetuned(own, weights=weights).export.score_shift == wanted
    assert finetuned(own, f"onet.train.init={net}").export.score_shift == (0, 0, 0.3)
    kept = own_recipe(tmp_path, "export: {score_shift: [0, 0, 1]}")
    assert finetuned(kept, weights=run).export.score_shift == (0, 0, 1)


def test_what_the_base_does_to_its_own_start_is_not_done_again(tmp_path: Path) -> None:
    base = ROOT / "configs/weights.yaml"
    assert recipe.load(base).pnet.train.box_scale == 1.3
    settings = finetuned(own_recipe(tmp_path, base=base), weights=OURS)
    assert [settings.for_net(net).train.box_scale for net in NETS] == [1, 1, 1]
    assert settings.export.score_shift == (0, 0, 0)
    own = own_recipe(tmp_path, "pnet: {train: {box_scale: 1.2}}", base=base)
    assert finetuned(own, weights=OURS).pnet.train.box_scale == 1.2


def test_the_recipe_that_is_written_stands_on_the_users(tmp_path: Path) -> None:
    own = own_recipe(tmp_path)
    settings = finetuned(own)
    own.write_text(own.read_text() + "seed: 5\n")
    assert recipe.load(tmp_path / "run/finetune.yaml").seed == 5
    own.write_text(own.read_text().replace("seed: 5\n", ""))
    again = finetuned(own)
    assert again == settings
    assert yaml.safe_load((tmp_path / "run/finetune.yaml").read_text())["base"] == str(own)


def test_the_recipe_that_is_written_is_not_written_over_itself(tmp_path: Path) -> None:
    own = own_recipe(tmp_path)
    finetuned(own)
    path = tmp_path / "run/finetune.yaml"
    before = path.read_text()
    with pytest.raises(UserError, match=f"name the rec.*`make finetune CONFIG={own}`"):
        finetuning.write_recipe(path, tmp_path / "run", (), None, ())
    assert path.read_text() == before


def test_mistakes_name_the_users_recipe(tmp_path: Path) -> None:
    own = own_recipe(tmp_path, "onet: {train: {setps: 5}}")
    with pytest.raises(UserError) as caught:
        finetuned(own)
    assert str(caught.value).startswith(f"{own}: unknown key onet.train.setps; did you mean onet.")
    assert not (tmp_path / "run").exists()


def test_the_start_teaches_landmarks_where_the_images_have_none(tmp_path: Path) -> None:
    fractions = "onet.train.batch_fractions=[0.3, 0.5, 0.2, 0]"
    own = own_recipe(tmp_path)
    assert finetuned(own).onet.train.teacher is None
    settings = finetuned(own, fractions)
    assert settings.onet.train.teacher == str(OURS)
    assert settings.onet.train.distillation_weight <= 0.1, "or the labels lose against it"
    assert settings.rnet.train.teacher is None
    other = tmp_path / "other.npy"
    other.touch()
    assert finetuned(own, fractions, weights=other).onet.train.teacher == str(other)
    own = own_recipe(tmp_path, "onet: {train: {teacher: null}}")
    assert finetuned(own, fractions).onet.train.teacher is None


def test_layers_are_frozen_as_they_are_in_the_weights(tmp_path: Path) -> None:
    settings = finetuned(own_recipe(tmp_path), "pnet.train.frozen=[layer1]")
    assert settings.pnet.train.frozen == ("layer1",)
    assert settings.pnet.train.init == str(OURS)
    with pytest.raises(UserError, match=r"knows no layer5; near: layer4, layer3\."):
        finetuned(own_recipe(tmp_path), "pnet.train.frozen=[layer5]")


def test_the_weights_named_come_before_those_of_the_recipe(tmp_path: Path) -> None:
    first, second = (Path(shutil.copy(OURS, tmp_path / f"{n}.npy")) for n in (1, 2))
    own = own_recipe(tmp_path, f"pnet: {{train: {{init: {first}, init_average: 0.5}}}}")
    assert finetuned(own).pnet.train.init == str(first)
    assert finetuned(own).rnet.train.init == str(OURS)
    assert finetuned(own, weights=second).pnet.train.init == str(second)


def test_images_for_landmarks_alone_train_the_landmarks_of_onet(tmp_path: Path) -> None:
    settings = finetuned(own_recipe(tmp_path, f"data: {{{POINTS}}}"))
    assert [settings.for_net(net).train.steps > 0 for net in NETS] == [False, False, True]
    train, net = settings.onet.train, settings.onet.net
    assert set(train.frozen) == {*net.named, "cls", "box"}
    assert train.sample_counts == {"positive": 0, "negative": 0, "part": 0, "landmark": train.batch}


def test_images_for_landmarks_alone_cannot_train_the_other_nets(tmp_path: Path) -> None:
    own = own_recipe(tmp_path, f"data: {{{POINTS}}}")
    assert finetuned(own, nets=("onet",)).pnet.train.steps == 0
    with pytest.raises(UserError, match=r"cannot train rnet: `make finetune NETS=onet"):
        finetuned(own, nets=("rnet", "onet"))


@pytest.mark.parametrize(
    ("passes", "crops", "expected"),
    [
        (None, 10, (4000, 200, 500)),
        (10, 100_000, (4000, 200, 500)),  # more than the steps draw
        (10, 8160, (400, 20, 50)),  # a batch draws 204 positives
        (0.01, 10, (1, 0, 1)),
    ],
)
def test_passes_cut_steps_warm_up_and_epochs_in_proportion(
    passes: float | None, crops: int, expected: tuple[int, int, int]
) -> None:
    value = "null" if passes is None else passes
    train = recipe.load(COMMON, [f"pnet.train.max_passes={value}"]).pnet.train
    counts: dict[SampleType, int] = {"positive": crops, "negative": 9, "part": 9, "landmark": 9}
    limited: TrainSettings = train.limited(counts)
    assert (limited.steps, limited.warmup_steps, limited.steps_per_epoch) == expected


def test_passes_over_parts_count_where_a_batch_has_nothing_else() -> None:
    train = replace(recipe.load(COMMON).pnet.train, batch_fractions=(0, 0, 1, 0), max_passes=10)
    counts: dict[SampleType, int] = {"positive": 0, "negative": 0, "part": 1024, "landmark": 0}
    assert train.limited(counts).steps == round(10 * 1024 / train.batch)


def test_passes_over_landmark_crops_count_where_a_batch_has_nothing_else(tmp_path: Path) -> None:
    train = finetuned(own_recipe(tmp_path, f"data: {{{POINTS}}}")).onet.train
    counts: dict[SampleType, int] = {"positive": 0, "negative": 0, "part": 0, "landmark": 256}
    assert train.limited(counts).steps == train.max_passes
