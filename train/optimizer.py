"""The optimizer: Adam with a warm-up and cosine decay, and a moving average of the weights."""

import keras
import tensorflow as tf

from configs.train_settings import TrainSettings

EMA_RAMP = 9  # steps; the average's decay is at most step / (step + EMA_RAMP)


class AdamEMA(keras.optimizers.Adam):
    """Adam whose average of the weights (EMA) forgets the first steps at any decay.

    With Keras' constant decay of 0.999, two thirds of the average after 400 steps are the weights
    of the first step. Here the decay rises with the steps (as with `num_updates` in
    `tf.train.ExponentialMovingAverage`), so that the average spans about the last tenth of a
    training until `ema_momentum` is reached. It depends on the count of steps alone, which a
    checkpoint holds.
    """

    def _update_model_variables_moving_average(
        self, trainable_variables: list[keras.Variable]
    ) -> None:
        """Called by Keras, if there is an average, after each step, before the step is counted."""
        step = tf.cast(self.iterations.value, tf.float32)
        decay = tf.minimum(step / (step + EMA_RAMP), self.ema_momentum)
        for variable, average in zip(
            trainable_variables, self._model_variables_moving_average, strict=True
        ):
            average.assign(decay * average + (1 - decay) * variable)


def build_optimizer(train: TrainSettings) -> AdamEMA:
    """The optimizer of one net's training."""
    return AdamEMA(
        learning_rate_schedule(train),
        use_ema=train.ema_decay > 0,
        ema_momentum=train.ema_decay or None,
    )


def learning_rate_schedule(train: TrainSettings) -> keras.optimizers.schedules.LearningRateSchedule:
    """Linear warm-up, then a cosine decay to the final learning rate."""
    return keras.optimizers.schedules.CosineDecay(
        initial_learning_rate=train.learning_rate / 100,
        decay_steps=max(train.steps - train.warmup_steps, 1),
        alpha=train.final_learning_rate / train.learning_rate,
        warmup_target=train.learning_rate,
        warmup_steps=train.warmup_steps,
    )
