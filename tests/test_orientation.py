"""Labels of images that EXIF rotates: listed sizes decide, else the format, or the recipe."""

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

from data_prep.annotations import LabelSet, read_labels
from data_prep.image_headers import Header, read_header
from data_prep.label_request import LabelRequest
from mtcnn_detector.errors import UserError
from mtcnn_detector.pixels import read_image

# What a viewer does with the stored pixels, by EXIF's orientation.
VIEWS: dict[int, Any] = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.transpose(1, 0, 2),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: a[::-1, ::-1].transpose(1, 0, 2),
    8: lambda a: np.rot90(a, 1),
}
FACE = (20, 30, 40, 50)  # x y w h on the upright image


def upright_image() -> np.ndarray:
    """160 x 120, dark, with a bright face at FACE."""
    image = np.full((120, 160, 3), 40, np.uint8)
    x, y, w, h = FACE
    image[y : y + h, x : x + w] = 220
    return image


def exif(orientation: int) -> bytes:
    """The JPEG segment that holds an orientation alone."""
    tiff = b"II*\x00\x08\x00\x00\x00\x01\x00\x12\x01\x03\x00\x01\x00\x00\x00"
    tiff += orientation.to_bytes(2, "little") + b"\x00\x00" + b"\x00\x00\x00\x00"
    body = b"Exif\x00\x00" + tiff
    return b"\xff\xe1" + (len(body) + 2).to_bytes(2, "big") + body


def write_rotated(path: Path, orientation: int) -> None:
    """Store the image so that its EXIF data turn it upright."""
    inverse = {6: 8, 8: 6}.get(orientation, orientation)
    stored = np.ascontiguousarray(VIEWS[inverse](upright_image()))
    done, coded = cv2.imencode(".jpg", stored, [cv2.IMWRITE_JPEG_QUALITY, 95])
    assert done
    content = coded.tobytes()
    path.write_bytes(content[:2] + exif(orientation) + content[2:])


def read(folder: Path, size: tuple[int, int] | None, exif: Any = None, **more: Any) -> LabelSet:
    head = "file,width,height,xmin,ymin,xmax,ymax" if size else "file,xmin,ymin,xmax,ymax"
    x, y, w, h = FACE
    words = [*(size or ()), x, y, x + w, y + h]
    rows = [",".join(map(str, [path.name, *words])) for path in sorted(folder.glob("*.jpg"))]
    (folder / "labels.csv").write_text("\n".join([head, *rows]))
    request = LabelRequest("csv", (folder / "labels.csv",), folder, exif=exif, **more)
    return read_labels(request)


def brightness(labels: LabelSet) -> float:
    """Mean grey level inside the labelled boxes; 220 where they lie on the face."""
    values = []
    for one in labels.annotations:
        image = one.load()
        assert image is not None
        x1, y1, x2, y2 = one.boxes[0].astype(int)
        values.append(image[y1 + 2 : y2 - 2, x1 + 2 : x2 - 2].mean())
    return float(np.min(values))


@pytest.mark.parametrize("orientation", VIEWS)
def test_headers(tmp_path: Path, orientation: int) -> None:
    write_rotated(tmp_path / "a.jpg", orientation)
    header = read_header(tmp_path / "a.jpg")
    assert header is not None
    assert header.orientation == orientation
    assert header.upright_size == (160, 120)


@pytest.mark.parametrize("orientation", VIEWS)
@pytest.mark.parametrize("size", [(160, 120), None])
def test_labels_of_tools_count_the_upright_image(
    tmp_path: Path, orientation: int, size: tuple[int, int] | None
) -> None:
    write_rotated(tmp_path / "a.jpg", orientation)
    labels = read(tmp_path, size)
    assert brightness(labels) > 200
    said = " ".join(labels.notes)
    assert (orientation == 1) == (not said)
    if orientation in (5, 6, 7, 8) and size:
        assert "a.jpg" in said and "those of the upright image" in said
    elif orientation != 1:
        assert "warning: 1 images have EXIF data that rotate them (a.jpg)" in said
        assert "set exif: upright or exif: stored" in said


def test_the_orientation_in_xmp_data_turns_no_image(tmp_path: Path) -> None:
    """OpenCV does not read it, nor do browsers and tools."""
    done, coded = cv2.imencode(".jpg", upright_image(), [cv2.IMWRITE_JPEG_QUALITY, 95])
    assert done
    body = b'http://ns.adobe.com/xap/1.0/\0<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF '
    body += b'xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
    body += b'<rdf:Description tiff:Orientation="6"/></rdf:RDF></x:xmpmeta>'
    xmp = b"\xff\xe1" + (len(body) + 2).to_bytes(2, "big") + body
    content = coded.tobytes()
    (tmp_path / "a.jpg").write_bytes(content[:2] + xmp + content[2:])
    labels = read(tmp_path, (160, 120))
    assert not labels.annotations[0].upright and not labels.notes
    assert brightness(labels) > 200


@pytest.mark.parametrize("orientation", VIEWS)
@pytest.mark.parametrize("upright", [False, True])
def test_tiff_images_are_upright_whoever_reads_them(
    tmp_path: Path, orientation: int, upright: bool
) -> None:
    inverse = {6: 8, 8: 6}.get(orientation, orientation)
    stored = np.ascontiguousarray(VIEWS[inverse](upright_image()))
    Image.fromarray(stored).save(tmp_path / "a.tif", tiffinfo={274: orientation})
    assert read_header(tmp_path / "a.tif") == Header(160, 120)
    image = read_image(tmp_path / "a.tif", upright)
    assert image is not None
    np.testing.assert_array_equal(image, upright_image())


def test_listed_sizes_of_stored_images_are_believed(tmp_path: Path) -> None:
    write_rotated(tmp_path / "a.jpg", 6)
    labels = read(tmp_path, (120, 160))
    assert not labels.annotations[0].upright
    assert read(tmp_path, (120, 160), exif="upright").annotations[0].upright


def test_the_images_whose_size_decides_speak_for_the_others(tmp_path: Path) -> None:
    """Half a turn changes no size; the other images of the file tell how the tool counts."""
    write_rotated(tmp_path / "a.jpg", 8)
    write_rotated(tmp_path / "b.jpg", 3)
    assert brightness(read(tmp_path, (160, 120))) > 200
    stored = read(tmp_path, (120, 160))
    assert [one.upright for one in stored.annotations] == [False, False]


def test_the_recipe_decides(tmp_path: Path) -> None:
    write_rotated(tmp_path / "a.jpg", 3)
    assert not read(tmp_path, None, exif="stored").annotations[0].upright
    labels = read(tmp_path, None, exif="upright")
    assert brightness(labels) > 200
    assert labels.notes == []


def test_fractions_are_of_the_upright_image(tmp_path: Path) -> None:
    write_rotated(tmp_path / "a.jpg", 6)
    x, y, w, h = FACE
    numbers = [(x + w / 2) / 160, (y + h / 2) / 120, w / 160, h / 120]
    labels = tmp_path / "labels"
    labels.mkdir()
    (labels / "a.txt").write_text(" ".join(map(str, [0, *numbers])))
    found = read_labels(LabelRequest("yolo", (labels,), tmp_path))
    np.testing.assert_allclose(found.annotations[0].boxes, [[20, 30, 60, 80]], atol=1e-3)
    assert brightness(found) > 200


def test_images_of_another_size_than_listed(tmp_path: Path) -> None:
    for name in "abc":
        write_rotated(tmp_path / f"{name}.jpg", 1)
    with pytest.raises(UserError, match=r"3 of 3 images .*a\.jpg has 160 x 120, listed is 320 x 2"):
        read(tmp_path, (320, 240))
    assert len(read(tmp_path, (320, 240), exif="stored").annotations) == 3


def test_an_image_that_is_missing_has_no_header(tmp_path: Path) -> None:
    assert read_header(tmp_path / "a.jpg") is None
    (tmp_path / "a.jpg").write_bytes(b"\xff\xd8\xff no image")
    assert read_header(tmp_path / "a.jpg") is None
    assert Header(3, 4, 6).upright_size == (4, 3)
