"""Changes drawn anew for every crop of every batch: colours, occlusion, blur, noise, mirroring.

All colour changes are affine, so each crop gets one 3 x 3 matrix and one offset, and a batch is
one product, which normalises as well. What changes only some crops changes a stretch of a batch:
the crops lie in it in a random order, with the kinds evenly mixed.
"""

import math
from collections.abc import Callable

import numpy as np
import tensorflow as tf

from configs.settings import AugmentSettings
from mtcnn_detector.boxes import MIRRORED_LANDMARKS
from mtcnn_detector.pixels import normalise

LUMA = np.array([0.299, 0.587, 0.114], np.float32)  # Rec. 601
# Turning the colour circle: RGB to luma and two chroma axes (NTSC's YIQ), and back.
YIQ = np.array([LUMA, [0.596, -0.274, -0.322], [0.211, -0.523, 0.312]], np.float32)
RGB = np.linalg.inv(YIQ)
# What stays of a colour, and what follows the cosine and the sine of a turn; 3 x 3 each.
TURNS = [np.diag([1, 0, 0]), np.diag([0, 1, 1]), np.array([[0, 0, 0], [0, 0, -1], [0, 1, 0]])]
CIRCLE = np.stack([(RGB @ turn @ YIQ).ravel() for turn in TURNS]).astype(np.float32)
INK = 2.5  # the largest gain of a channel of a crop that is printed in one ink
COVERED = (0.2, 0.55)  # sides of what covers a face, in sides of the crop
NOISE = 20  # grey levels, the largest standard deviation
BLACK, WHITE = normalise(np.array([0, 255], np.float32))


def colours(seed: tf.Tensor, count: int, settings: AugmentSettings) -> tuple[tf.Tensor, tf.Tensor]:
    """(count, 3, 3) matrices and (count, 1, 3) offsets that change a crop's colours."""
    draws = tf.random.stateless_uniform([9, count], seed)
    brightness, contrast, saturation, hue = tf.unstack(2 * draws[:4] - 1)
    gain = tf.exp(contrast * np.log1p(settings.contrast))
    vivid = 1 + saturation * settings.saturation
    tinted = draws[5] < settings.monochrome
    vivid = tf.where((draws[4] < settings.grayscale) | tinted, 0.0, vivid)
    angle = hue * settings.hue * np.pi
    parts = tf.stack([tf.ones(count), vivid * tf.cos(angle), vivid * tf.sin(angle)], axis=1)
    matrix = tf.reshape(gain[:, None] * parts @ CIRCLE, [count, 3, 3])
    offset = 127.5 * (1 - gain) + 255 * brightness * settings.brightness
    light = tf.where(tinted, math.log(INK), math.log1p(settings.channel_gain))
    light = tf.exp(tf.transpose(2 * draws[6:] - 1) * light[:, None])
    return light[:, :, None] * matrix, light[:, None, :] * offset[:, None, None]


def recolour(images: tf.Tensor, matrix: tf.Tensor, offset: tf.Tensor) -> tf.Tensor:
    """(N, s, s, 3) pixels 0..255, each crop through its matrix, cut to 0..255 and normalised."""
    count, _, width, channels = images.shape
    scale = normalise(1.0) - normalise(0.0)
    flat = tf.reshape(tf.cast(images, tf.float32), [count, -1, channels])
    changed = tf.matmul(flat, scale * matrix, transpose_b=True)
    # A whole row at a time: adding three values at a time takes as long as the product.
    rows = tf.reshape(changed, [count, -1, width * channels])
    rows += tf.tile(normalise(offset), [1, 1, width])
    return tf.reshape(tf.clip_by_value(rows, BLACK, WHITE), images.shape)


def hflip(images: tf.Tensor) -> tf.Tensor:
    """(N, s, s, 3) pixels with left and right exchanged."""
    # TensorFlow has a fast way for pictures of three channels, but not for batches of them.
    rows = tf.reshape(images, [-1, *images.shape[2:]])
    return tf.reshape(tf.reverse(rows, [1]), [-1, *images.shape[1:]])


def blur_some(seed: tf.Tensor, images: tf.Tensor, share: float) -> tf.Tensor:
    """Soften a share of a batch with a 3 x 3 binomial filter."""
    size, channels = images.shape[2:]
    near = np.abs(np.subtract.outer(np.arange(size), np.arange(size)))
    soft = (np.eye(size) * 2 + (near == 1)) / 4
    soft[0, 0] = soft[-1, -1] = 0.75  # what is outside is like the edge
    along = np.kron(soft, np.eye(channels)).astype(np.float32)
    across = soft.astype(np.float32)

    def blur(chosen: tf.Tensor) -> tf.Tensor:
        # Two products with a band matrix: P-Net's took a third of the time of pooling.
        rows = tf.reshape(chosen, [-1, size * channels]) @ along
        return tf.reshape(across @ tf.reshape(rows, [-1, size, size * channels]), chosen.shape)

    return _change_some(seed, images, share, blur)


def occlude_some(seed: tf.Tensor, images: tf.Tensor, share: float) -> tf.Tensor:
    """Cover a rectangle of a share of a batch with pixels of the crop before."""

    def cover(chosen: tf.Tensor) -> tf.Tensor:
        count, size, _, channels = chosen.shape
        draws = tf.random.stateless_uniform([4, count, 1], seed)
        sides = COVERED[0] + draws[:2] * (COVERED[1] - COVERED[0])
        first = draws[2:] * (1 - sides)
        middles = (np.arange(size, dtype=np.float32) + 0.5) / size
        inside = (middles >= first) & (middles < first + sides)  # (2, count, size)
        covered = inside[0, :, :, None] & tf.repeat(inside[1], channels, axis=1)[:, None]
        # In rows of numbers: TensorFlow is slow to repeat a mask over three channels.
        rows = tf.reshape(chosen, covered.shape)
        return tf.reshape(tf.where(covered, tf.roll(rows, 1, axis=0), rows), chosen.shape)

    return _change_some(seed, images, share, cover)


def downscale_some(seed: tf.Tensor, images: tf.Tensor, share: float) -> tf.Tensor:
    """Halve and double the resolution of a share of a batch.

    Large faces then look as small ones do to a net that they are enlarged for: `cv2.INTER_AREA`
    averages pairs of pixels on the way down and repeats pixels on the way up.
    """

    def coarsen(chosen: tf.Tensor) -> tf.Tensor:
        halved = tf.nn.avg_pool2d(chosen, 2, 2, "VALID")
        return tf.repeat(tf.repeat(halved, 2, axis=1), 2, axis=2)

    return _change_some(seed, images, share, coarsen)


def noise_some(seed: tf.Tensor, images: tf.Tensor, share: float) -> tf.Tensor:
    """Add noise, as of a sensor in the dark, to a share of a batch."""

    def add_noise(chosen: tf.Tensor) -> tf.Tensor:
        strength = NOISE * tf.random.stateless_uniform([chosen.shape[0], 1, 1, 1], seed)
        return chosen + strength * tf.random.stateless_normal(chosen.shape, seed + 1)

    return _change_some(seed, images, share, add_noise)


def _change_some(
    seed: tf.Tensor, images: tf.Tensor, share: float, change: Callable[[tf.Tensor], tf.Tensor]
) -> tf.Tensor:
    """(N, s, s, 3) pixels, uint8, after `change` of a stretch of them that begins anywhere.

    A stretch is cut out and put back for less than scattered rows are.
    `change` gets pixels as floats and need not keep to whole numbers or to 0..255.
    """
    count = images.shape[0]
    length = round(share * count)
    if not length:
        return images
    start = tf.random.stateless_uniform([], seed, 0, count - length + 1, tf.int32)
    chosen = tf.ensure_shape(images[start : start + length], [length, *images.shape[1:]])
    changed = tf.clip_by_value(tf.round(change(tf.cast(chosen, tf.float32))), 0, 255)
    parts = [images[:start], tf.cast(changed, tf.uint8), images[start + length :]]
    return tf.ensure_shape(tf.concat(parts, 0), images.shape)


def hflip_boxes(boxes: tf.Tensor) -> tf.Tensor:
    """(N, 4) offsets from a window -> those of the mirrored window."""
    return tf.stack([-boxes[:, 2], boxes[:, 1], -boxes[:, 0], boxes[:, 3]], axis=1)


def hflip_landmarks(landmarks: tf.Tensor) -> tf.Tensor:
    """(N, 10) fractions x1..x5, y1..y5 -> those in the mirrored window."""
    x = tf.gather(1 - landmarks[:, :5], MIRRORED_LANDMARKS, axis=1)
    return tf.concat([x, tf.gather(landmarks[:, 5:], MIRRORED_LANDMARKS, axis=1)], axis=1)
