"""Changes drawn anew for every crop of every batch: colours, occlusion, blur, noise, mirroring.

All colour changes are affine, so each crop gets one 3 x 3 matrix and one offset, and a batch is
one product. Values are 0..255 here; `pixels.normalise` comes after.
"""

import math

import numpy as np
import tensorflow as tf

from configs.settings import Augment

LUMA = np.array([0.299, 0.587, 0.114], np.float32)  # Rec. 601
# Turning the colour circle: RGB to luma and two chroma axes (NTSC's YIQ), and back.
YIQ = np.array([LUMA, [0.596, -0.274, -0.322], [0.211, -0.523, 0.312]], np.float32)
RGB = np.linalg.inv(YIQ).astype(np.float32)
INK = 2.5  # the largest gain of a channel of a crop that is printed in one ink
COVERED = (0.2, 0.55)  # sides of what covers a face, in sides of the crop
NOISE = 20.0  # the largest standard deviation
# Eyes and mouth corners change sides in a mirror.
MIRRORED_POINTS = [1, 0, 2, 4, 3]


def colours(seed: tf.Tensor, count: int, settings: Augment) -> tuple[tf.Tensor, tf.Tensor]:
    """(count, 3, 3) matrices and (count, 1, 3) offsets that change a crop's colours."""
    draws = tf.random.stateless_uniform([9, count], seed)
    brightness, contrast, saturation, hue = tf.unstack(2 * draws[:4] - 1)
    gain = tf.exp(contrast * np.log1p(settings.contrast))
    vivid = 1 + saturation * settings.saturation
    tinted = draws[5] < settings.tint
    vivid = tf.where((draws[4] < settings.grey) | tinted, 0.0, vivid)
    angle = hue * settings.hue * np.pi
    cosine, sine, zero = vivid * tf.cos(angle), vivid * tf.sin(angle), tf.zeros(count)
    rows = [tf.ones(count), zero, zero, zero, cosine, -sine, zero, sine, cosine]
    turned = tf.reshape(tf.stack(rows, axis=1), [count, 3, 3])
    matrix = gain[:, None, None] * (RGB @ turned @ YIQ)
    offset = 127.5 * (1 - gain) + 255 * brightness * settings.brightness
    light = tf.where(tinted, math.log(INK), math.log1p(settings.light))
    light = tf.exp(tf.transpose(2 * draws[6:] - 1) * light[:, None])
    return light[:, :, None] * matrix, light[:, None, :] * offset[:, None, None]


def recolour(images: tf.Tensor, matrix: tf.Tensor, offset: tf.Tensor) -> tf.Tensor:
    """(N, s, s, 3) float images through one colour matrix each, clipped to 0..255."""
    shape = tf.shape(images)
    flat = tf.reshape(images, [shape[0], -1, 3])
    changed = tf.matmul(flat, matrix, transpose_b=True) + offset
    return tf.reshape(tf.clip_by_value(changed, 0.0, 255.0), shape)


def blur_some(seed: tf.Tensor, images: tf.Tensor, share: float) -> tf.Tensor:
    """Soften an evenly spread share of a batch with a 3 x 3 binomial filter."""
    rows = _some(seed, images.shape[0], share)
    if rows is None:
        return images
    kernel = np.outer([1, 2, 1], [1, 2, 1]).astype(np.float32)[:, :, None, None] / 16
    padded = tf.pad(tf.gather(images, rows), [[0, 0], [1, 1], [1, 1], [0, 0]], "SYMMETRIC")
    kernels = np.repeat(kernel, 3, axis=2)
    soft = tf.nn.depthwise_conv2d(padded, kernels, [1, 1, 1, 1], "VALID")
    return tf.tensor_scatter_nd_update(images, rows[:, None], soft)


def occlude_some(seed: tf.Tensor, images: tf.Tensor, share: float) -> tf.Tensor:
    """Cover a rectangle of an evenly spread share of a batch with pixels of the next crop."""
    rows = _some(seed, images.shape[0], share)
    if rows is None:
        return images
    count, size = rows.shape[0], images.shape[1]
    draws = tf.random.stateless_uniform([4, count, 1], seed)
    sides = COVERED[0] + draws[:2] * (COVERED[1] - COVERED[0])
    first = draws[2:] * (1 - sides)
    middles = (np.arange(size, dtype=np.float32) + 0.5) / size
    inside = (middles >= first) & (middles < first + sides)  # (2, count, size)
    cover = (inside[0, :, :, None] & inside[1, :, None, :])[..., None]
    below, above = tf.gather(images, rows), tf.gather(images, (rows + 1) % images.shape[0])
    return tf.tensor_scatter_nd_update(images, rows[:, None], tf.where(cover, above, below))


def coarsen_some(seed: tf.Tensor, images: tf.Tensor, share: float) -> tf.Tensor:
    """Halve and double the resolution of an evenly spread share of a batch.

    Large faces then look as small ones do to a net that they are enlarged for: `cv2.INTER_AREA`
    averages pairs of pixels on the way down and repeats pixels on the way up.
    """
    rows = _some(seed, images.shape[0], share)
    if rows is None:
        return images
    halved = tf.nn.avg_pool2d(tf.gather(images, rows), 2, 2, "VALID")
    doubled = tf.repeat(tf.repeat(halved, 2, axis=1), 2, axis=2)
    return tf.tensor_scatter_nd_update(images, rows[:, None], doubled)


def noise_some(seed: tf.Tensor, images: tf.Tensor, share: float) -> tf.Tensor:
    """Add noise, as of a sensor in the dark, to an evenly spread share of a batch."""
    rows = _some(seed, images.shape[0], share)
    if rows is None:
        return images
    count, size = rows.shape[0], images.shape[1]
    strength = NOISE * tf.random.stateless_uniform([count, 1, 1, 1], seed)
    noise = strength * tf.random.stateless_normal([count, size, size, 3], seed)
    noisy = tf.clip_by_value(tf.gather(images, rows) + noise, 0.0, 255.0)
    return tf.tensor_scatter_nd_update(images, rows[:, None], noisy)


def _some(seed: tf.Tensor, count: int, share: float) -> tf.Tensor | None:
    """Rows of an evenly spread share of a batch, so that every kind of crop has its part."""
    chosen = round(share * count)
    if not chosen:
        return None
    start = tf.random.stateless_uniform([], seed, 0, count, tf.int32)
    return (start + tf.range(chosen) * count // chosen) % count


def mirror_boxes(boxes: tf.Tensor) -> tf.Tensor:
    """(N, 4) offsets from a window -> those of the mirrored window."""
    return tf.stack([-boxes[:, 2], boxes[:, 1], -boxes[:, 0], boxes[:, 3]], axis=1)


def mirror_points(points: tf.Tensor) -> tf.Tensor:
    """(N, 10) fractions x1..x5, y1..y5 -> those in the mirrored window."""
    x = tf.gather(1 - points[:, :5], MIRRORED_POINTS, axis=1)
    return tf.concat([x, tf.gather(points[:, 5:], MIRRORED_POINTS, axis=1)], axis=1)
