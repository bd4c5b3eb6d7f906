"""Cutting, padding, resizing and reading pictures; x and y are told apart everywhere."""

import errno
import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mtcnn_detector import pixels
from mtcnn_detector.errors import UserError

HEIGHT, WIDTH = 40, 60


def speckled(height: int = HEIGHT, width: int = WIDTH) -> pixels.Image:
    """A picture in which no pixel is black and no two places are alike."""
    return np.random.default_rng(0).integers(1, 256, (height, width, 3), np.uint8)


@pytest.mark.parametrize(
    ("window", "inside"),
    [
        ((10, 5, 30, 35), (0, 0, 20, 30)),  # wholly inside: nothing is padded
        ((0, 0, WIDTH, HEIGHT), (0, 0, WIDTH, HEIGHT)),
        ((-7, 5, 13, 25), (7, 0, 20, 20)),  # over the left border
        ((50, 5, 70, 25), (0, 0, 10, 20)),  # right
        ((10, -4, 30, 16), (0, 4, 20, 20)),  # top
        ((10, 30, 30, 50), (0, 0, 20, 10)),  # bottom
        ((-10, -20, 70, 60), (10, 20, 70, 60)),  # around the whole picture
    ],
)
def test_windows_are_black_outside_the_picture(
    window: tuple[int, int, int, int], inside: tuple[int, int, int, int]
) -> None:
    image = speckled()
    patch = pixels.padded(image, np.array(window))
    x1, y1, x2, y2 = window
    assert patch.shape == (y2 - y1, x2 - x1, 3)
    left, top, right, bottom = inside
    held = patch[top:bottom, left:right]
    place = image[max(y1, 0) : max(y1, 0) + held.shape[0], max(x1, 0) : max(x1, 0) + held.shape[1]]
    np.testing.assert_array_equal(held, place)
    assert np.count_nonzero(patch) == held.size  # no pixel of the picture is black


@pytest.mark.parametrize(
    "window",
    [
        (-30, 5, -10, 25),
        (WIDTH, 5, WIDTH + 20, 25),
        (WIDTH + 40, 5, WIDTH + 60, 25),
        (10, -60, 30, -40),
        (10, HEIGHT + 9, 30, HEIGHT + 29),
        (-90, -90, -60, -60),
    ],
)
def test_a_window_that_misses_the_picture_is_black(window: tuple[int, int, int, int]) -> None:
    patch = pixels.padded(speckled(), np.array(window))
    assert patch.shape == (window[3] - window[1], window[2] - window[0], 3)
    assert not patch.any()


@given(st.integers(-80, 100), st.integers(-80, 100), st.integers(1, 90), st.integers(1, 90))
def test_padding_is_as_if_the_picture_lay_on_black(x: int, y: int, wide: int, high: int) -> None:
    image, edge = speckled(), 200
    canvas = np.pad(image, ((edge, edge), (edge, edge), (0, 0)))
    patch = pixels.padded(image, np.array([x, y, x + wide, y + high]))
    x, y = x + edge, y + edge
    np.testing.assert_array_equal(patch, canvas[y : y + high, x : x + wide])


@pytest.mark.parametrize("side", [9, 12, 24, 31, 40])
def test_a_cut_inside_is_opencvs_area_resampling(side: int) -> None:
    image = speckled()
    crops = pixels.cut(image, np.array([[13, 0, 13 + side, side], [2, 0, 2 + side, side]]), 12)
    assert crops.shape == (2, 12, 12, 3)
    assert crops.dtype == np.uint8
    wanted = cv2.resize(image[0:side, 13 : 13 + side], (12, 12), interpolation=cv2.INTER_AREA)
    np.testing.assert_array_equal(crops[0], wanted)


def test_a_cut_over_the_border_pads_before_it_shrinks() -> None:
    image = np.full((HEIGHT, WIDTH, 3), 200, np.uint8)
    crop = pixels.cut(image, np.array([[-18, 4, 6, 28]]), 12)[0]  # two pixels to one
    assert not crop[:, :9].any()
    assert np.all(crop[:, 9:] == 200)
    crop = pixels.cut(image, np.array([[-17, 4, 7, 28]]), 12)[0]
    assert np.all(crop[:, 8] == 100), "half a pixel of picture, half of black"


def test_no_windows_give_no_crops() -> None:
    assert pixels.cut(speckled(), np.zeros((0, 4), int), 24).shape == (0, 24, 24, 3)


def test_resize_takes_width_before_height() -> None:
    image = np.zeros((40, 60, 3), np.uint8)
    image[:, 30:] = 255  # the right half
    small = pixels.resize(image, 30, 10)
    assert small.shape == (10, 30, 3)
    assert not small[:, :15].any()
    assert np.all(small[:, 15:] == 255)


def test_normalise_by_hand() -> None:
    values = np.array([0, 127.5, 255], np.float32)
    np.testing.assert_allclose(pixels.normalise(values), [-0.99609375, 0, 0.99609375], atol=0)


def test_a_turn_moves_a_point_as_the_screen_shows_it() -> None:
    # A quarter, counter-clockwise, about the middle of [10, 30) x [20, 50): (19.5, 34.5).
    turn = pixels.rotation(np.array([10, 20, 30, 50]), 90)
    right_of_it = turn @ [24.5, 34.5, 1]
    np.testing.assert_allclose(right_of_it, [19.5, 29.5], rtol=0, atol=1e-9)  # goes above


@settings(max_examples=60)
@given(st.floats(-30, 30), st.integers(20, 40), st.integers(20, 34), st.integers(-6, 6))
def test_a_turned_cut_has_the_dot_where_the_rotation_says(
    degrees: float, x: int, y: int, shift: int
) -> None:
    image = np.zeros((70, 90, 3), np.uint8)
    cv2.circle(image, (x, y), 2, (255, 255, 255), -1)
    window = np.array([4 + shift, 2, 4 + shift + 48, 50])
    crop = pixels.cut_rotated(image, window, degrees, 48)[..., 0].astype(float)
    assert crop.sum() > 0
    rows, columns = np.indices(crop.shape)
    found = [(columns * crop).sum() / crop.sum(), (rows * crop).sum() / crop.sum()]
    said = pixels.rotation(window, degrees) @ [x, y, 1] - window[:2]
    np.testing.assert_allclose(found, said, rtol=0, atol=0.1)


def test_a_cut_turned_by_nothing_is_the_plain_cut() -> None:
    image, window = speckled(), np.array([[-6, 10, 42, 58]])
    turned = pixels.cut_rotated(image, window[0], 0.0, 24)
    np.testing.assert_array_equal(turned, pixels.cut(image, window, 24)[0])


def packages_scales(height: int, width: int, min_face: int, factor: float) -> list[float]:
    """The loop of the mtcnn package."""
    m = 12 / min_face
    min_layer = np.amin([height, width]) * m
    scales: list[float] = []
    count = 0
    while min_layer >= 12:
        scales += [m * np.power(factor, count)]
        min_layer = min_layer * factor
        count += 1
    return scales


@given(
    st.integers(1, 4000),
    st.integers(1, 4000),
    st.integers(5, 200),
    st.sampled_from([0.5, 0.6, 0.709, 0.79, 0.9]),
)
def test_pyramids_are_the_packages(height: int, width: int, min_face: int, factor: float) -> None:
    scales = pixels.pyramid_scales(height, width, min_face, factor, 12)
    wanted = packages_scales(height, width, min_face, factor)
    assert len(scales) == len(wanted)
    # What counts is how large the levels are.
    for ours, theirs in zip(scales, wanted, strict=True):
        assert np.ceil(height * ours) == np.ceil(height * theirs)
        assert np.ceil(width * ours) == np.ceil(width * theirs)


@pytest.mark.parametrize("side", [49, 98, 103, 107])
def test_a_picture_just_as_large_as_the_smallest_face(side: int) -> None:
    """Twelve pixels but for a rounding, which the package does not forgive."""
    scales = pixels.pyramid_scales(side, 300, side, 0.709, 12)
    assert scales == packages_scales(side, 300, side, 0.709)


def test_pyramid_by_hand() -> None:
    assert pixels.pyramid_scales(100, 48, 24, 0.5, 12) == [0.5, 0.25]
    assert pixels.pyramid_scales(23, 400, 24, 0.5, 12) == []


# Left to right in one row of pixels: red, green, blue, dark grey.
ROW = np.array([[[255, 0, 0], [0, 255, 0], [0, 0, 255], [50, 50, 50]]], np.uint8)


def written(path: Path, stored: np.ndarray) -> Path:
    """A picture file; channels are stored as OpenCV has them, blue first."""
    done, coded = cv2.imencode(path.suffix, stored)
    assert done
    path.write_bytes(coded.tobytes())
    return path


def test_pictures_are_read_as_red_green_blue(tmp_path: Path) -> None:
    read = pixels.read_image(written(tmp_path / "row.png", ROW[..., ::-1]))
    np.testing.assert_array_equal(read, ROW)


def test_a_picture_with_transparency_is_read_without_it(tmp_path: Path) -> None:
    alpha = np.full((1, 4, 1), 7, np.uint8)
    path = written(tmp_path / "row.png", np.concatenate([ROW[..., ::-1], alpha], axis=2))
    np.testing.assert_array_equal(pixels.read_image(path), ROW)


def test_grey_and_deep_pictures_are_read_as_eight_bit_colours(tmp_path: Path) -> None:
    grey = np.array([[0, 100], [200, 255], [3, 4]], np.uint8)
    read = pixels.read_image(written(tmp_path / "grey.png", grey))
    np.testing.assert_array_equal(read, np.repeat(grey[..., None], 3, axis=2))
    deep = ROW[..., ::-1].astype(np.uint16) * 256
    np.testing.assert_array_equal(pixels.read_image(written(tmp_path / "deep.png", deep)), ROW)


def test_a_photograph_is_read_as_it_is_stored_or_upright(tmp_path: Path) -> None:
    """Annotations count stored pixels; people look at what their camera noted down."""
    coded = written(tmp_path / "wide.jpg", np.full((20, 50, 3), 90, np.uint8)).read_bytes()
    # One entry, orientation (0x0112): 6, to be shown turned by a quarter.
    entry = struct.pack("<HHIHH", 0x0112, 3, 1, 6, 0)
    tiff = b"II*\0" + struct.pack("<I", 8) + struct.pack("<H", 1) + entry + bytes(4)
    exif = b"Exif\0\0" + tiff
    marked = coded[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + coded[2:]
    turned = cv2.imdecode(np.frombuffer(marked, np.uint8), cv2.IMREAD_COLOR)
    assert turned is not None
    assert turned.shape == (50, 20, 3), "the note is one that OpenCV would follow"
    (tmp_path / "noted.jpg").write_bytes(marked)
    read, upright = (pixels.read_image(tmp_path / "noted.jpg", turn) for turn in (False, True))
    assert read is not None and upright is not None
    assert read.shape == (20, 50, 3)
    assert upright.shape == (50, 20, 3)


def test_an_image_is_written_as_its_ending_says(tmp_path: Path) -> None:
    image = speckled()
    pixels.write_image(tmp_path / "deep" / "a.png", image)
    read = pixels.read_image(tmp_path / "deep" / "a.png")
    assert read is not None and (read == image).all()


def test_why_an_image_cannot_be_written_is_told(tmp_path: Path) -> None:
    full = tmp_path / "full.png"
    full.symlink_to("/dev/full")
    with pytest.raises(OSError) as caught:
        pixels.write_image(full, speckled())
    assert caught.value.errno == errno.ENOSPC
    wide = np.zeros((1, 70_000, 3), np.uint8)
    with pytest.raises(UserError, match=r"wide\.jpg: an image of 70000 x 1 pixels does not fit"):
        pixels.write_image(tmp_path / "wide.jpg", wide)


def huge_png() -> bytes:
    """A few bytes that claim to be ten thousand million pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        check = zlib.crc32(kind + data)
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", check)

    header = struct.pack(">IIBBBBB", 100_000, 100_000, 8, 2, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"0")) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


@pytest.mark.parametrize(
    "content",
    [b"", b"no picture", b"\xff\xd8\xff\xe0", huge_png()],
    ids=["empty", "text", "two markers", "a hundred thousand pixels wide"],
)
def test_a_file_that_is_no_picture_is_none(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "broken.jpg"
    path.write_bytes(content)
    assert pixels.read_image(path) is None


def test_a_missing_picture_is_none(tmp_path: Path) -> None:
    assert pixels.read_image(tmp_path / "missing.jpg") is None
    assert pixels.read_image(tmp_path) is None  # a folder


@pytest.mark.parametrize("size", [(53, 71), (31, 50), (100, 120), (7, 9), (1, 1), (50, 60)])
def test_a_pyramid_holds_what_resizing_gives(size: tuple[int, int]) -> None:
    picture = np.random.default_rng(0).integers(0, 256, (100, 120, 3), np.uint8)
    height, width = size
    rows = pixels.ImagePyramid(picture).level(width, height)
    wanted = pixels.resize(picture, width, height).astype(int)
    whole = rows(0, height).astype(int)
    assert np.abs(whole - wanted).max() <= 1
    assert (whole != wanted).mean() < 0.01, "only a mean between two grey levels may round apart"
    for order in (1, -1):
        rows = pixels.ImagePyramid(picture).level(width, height)
        parts = [rows(row, row + 1) for row in range(height)[::order]][::order]
        np.testing.assert_array_equal(np.concatenate(parts), whole)


@pytest.mark.parametrize("summed", [10, pixels.MAX_SUMMED_PIXELS])
def test_a_pyramid_of_a_huge_or_an_enlarged_picture_is_resized_plainly(
    summed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pixels, "MAX_SUMMED_PIXELS", summed)
    picture = np.random.default_rng(0).integers(0, 256, (40, 50, 3), np.uint8)
    height, width = (30, 45) if summed == 10 else (60, 51)
    rows = pixels.ImagePyramid(picture).level(width, height)
    np.testing.assert_array_equal(rows(5, 20), pixels.resize(picture, width, height)[5:20])


@pytest.mark.parametrize("levels", [0, 1])
def test_a_pictures_crops_are_those_of_resizing(levels: int) -> None:
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (300, 400, 3), np.uint8)
    sides = rng.integers(1, 260, (80, 2))
    sides[:6] = [[1, 1], [47, 47], [48, 48], [47, 200], [200, 47], [400, 300]]
    corners = rng.integers(-20, 100, (80, 2))
    corners[5] = 0  # the whole picture
    windows = np.concatenate([corners, corners + sides], axis=1)
    inside = (corners >= 0).all(axis=1) & (windows[:, 2:] <= [400, 300]).all(axis=1)
    large = inside & (sides >= pixels.MIN_REDUCTION * 12).all(axis=1)
    assert 20 < np.count_nonzero(large) < 60
    picture = pixels.ImagePyramid(image)
    for size in range(40, 40 + levels):
        picture.level(size, size)(0, 1)  # sums are begun
    crops = picture.cut(windows, 12)
    wanted = pixels.cut(image, windows, 12, np.float32)
    np.testing.assert_array_equal(crops[~large], wanted[~large])
    assert np.any(crops[large] != wanted[large]) == bool(levels), "the sums are used if they exist"
    np.testing.assert_allclose(crops, wanted, rtol=0, atol=0.002)  # of 255


@pytest.mark.parametrize("height", [12_000, 90_000])
def test_sums_of_a_tall_picture_are_exact_enough(height: int) -> None:
    image = np.random.default_rng(0).integers(200, 256, (height, 60, 3), np.uint8)
    picture = pixels.ImagePyramid(image)
    shape = 37, height * 5 // 8
    level = picture.level(*shape)(shape[1] - 128, shape[1])
    assert (level != pixels.resize(image, *shape)[-128:]).mean() < 0.01
    windows = np.array([[0, height - 60, 60, height]])
    wanted = pixels.cut(image, windows, 12, np.float32)
    np.testing.assert_allclose(picture.cut(windows, 12), wanted, rtol=0, atol=0.002)
