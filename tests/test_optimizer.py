"""Learning rate and average of the weights, against their formulas."""

from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import pytest
from numpy.typing import NDArray

from configs import recipe
from train.optimizer import EMA_RAMP, AdamEMA, build_optimizer, learning_rate_schedule

RECIPE = Path(__file__).parent.parent / "configs" / "mtcnn.yaml"


def averaged(values: NDArray[np.floating], decay: float) -> NDArray[np.floating]:
    """The optimizer's average after each step that leaves a weight at one of these values."""
    variable = keras.Variable(np.zeros(1, np.float32))
    optimizer = AdamEMA(0.0, use_ema=True, ema_momentum=decay)
    optimizer.build([variable])
    averages = []
    for value in values:
        variable.assign([value])
        optimizer.apply([keras.ops.zeros(1)], [variable])
        optimizer.finalize_variable_values([variable])
        averages.append(float(variable.numpy()[0]))
    return np.array(averages)


def test_the_average_follows_its_formula() -> None:
    values = np.random.default_rng(0).normal(0, 1, 60)
    wanted, average = [], 0.0
    for step, value in enumerate(values):
        decay = min(step / (step + EMA_RAMP), 0.8)  # 0.8 from step 36 on
        average = decay * average + (1 - decay) * value
        wanted.append(average)
    np.testing.assert_allclose(averaged(values, 0.8), wanted, atol=1e-5)


def test_the_first_steps_are_forgotten_at_a_high_decay() -> None:
    first = np.zeros(100)
    first[0] = 1
    average = averaged(first, 0.9999)
    assert average[0] == 1
    assert average[20] < 1e-4, "0.998 with a constant decay"
    steps = np.arange(100.0)
    # Weights of (step / last)^9 in the average: its mean age is about a tenth of the steps.
    assert 0.87 * 99 < averaged(steps, 0.9999)[-1] < 0.93 * 99


@pytest.mark.parametrize("decay", [0.0, 0.9])
def test_the_recipe_decides_whether_there_is_an_average(decay: float) -> None:
    optimizer = build_optimizer(replace(recipe.load(RECIPE).pnet.train, ema_decay=decay))
    assert optimizer.use_ema == (decay > 0)
    assert not decay or optimizer.ema_momentum == decay


def test_learning_rate_warms_up_and_falls() -> None:
    settings = recipe.load(RECIPE, ["pnet.train.steps=1000"]).pnet.train
    rate = learning_rate_schedule(settings)
    assert float(rate(0)) == pytest.approx(0.003 / 100, rel=1e-5)
    assert float(rate(500)) == pytest.approx(0.003, rel=1e-5)
    assert float(rate(750)) == pytest.approx((0.003 + 0.00001) / 2, rel=1e-4)
    assert float(rate(1000)) == pytest.approx(0.00001, rel=1e-4)
