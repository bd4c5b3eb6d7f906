"""Area-averaging resize of windows as TensorFlow operations, equal to `cv2.INTER_AREA`."""

import tensorflow as tf


class Resizer:
    """Resizes an image, or windows of it, as `cv2.resize(..., interpolation=cv2.INTER_AREA)` does.

    Args:
        pixels: (H, W, 3) float64.
    """

    def __init__(self, pixels: tf.Tensor) -> None:
        self._pixels = pixels
        self.sides = tf.shape(pixels)[:2]
        # (H + 1, W + 1, 3): sums of all pixels above and to the left.
        sums = tf.cumsum(tf.cumsum(pixels, axis=0), axis=1)
        self._integral = tf.pad(sums, [[1, 0], [1, 0], [0, 0]])

    def level(self, level_sides: tf.Tensor) -> tf.Tensor:
        """The image in another size (height, width), (h, w, 3)."""
        whole = tf.concat([[0, 0], self.sides[::-1]], axis=0)[None]
        return self._resized(whole, level_sides[0], level_sides[1])[0]

    def crops(self, windows: tf.Tensor, size: int) -> tf.Tensor:
        """(N, 4) whole-pixel windows -> (N, size, size, 3), black outside of the image."""
        return self._resized(windows, tf.constant(size), tf.constant(size))

    def _resized(self, windows: tf.Tensor, height: tf.Tensor, width: tf.Tensor) -> tf.Tensor:
        lengths = windows[:, 2:] - windows[:, :2]
        smaller = (lengths[:, 0] < width) | (lengths[:, 1] < height)
        places = tf.where(smaller)[:, 0], tf.where(~smaller)[:, 0]
        parts = (
            self._enlarged(tf.gather(windows, places[0]), height, width),
            self._averaged(tf.gather(windows, places[1]), height, width),
        )
        order = tf.argsort(tf.concat(places, axis=0))
        return tf.gather(tf.concat(parts, axis=0), order)

    def _averaged(self, windows: tf.Tensor, height: tf.Tensor, width: tf.Tensor) -> tf.Tensor:
        """Means over the area of each new pixel, from the integral image at its corners."""
        x = self._edges(windows[:, 0], windows[:, 2], width, self.sides[1])
        y = self._edges(windows[:, 1], windows[:, 3], height, self.sides[0])
        sums = bilinear(self._integral, y, x)
        totals = sums[:, 1:, 1:] - sums[:, :-1, 1:] - sums[:, 1:, :-1] + sums[:, :-1, :-1]
        shape = tf.cast(tf.stack([height, width], axis=0), tf.float64)
        lengths = tf.cast(windows[:, 2:] - windows[:, :2], tf.float64)[:, ::-1]
        areas = tf.reduce_prod(lengths / shape, axis=1)
        return totals / areas[:, None, None, None]

    @staticmethod
    def _edges(first: tf.Tensor, last: tf.Tensor, count: tf.Tensor, limit: tf.Tensor) -> tf.Tensor:
        """(N, count + 1) edges of the new pixels, moved to the image's border if outside."""
        step = tf.cast(last - first, tf.float64) / tf.cast(count, tf.float64)
        places = tf.cast(tf.range(count + 1), tf.float64)
        edges = tf.cast(first, tf.float64)[:, None] + step[:, None] * places
        return tf.clip_by_value(edges, 0.0, tf.cast(limit, tf.float64))

    def _enlarged(self, windows: tf.Tensor, height: tf.Tensor, width: tf.Tensor) -> tf.Tensor:
        """OpenCV's interpolation where `INTER_AREA` enlarges."""
        x, x_share = self._taps(windows[:, 2] - windows[:, 0], width)
        y, y_share = self._taps(windows[:, 3] - windows[:, 1], height)
        rows = self._lines(windows[:, 1], windows[:, 3], y)
        columns = self._lines(windows[:, 0], windows[:, 2], x)
        taps = [[self._pixels_at(row, column) for column in columns] for row in rows]
        across = [a + (b - a) * x_share[:, None, :, None] for a, b in taps]
        return across[0] + (across[1] - across[0]) * y_share[:, :, None, None]

    @staticmethod
    def _taps(length: tf.Tensor, count: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """(N, count): the pixel before each new pixel, and the weight of the next one."""
        places = tf.cast(tf.range(count), tf.float64)
        scale = tf.cast(length, tf.float64)[:, None] / tf.cast(count, tf.float64)
        before = tf.floor(places * scale)
        share = (places + 1) - (before + 1) / scale
        return before, tf.where(share <= 0, tf.zeros_like(share), share - tf.floor(share))

    @staticmethod
    def _lines(first: tf.Tensor, last: tf.Tensor, before: tf.Tensor) -> list[tf.Tensor]:
        """Rows or columns of the image of the two taps, within the window."""
        start, end = first[:, None], last[:, None] - 1
        taps = [tf.cast(before, tf.int32) + start + step for step in (0, 1)]
        return [tf.minimum(tap, end) for tap in taps]

    def _pixels_at(self, rows: tf.Tensor, columns: tf.Tensor) -> tf.Tensor:
        """(N, h) rows and (N, w) columns -> (N, h, w, 3) pixels, black outside of the image."""
        inside = [
            (places >= 0) & (places < limit)
            for places, limit in ((rows, self.sides[0]), (columns, self.sides[1]))
        ]
        mask = inside[0][:, :, None] & inside[1][:, None, :]
        found = gather_grid(self._pixels, rows, columns)
        return tf.where(mask[..., None], found, tf.zeros_like(found))


def gather_grid(image: tf.Tensor, rows: tf.Tensor, columns: tf.Tensor) -> tf.Tensor:
    """(N, h) rows and (N, w) columns of an image -> (N, h, w, 3); clipped at its border."""
    height, width = tf.shape(image)[0], tf.shape(image)[1]
    rows = tf.clip_by_value(rows, 0, tf.maximum(height - 1, 0))
    columns = tf.clip_by_value(columns, 0, tf.maximum(width - 1, 0))
    places = rows[:, :, None] * width + columns[:, None, :]
    return tf.gather(tf.reshape(image, [-1, 3]), places)


def bilinear(image: tf.Tensor, y: tf.Tensor, x: tf.Tensor) -> tf.Tensor:
    """An image at (N, h) and (N, w) fractional places -> (N, h, w, 3)."""
    row, column = tf.floor(y), tf.floor(x)
    rows = [tf.cast(row, tf.int32) + step for step in (0, 1)]
    columns = [tf.cast(column, tf.int32) + step for step in (0, 1)]
    down, across = (y - row)[:, :, None, None], (x - column)[:, None, :, None]
    lines = []
    for place in rows:
        left, right = (gather_grid(image, place, column) for column in columns)
        lines.append(left + (right - left) * across)
    return lines[0] + (lines[1] - lines[0]) * down


def pad_replicating(image: tf.Tensor, before: int, after: int) -> tf.Tensor:
    """An image with its border replicated, by so many pixels before and after each side."""
    rows, columns = (
        tf.clip_by_value(
            tf.range(-before, tf.shape(image)[axis] + after), 0, tf.shape(image)[axis] - 1
        )
        for axis in (0, 1)
    )
    return tf.gather(tf.gather(image, rows, axis=0), columns, axis=1)
