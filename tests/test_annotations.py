"""Every annotation format: what is read from its traps, and the sentence for its damages."""

import json
import os
import re
import time
from pathlib import Path

import numpy as np
import pytest

from data_prep.annotations import Annotation, read
from mtcnn_detector.errors import UserError

IMAGES = Path("images")

WIDER = """\
0--Parade/a.jpg
2
10 20 30 50 0 0 0 0 0 0
5 6 7 9 2 0 0 1 0 0
0--Parade/none.jpg
0
0 0 0 0 0 0 0 0 0 0
1--Shake/b c.jpg
4
40 50 0 23 2 0 0 0 2 0
-4 2 30 71 0 0 0 0 0 0
60 70 12 -3 0 0 0 1 0 0
600 7 80 90 0 0 0 0 0 0
"""
FLAGGED = "1.5 2.5 0.0 3.5 4.5 1.0 5.5 6.5 0.0 7.5 8.5 0.0 9.5 10.5 0.0"
LANDMARKS = [[1.5, 2.5], [3.5, 4.5], [5.5, 6.5], [7.5, 8.5], [9.5, 10.5]]
RETINAFACE = f"""\
# 0--Parade/a.jpg
10 20 30 50 {" ".join(["-1.0"] * 15)} 0.3
5 6 7 9 {FLAGGED} 0.82
# 0--Parade/none.jpg
# 1--Shake/b c.jpg
-4 2 30 71 -1 -1 0.0 20 8 0.0 -2.5 9 0.0 1 60 0.0 19 61 0.0 0.6
"""
MTFL = r"""lfw\a.jpg 10 40 20 70 1.5 2.5 3.5 4.5 15.5 26.5 7.5 8.5 9.5 10.5
net\b.jpg 50 97 55 101 63.75 64.65 88.05 67.35 75.15 85.65 63.15 94.65 83.85 97.05 1 0 2 x
"""
CELEBA = """\
2
image_id x_1 y_1 width height
000001.jpg    95  71 226 313
000002.jpg    72  94   0 306
"""
CELEBA_LANDMARKS = """\
2
lefteye_x lefteye_y righteye_x righteye_y nose_x nose_y leftmouth_x leftmouth_y rightmouth_x rightmouth_y
000001.jpg 165  184  244  176  196  249  194  271  266  260
000002.jpg 140  204  220  204  168  254  146  289  226  289
"""  # noqa: E501
COCO = {
    "images": [
        {"id": 7, "file_name": "sub/b.png", "width": 100, "height": 80},
        {"id": 3, "file_name": "a.jpg"},
    ],
    "annotations": [
        {"id": 1, "image_id": 3, "bbox": [10, 20, 30.5, 50], "iscrowd": 1, "category_id": 9},
        {"id": 2, "image_id": 3, "bbox": [1, 2, 0, 4]},
        {
            "id": 5,
            "image_id": 3,
            "bbox": [0, 0, 20, 25],
            "ignore": 0,
            "keypoints": [1, 2, 2, 0, 0, 0, 5, 6, 1, 7, 8, 2, 9, 10, 2],
        },
        {"id": 6, "image_id": 3, "bbox": [0, 0, 2, 3], "ignore": 1, "keypoints": []},
    ],
}
TEXTS = {
    "wider": WIDER,
    "retinaface": RETINAFACE,
    "mtfl": MTFL,
    "celeba": CELEBA,
    "coco": json.dumps(COCO),
}


def write(folder: Path, text: str, name: str = "labels.txt") -> Path:
    file = folder / name
    file.write_text(text)
    return file


def parse(folder: Path, format: str, text: str, landmarks: str | None = None) -> list[Annotation]:
    other = write(folder, landmarks, "landmarks.txt") if landmarks is not None else None
    return read(format, write(folder, text), IMAGES, other, source="set")


def same(found: np.ndarray, wanted: object) -> None:
    np.testing.assert_array_equal(found, np.array(wanted, found.dtype).reshape(found.shape))


@pytest.mark.parametrize("text", [WIDER, WIDER.rstrip(), WIDER.replace("\n", " \r\n")])
def test_wider_keeps_every_image_and_every_box_of_a_size(tmp_path: Path, text: str) -> None:
    first, empty, last = parse(tmp_path, "wider", text)
    assert first.image == IMAGES / "0--Parade/a.jpg"
    assert first.key == "set/0--Parade/a.jpg"
    assert first.where == f"{tmp_path}/labels.txt:1"
    same(first.boxes, [[10, 20, 40, 70], [5, 6, 12, 15]])
    same(first.ignored, [False, True])
    assert np.isnan(first.landmarks).all()
    assert (empty.key, empty.where) == ("set/0--Parade/none.jpg", f"{tmp_path}/labels.txt:5")
    assert last.key == "set/1--Shake/b c.jpg"
    same(last.boxes, [[-4, 2, 26, 73], [600, 7, 680, 97]])
    same(last.ignored, [False, False])


@pytest.mark.parametrize("format", TEXTS)
def test_shapes_and_types_hold_for_any_number_of_faces(tmp_path: Path, format: str) -> None:
    for annotation in parse(tmp_path, format, TEXTS[format]):
        count = len(annotation.boxes)
        assert annotation.boxes.shape == (count, 4)
        assert annotation.ignored.shape == (count,)
        assert annotation.landmarks.shape == (count, 5, 2)
        assert annotation.boxes.dtype == annotation.landmarks.dtype == np.float32
        assert annotation.ignored.dtype == np.bool_


def test_wider_without_the_line_of_zeros(tmp_path: Path) -> None:
    assert len(parse(tmp_path, "wider", WIDER.replace("0 0 0 0 0 0 0 0 0 0\n", ""))) == 3


def test_wider_takes_the_landmarks_of_the_same_box(tmp_path: Path) -> None:
    turned = "# 1--Shake/b c.jpg" + RETINAFACE.split("# 1--Shake/b c.jpg")[1]
    first, _, last = parse(tmp_path, "wider", WIDER, turned + RETINAFACE.split("# 1--")[0])
    assert np.isnan(first.landmarks[0]).all()
    same(first.landmarks[1], LANDMARKS)
    same(last.landmarks[0], [[-1, -1], [20, 8], [-2.5, 9], [1, 60], [19, 61]])
    assert np.isnan(last.landmarks[1]).all()


def test_landmarks_of_other_images_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"landmarks\.txt has none of the boxes"):
        parse(tmp_path, "wider", WIDER, RETINAFACE.replace("# ", "# other/"))


def test_retinaface(tmp_path: Path) -> None:
    first, empty, last = parse(tmp_path, "retinaface", RETINAFACE)
    assert [first.key, empty.key] == ["set/0--Parade/a.jpg", "set/0--Parade/none.jpg"]
    same(first.boxes, [[10, 20, 40, 70], [5, 6, 12, 15]])
    assert np.isnan(first.landmarks[0]).all()
    same(first.landmarks[1], LANDMARKS)
    assert len(empty.boxes) == 0
    assert np.isfinite(last.landmarks).all(), "negative coordinates are not 'unknown'"
    assert last.where.endswith("labels.txt:5")


def test_retinaface_without_landmarks(tmp_path: Path) -> None:
    (only,) = parse(tmp_path, "retinaface", "# a.jpg\n1 2 3 5\n10 20 30 50\n")
    same(only.boxes, [[1, 2, 4, 7], [10, 20, 40, 70]])
    assert np.isnan(only.landmarks).all()


def test_mtfl(tmp_path: Path) -> None:
    first, second = parse(tmp_path, "mtfl", MTFL)
    assert first.image == IMAGES / "lfw/a.jpg"
    same(first.boxes, [[10, 20, 40, 70]])
    same(first.landmarks, [[1.5, 2.5], [3.5, 4.5], [15.5, 26.5], [7.5, 8.5], [9.5, 10.5]])
    same(second.boxes, [[50, 55, 97, 101]])


def test_celeba(tmp_path: Path) -> None:
    first, second = parse(tmp_path, "celeba", CELEBA, CELEBA_LANDMARKS)
    same(first.boxes, [[95, 71, 321, 384]])
    same(first.landmarks, [[165, 184], [244, 176], [196, 249], [194, 271], [266, 260]])
    assert (second.key, len(second.boxes)) == ("set/000002.jpg", 0)
    assert np.isnan(parse(tmp_path, "celeba", CELEBA)[0].landmarks).all()


def test_coco(tmp_path: Path) -> None:
    empty, full = parse(tmp_path, "coco", json.dumps(COCO))
    assert (empty.key, len(empty.boxes)) == ("set/sub/b.png", 0)
    same(full.boxes, [[10, 20, 40.5, 70], [0, 0, 20, 25], [0, 0, 2, 3]])
    same(full.ignored, [True, False, True])
    same(full.landmarks[1], [[1, 2], [np.nan, np.nan], [5, 6], [7, 8], [9, 10]])
    assert np.isnan(full.landmarks[[0, 2]]).all()


def test_an_image_listed_twice_gets_all_its_faces(tmp_path: Path) -> None:
    again = "0--Parade/./a.jpg\n1\n7 8 9 11 0 0 0 1 0 0\n"
    first, *others = parse(tmp_path, "wider", WIDER + again)
    assert len(others) == 2
    same(first.boxes, [[10, 20, 40, 70], [5, 6, 12, 15], [7, 8, 16, 19]])
    same(first.ignored, [False, True, True])


def test_a_key_needs_no_source(tmp_path: Path) -> None:
    assert read("wider", write(tmp_path, WIDER), IMAGES)[0].key == "0--Parade/a.jpg"


# (format, what is replaced in its text above, by what, the line or place named, what is said)
DAMAGES = [
    # wider: cut in a box, before the last box, before a box, before a count
    ("wider", "600 7 80 90 0 0 0 0 0 0\n", "600 7 8", ":13:", "10 numbers"),
    ("wider", "600 7 80 90 0 0 0 0 0 0\n", "", ":8:", "ends before the 4 boxes of 1--Shake/b c"),
    ("wider", WIDER[WIDER.index("4\n40") :], "", ":8:", "ends before the count of 1--Shake/b c"),
    # wider: counts that do not fit
    ("wider", "\n2\n", "\n3\n", ":5:", "10 numbers"),
    ("wider", "\n2\n", "\n1\n", ":4:", "is the count before it too small"),
    ("wider", "\n4\n", "\n3\n", ":13:", "is the count before it too small"),
    ("wider", "\n0\n0 0", "\n0\n1 0", ":7:", "is the count before it too small"),
    ("wider", "\n4\n", "\nfour\n", ":9:", "number of boxes"),
    ("wider", "\n4\n", "\n-1\n", ":9:", "number of boxes"),
    ("wider", "\n4\n", "\n", ":9:", "number of boxes"),
    ("wider", "1--Shake/b c.jpg\n", "", ":8:", "path of an image"),
    # wider: what is no number
    ("wider", "10 20 30", "10 2o 30", ":3:", "10 numbers"),
    ("wider", "10 20 30", "10 nan 30", ":3:", "10 numbers"),
    ("wider", "10 20 30", "10 1e400 30", ":3:", "10 numbers"),
    ("wider", "0--Parade/a.jpg", "/etc/a.jpg", ":1:", "relative"),
    ("wider", "0--Parade/a.jpg", "x/../../a.jpg", ":1:", "relative"),
    # retinaface
    ("retinaface", "0.0 0.6\n", "0.0\n", ":6:", "20 numbers"),
    ("retinaface", "-4 2 30 71 ", "-4 2 30 71\n", ":6:", "20 numbers"),
    ("retinaface", "9 1.5", "9 l.5", ":3:", "20 numbers"),
    ("retinaface", "# 0--Parade/a.jpg\n", "", ":1:", "# path"),
    ("retinaface", "none.jpg", "none.jpg 1024 768", ":4:", "without width and height"),
    # mtfl
    ("mtfl", " 9.5 10.5", " 9.5", ":1:", "five times x y"),
    ("mtfl", "50 97", "50 9?", ":2:", "five times x y"),
    ("mtfl", MTFL[MTFL.index(" 50 97") :], "", ":2:", "five times x y"),
    # celeba
    ("celeba", "000002.jpg    72  94   0 306\n", "", ":1:", "announces 2 images, but 1"),
    ("celeba", " 306", "", ":4:", "path x y w h"),
    ("celeba", "000002", "000001", ":4:", "stands at"),
    ("celeba", "2\nimage", "image", ":1:", "number of images"),
    # coco
    ("coco", "]}]}", "]}", ":1:", "damaged JSON"),
    ("coco", '"images"', '"photos"', ":", "'images'"),
    ("coco", '"annotations"', '"faces"', ":", "'annotations'"),
    ("coco", '"file_name": "a.jpg"', '"file": "a.jpg"', "images[1]:", "'file_name'"),
    ("coco", '"id": 3,', '"id": 7,', "images[1]:", "is taken by"),
    ("coco", '"image_id": 3, "bbox": [1,', '"image_id": 4, "bbox": [1,', "annotations[1]", "id 4"),
    ("coco", "[1, 2, 0, 4]", "[1, 2, 4]", "annotations[1] (id 2):", "bbox"),
    ("coco", "[1, 2, 0, 4]", '[1, 2, null, "4"]', "annotations[1] (id 2):", "bbox"),
    ("coco", "[1, 2, 0, 4]", "[1, 2, 0, Infinity]", "annotations[1] (id 2):", "bbox"),
    ("coco", '"bbox": [1, 2, 0, 4]', '"box": [1, 2, 0, 4]', "annotations[1] (id 2):", "'bbox'"),
    ("coco", "9, 10, 2]", "9, 10]", "annotations[2] (id 5):", "5 keypoints"),
    ("coco", '"keypoints": []', '"keypoints": 5', "annotations[3] (id 6):", "'keypoints'"),
]


@pytest.mark.parametrize(("format", "old", "new", "place", "said"), DAMAGES)
def test_damage_is_named(
    tmp_path: Path, format: str, old: str, new: str, place: str, said: str
) -> None:
    assert old in TEXTS[format]
    with pytest.raises(UserError) as caught:
        parse(tmp_path, format, TEXTS[format].replace(old, new, 1))
    sentence = str(caught.value)
    assert f"labels.txt{place}" in sentence or f"labels.txt: {place}" in sentence
    assert said in sentence
    assert "\n" not in sentence


def test_wider_is_never_shortened_in_silence(tmp_path: Path) -> None:
    """Cut after any character, a file is refused unless it ends with a whole image."""
    whole = parse(tmp_path, "wider", WIDER)
    for end in range(1, len(WIDER)):
        try:
            found = parse(tmp_path, "wider", WIDER[:end])
        except UserError:
            continue
        listed = [line for line in WIDER[:end].splitlines() if ".j" in line]
        assert len(found) == len(listed), WIDER[:end]
        for one, other in zip(found, whole, strict=False):
            same(one.boxes, other.boxes)


@pytest.mark.parametrize("format", TEXTS)
@pytest.mark.parametrize("content", ["", "\n \n", "hello world\n"])
def test_a_file_without_annotations_is_refused(tmp_path: Path, format: str, content: str) -> None:
    with pytest.raises(UserError, match=r"labels\.txt"):
        parse(tmp_path, format, content)


@pytest.mark.parametrize("format", TEXTS)
@pytest.mark.parametrize("other", TEXTS)
def test_another_format_is_recognised(tmp_path: Path, format: str, other: str) -> None:
    if format != other:
        with pytest.raises(UserError, match=f"labels.txt looks like a {other} file"):
            parse(tmp_path, format, TEXTS[other])


@pytest.mark.parametrize("format", TEXTS)
def test_a_file_that_cannot_be_read(tmp_path: Path, format: str) -> None:
    with pytest.raises(UserError, match=r"missing\.txt cannot be read: No such file"):
        read(format, tmp_path / "missing.txt", IMAGES)
    with pytest.raises(UserError, match="cannot be read: Is a directory"):
        read(format, tmp_path, IMAGES)
    (tmp_path / "ground_truth.mat").write_bytes(bytes(range(256)))
    with pytest.raises(UserError, match="not a text file"):
        read(format, tmp_path / "ground_truth.mat", IMAGES)


def test_missing_landmarks_files(tmp_path: Path) -> None:
    for format in ("wider", "celeba"):
        with pytest.raises(UserError, match=r"missing\.txt cannot be read"):
            read(format, write(tmp_path, TEXTS[format]), IMAGES, tmp_path / "missing.txt")
    for format in ("retinaface", "mtfl", "coco"):
        with pytest.raises(UserError, match="takes no landmarks file"):
            read(format, write(tmp_path, TEXTS[format]), IMAGES, tmp_path / "missing.txt")


def test_damaged_landmarks_are_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"landmarks\.txt:3: expected path and x y of left eye"):
        parse(tmp_path, "celeba", CELEBA, CELEBA_LANDMARKS.replace("271  266", "271"))
    with pytest.raises(UserError, match=r"landmarks\.txt lacks 000002\.jpg, which .*labels\.txt:4"):
        parse(tmp_path, "celeba", CELEBA, CELEBA_LANDMARKS.replace("000002", "000003"))
    with pytest.raises(UserError, match=r"landmarks\.txt:6: expected 20 numbers"):
        parse(tmp_path, "wider", WIDER, RETINAFACE.replace(" 0.6\n", "\n"))


def test_landmarks_of_aligned_images_are_refused(tmp_path: Path) -> None:
    aligned = re.sub(r"(jpg) .*", r"\1 69 109 106 113 77 142 73 152 108 154", CELEBA_LANDMARKS)
    far = CELEBA.replace(" 95  71", "395 471")
    with pytest.raises(UserError, match=r"landmarks\.txt: most noses lie outside"):
        parse(tmp_path, "celeba", far, aligned)


def test_mtfl_attribute_list_is_refused(tmp_path: Path) -> None:
    """MTFL's other list, training.txt, has as many columns: x1..x5 y1..y5 and four attributes."""
    row = r"AFLW\1.jpg 106.2 139.7 126.1 110.5 138.2 108.0 107.5 129.7 147.7 147.2 1 2 2 3"
    with pytest.raises(UserError, match="most noses lie outside"):
        parse(tmp_path, "mtfl", row)


def test_unknown_format(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="unknown annotation format 'dlib': use one of wider, ret"):
        parse(tmp_path, "dlib", WIDER)


@pytest.mark.slow
def test_a_list_as_long_as_widers_is_read_in_seconds(tmp_path: Path) -> None:
    box = "10 20 30 50 0 0 0 0 0 0\n"
    images = (f"0--Parade/{number}.jpg\n12\n{12 * box}" for number in range(13_000))
    start = time.process_time()
    found = parse(tmp_path, "wider", "".join(images))
    assert (len(found), sum(len(one.boxes) for one in found)) == (13_000, 156_000)
    assert time.process_time() - start < 15


# The real lists, where they are.
DATA = Path(__file__).parents[1] / ".." / "shared" / "data"
SPLIT = DATA / "wider" / "wider_face_split"
LFW = DATA / "lfw_landmarks"
real_data = pytest.mark.skipif(not DATA.exists(), reason="the real data are not on this machine")


def totals(annotations: list[Annotation]) -> tuple[int, int, int]:
    """Images, boxes, boxes with five landmarks."""
    known = [np.isfinite(one.landmarks).all(axis=(1, 2)).sum() for one in annotations]
    return len(annotations), sum(len(one.boxes) for one in annotations), sum(known)


@real_data
def test_real_wider_train() -> None:
    images, labels = DATA / "wider/WIDER_train/images", SPLIT / "wider_face_train_bbx_gt.txt"
    landmarks = SPLIT / "retinaface_train_label.txt"
    joined = read("wider", labels, images, landmarks, source="wider")
    # Four of the faces with landmarks have a left eye beyond the border: 6,100 if they are missed.
    assert totals(joined) == (2085, 7490, 6104)
    alone = read("retinaface", landmarks, images, source="wider")
    assert [one.key for one in alone] == [one.key for one in joined]
    for one, other in zip(alone, joined, strict=True):
        same(one.boxes, other.boxes)
        same(one.landmarks, other.landmarks)
    assert all(one.image.is_file() for one in joined)
    with labels.open() as lines:
        rows = lines.read().splitlines()
    assert all(one.key == "wider/" + rows[int(one.where.split(":")[-1]) - 1] for one in joined)


@real_data
def test_real_wider_validation() -> None:
    labels = SPLIT / "wider_face_val_bbx_gt.txt"
    assert totals(read("wider", labels, DATA / "wider/WIDER_val/images")) == (426, 975, 0)
    with pytest.raises(UserError, match="has none of the boxes"):
        read("wider", labels, IMAGES, SPLIT / "retinaface_train_label.txt")


@real_data
@pytest.mark.parametrize(("name", "count"), [("train", 4150), ("test", 707)])
def test_real_mtfl(name: str, count: int) -> None:
    found = read("mtfl", LFW / f"{name}ImageList.txt", LFW, source="lfw")
    assert totals(found) == (count, count, count)
    boxes = np.concatenate([one.boxes for one in found])
    landmarks = np.concatenate([one.landmarks for one in found])
    inside = (landmarks >= boxes[:, None, :2]) & (landmarks <= boxes[:, None, 2:])
    assert inside.mean() > 0.99
    assert (landmarks[:, 0, 0] < landmarks[:, 1, 0]).all(), "the left eye is the one of smaller x"
    assert all(os.access(one.image, os.R_OK) for one in found)
