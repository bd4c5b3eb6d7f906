"""Data augmentation on batches: colour jitter, occlusion, blur, downscaling, noise, mirroring.

All colour changes are affine, so each crop gets one 3 x 3 matrix and one offset, and a batch is
one matrix product, which normalises as well. A change of a fraction of the crops is applied to
one contiguous slice of the batch: the crops come in a random order, the sample types evenly mixed.
"""

import math
from collections.abc import Callable

import numpy as np
import tensorflow as tf

from configs.train_settings import AugmentSettings
from mtcnn_detector.boxes import MIRRORED_LANDMARKS
from mtcnn_detector.pixels import normalise

LUMA = np.array([0.299, 0.587, 0.114], np.float32)  # Rec. 601
# Hue is rotated in NTSC's YIQ: luma and two chroma axes.
RGB_TO_YIQ = np.array([LUMA, [0.596, -0.274, -0.322], [0.211, -0.523, 0.312]], np.float32)
YIQ_TO_RGB = np.linalg.inv(RGB_TO_YIQ)
# The parts of a rotation that are constant, scaled by its cosine, and by its sine; 3 x 3 each.
ROTATION = [np.diag([1, 0, 0]), np.diag([0, 1, 1]), np.array([[0, 0, 0], [0, 0, -1], [0, 1, 0]])]
HUE_BASIS = np.stack([(YIQ_TO_RGB @ part @ RGB_TO_YIQ).ravel() for part in ROTATION])
HUE_BASIS = HUE_BASIS.astype(np.float32)
MAX_MONOCHROME_GAIN = 2.5  # of a channel, in crops that become shades of one colour
OCCLUDER_SIDES = (0.2, 0.55)  # shortest and longest, in sides of the crop
MAX_NOISE_STDDEV = 20  # grey levels
BLACK, WHITE = normalise(np.array([0, 255], np.float32))


def color_jitter(
    seed: tf.Tensor, count: int, settings: AugmentSettings
) -> tuple[tf.Tensor, tf.Tensor]:
    """Random affine colour changes of `count` crops, on pixel values 0..255.

    Returns:
        (count, 3, 3) matrices and (count, 1, 3) offsets: a pixel becomes matrix @ pixel + offset.
    """
    draws = tf.random.stateless_uniform([9, count], seed)
    brightness, contrast, saturation, hue = tf.unstack(2 * draws[:4] - 1)
    gain = tf.exp(contrast * np.log1p(settings.contrast))
    chroma = 1 + saturation * settings.saturation
    monochrome = draws[5] < settings.monochrome
    chroma = tf.where((draws[4] < settings.grayscale) | monochrome, 0.0, chroma)
    angle = hue * settings.hue * np.pi
    parts = tf.stack([tf.ones(count), chroma * tf.cos(angle), chroma * tf.sin(angle)], axis=1)
    matrix = tf.reshape(gain[:, None] * parts @ HUE_BASIS, [count, 3, 3])
    offset = 127.5 * (1 - gain) + 255 * brightness * settings.brightness
    log_gain = tf.where(
        monochrome, math.log(MAX_MONOCHROME_GAIN), math.log1p(settings.channel_gain)
    )
    channels = tf.exp(tf.transpose(2 * draws[6:] - 1) * log_gain[:, None])
    return channels[:, :, None] * matrix, channels[:, None, :] * offset[:, None, None]


def apply_color_jitter(images: tf.Tensor, matrix: tf.Tensor, offset: tf.Tensor) -> tf.Tensor:
    """(N, s, s, 3) pixels 0..255, jittered by `color_jitter`, clipped and normalised; float32."""
    count, _, width, channels = images.shape
    scale = normalise(1.0) - normalise(0.0)
    flat = tf.reshape(tf.cast(images, tf.float32), [count, -1, channels])
    changed = tf.matmul(flat, scale * matrix, transpose_b=True)
    # A whole row at a time: adding three values at a time takes as long as the product.
    rows = tf.reshape(changed, [count, -1, width * channels])
    rows += tf.tile(normalise(offset), [1, 1, width])
    return tf.reshape(tf.clip_by_value(rows, BLACK, WHITE), images.shape)


def hflip(images: tf.Tensor) -> tf.Tensor:
    """(N, s, s, 3) pixels mirrored horizontally."""
    # TensorFlow's fast kernel takes single images of three channels, not batches of them.
    rows = tf.reshape(images, [-1, *images.shape[2:]])
    return tf.reshape(tf.reverse(rows, [1]), [-1, *images.shape[1:]])


def random_blur(seed: tf.Tensor, images: tf.Tensor, fraction: float) -> tf.Tensor:
    """(N, s, s, 3) uint8 pixels, a fraction of the crops under a 3 x 3 binomial filter."""
    size, channels = images.shape[2:]
    distance = np.abs(np.subtract.outer(np.arange(size), np.arange(size)))
    kernel = (np.eye(size) * 2 + (distance == 1)) / 4
    kernel[0, 0] = kernel[-1, -1] = 0.75  # beyond the edge its own pixels are repeated
    horizontal = np.kron(kernel, np.eye(channels)).astype(np.float32)
    vertical = kernel.astype(np.float32)

    def blur(chosen: tf.Tensor) -> tf.Tensor:
        # Two products with a band matrix: on P-Net's crops a third of the time of pooling.
        rows = tf.reshape(chosen, [-1, size * channels]) @ horizontal
        return tf.reshape(vertical @ tf.reshape(rows, [-1, size, size * channels]), chosen.shape)

    return _apply_to_fraction(seed, images, fraction, blur)


def random_occlusion(seed: tf.Tensor, images: tf.Tensor, fraction: float) -> tf.Tensor:
    """(N, s, s, 3) uint8 pixels, a fraction of the crops with a rectangle of the one before."""

    def occlude(chosen: tf.Tensor) -> tf.Tensor:
        count, size, _, channels = chosen.shape
        draws = tf.random.stateless_uniform([4, count, 1], seed)
        sides = OCCLUDER_SIDES[0] + draws[:2] * (OCCLUDER_SIDES[1] - OCCLUDER_SIDES[0])
        first = draws[2:] * (1 - sides)
        centres = (np.arange(size, dtype=np.float32) + 0.5) / size
        inside = (centres >= first) & (centres < first + sides)  # (2, count, size)
        mask = inside[0, :, :, None] & tf.repeat(inside[1], channels, axis=1)[:, None]
        # In flat rows: TensorFlow is slow at broadcasting a mask over three channels.
        rows = tf.reshape(chosen, mask.shape)
        return tf.reshape(tf.where(mask, tf.roll(rows, 1, axis=0), rows), chosen.shape)

    return _apply_to_fraction(seed, images, fraction, occlude)


def random_downscale(seed: tf.Tensor, images: tf.Tensor, fraction: float) -> tf.Tensor:
    """(N, s, s, 3) uint8 pixels, a fraction of the crops at half their resolution.

    Large faces then look as small faces do when they are enlarged to the net's input:
    `cv2.INTER_AREA` averages pairs of pixels on the way down and repeats pixels on the way up.
    """

    def downscale(chosen: tf.Tensor) -> tf.Tensor:
        size = chosen.shape[1]
        halved = tf.nn.avg_pool2d(chosen, 2, 2, "SAME")  # of an odd side the last pixel is alone
        return tf.repeat(tf.repeat(halved, 2, axis=1), 2, axis=2)[:, :size, :size]

    return _apply_to_fraction(seed, images, fraction, downscale)


def random_noise(seed: tf.Tensor, images: tf.Tensor, fraction: float) -> tf.Tensor:
    """(N, s, s, 3) uint8 pixels, a fraction of the crops with Gaussian noise, as in poor light."""

    def add_noise(chosen: tf.Tensor) -> tf.Tensor:
        stddev = MAX_NOISE_STDDEV * tf.random.stateless_uniform([chosen.shape[0], 1, 1, 1], seed)
        return chosen + stddev * tf.random.stateless_normal(chosen.shape, seed + 1)

    return _apply_to_fraction(seed, images, fraction, add_noise)


def _apply_to_fraction(
    seed: tf.Tensor, images: tf.Tensor, fraction: float, change: Callable[[tf.Tensor], tf.Tensor]
) -> tf.Tensor:
    """Change one randomly placed contiguous slice of a batch.

    Slicing and concatenating is cheaper than gathering and scattering single rows.

    Args:
        seed: decides where the slice begins.
        images: (N, s, s, 3) uint8 pixels.
        fraction: length of the slice, in crops of the batch.
        change: takes and gives float32 pixels; its outputs are rounded and clipped to 0..255.
    """
    count = images.shape[0]
    length = round(fraction * count)
    if not length:
        return images
    start = tf.random.stateless_uniform([], seed, 0, count - length + 1, tf.int32)
    chosen = tf.ensure_shape(images[start : start + length], [length, *images.shape[1:]])
    changed = tf.clip_by_value(tf.round(change(tf.cast(chosen, tf.float32))), 0, 255)
    parts = [images[:start], tf.cast(changed, tf.uint8), images[start + length :]]
    return tf.ensure_shape(tf.concat(parts, 0), images.shape)


def hflip_boxes(boxes: tf.Tensor) -> tf.Tensor:
    """(N, 4) box offsets -> those in the mirrored window."""
    return tf.stack([-boxes[:, 2], boxes[:, 1], -boxes[:, 0], boxes[:, 3]], axis=1)


def hflip_landmarks(landmarks: tf.Tensor) -> tf.Tensor:
    """(N, 10) fractions x1..x5, y1..y5 -> those in the mirrored window."""
    x = tf.gather(1 - landmarks[:, :5], MIRRORED_LANDMARKS, axis=1)
    return tf.concat([x, tf.gather(landmarks[:, 5:], MIRRORED_LANDMARKS, axis=1)], axis=1)
