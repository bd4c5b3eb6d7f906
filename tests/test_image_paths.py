"""Images are found under the paths that tools write, where exactly one file fits, with a note."""

import unicodedata
from pathlib import Path, PurePosixPath

import pytest

from data_prep.image_paths import ImageFinder
from data_prep.readers.entries import Entry, ReadOptions
from mtcnn_detector.errors import UserError


def finder(folder: Path, *names: str) -> ImageFinder:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"image")
    return ImageFinder(folder)


def entry(path: str, near: Path | None = None, other: str | None = None) -> Entry:
    return Entry("labels.json: images[3]", path, [], near=near, other_path=other)


@pytest.mark.parametrize(
    ("listed", "found"),
    [
        ("set/a b.jpg", "set/a b.jpg"),  # as it is
        ("./set/a b.jpg", "set/a b.jpg"),
        ("set\\a b.jpg", "set/a b.jpg"),  # Windows
        ("images\\set\\a b.jpg", "set/a b.jpg"),
        ("set/a%20b.jpg", "set/a b.jpg"),
        ("images/set/a b.jpg", "set/a b.jpg"),  # a folder in front
        ("../images/set/a b.jpg", "set/a b.jpg"),
        ("C:\\Users\\me\\set\\a b.jpg", "set/a b.jpg"),  # another machine
        ("/home/me/photos/a b.jpg", "set/a b.jpg"),
        ("file:///home/me/set/a%20b.jpg", "set/a b.jpg"),
        ("https://host.example/data/upload/a%20b.jpg?d=1", "set/a b.jpg"),
        ("s3://bucket/set/a b.jpg", "set/a b.jpg"),
        ("http://[bad/set/a b.jpg#top", "set/a b.jpg"),
        ("set/a b.jfif", "set/a b.jpg"),  # converted since
        ("SET/A B.JPG", "set/a b.jpg"),  # another letter case
        ("set/a b", "set/a b.jpg"),  # no suffix
        ("set/a b.JPG", "set/a b.jpg"),
    ],
)
def test_paths_as_tools_write_them(tmp_path: Path, listed: str, found: str) -> None:
    find = finder(tmp_path, "set/a b.jpg", "other/c.jpg")
    assert find.find(entry(listed)) == PurePosixPath(found)
    note = find.note()
    plain = PurePosixPath(listed) in (PurePosixPath(found), PurePosixPath("set/a b"))
    assert (note is None) == plain
    assert plain or (note is not None and f"{listed} is {found}" in note)


def test_accents_in_either_form(tmp_path: Path) -> None:
    find = finder(tmp_path, unicodedata.normalize("NFD", "Zoë.jpg"))
    found = find.find(entry(unicodedata.normalize("NFC", "Zoë.jpg")))
    assert (tmp_path / found).is_file()


def test_of_several_files_the_longest_common_end_decides(tmp_path: Path) -> None:
    find = finder(tmp_path, "train/1/a.jpg", "train/2/a.jpg", "val/1/a.jpg")
    assert find.find(entry("D:\\x\\train\\2\\a.jpg")) == PurePosixPath("train/2/a.jpg")
    assert find.find(entry("x/val/1/a.jpg")) == PurePosixPath("val/1/a.jpg")
    with pytest.raises(UserError, match=r"images\[3\]: .*fits several files below .*: train/1/a\."):
        find.find(entry("a.jpg"))


def test_the_folder_of_the_label_file_comes_first(tmp_path: Path) -> None:
    find = finder(tmp_path, "train/a.jpg", "valid/a.jpg")
    assert find.find(entry("a.jpg", near=tmp_path / "valid")) == PurePosixPath("valid/a.jpg")
    assert find.find(entry("A.jpg", near=tmp_path / "train")) == PurePosixPath("train/a.jpg")


def test_an_image_that_others_list_is_not_that_of_another_folder(tmp_path: Path) -> None:
    find = finder(tmp_path, "one/1.jpg", "one/2.jpg", "3.jpg", "one/4.jpg")
    one, two, labels = tmp_path / "one", tmp_path / "two", tmp_path.parent / "labels"
    listed = [
        *[entry(name) for name in ("one/1.jpg", "two/1.jpg")],  # the folder two was not copied
        *[entry("2", near=near, other="2") for near in (one, two)],  # YOLO's
        *[entry("3.jpg"), entry("/home/me/3.jpg")],  # one image, at two places of a file
        *[entry("4.jpg", labels / name, "4") for name in ("one", "two")],  # VOC's
    ]
    listed = [e._replace(where=f"labels.json: images[{i}]") for i, e in enumerate(listed)]
    options = ReadOptions()
    entries, paths = find.find_all(listed, options)
    wanted = ["one/1.jpg", "two/1.jpg", "one/2.jpg", "two/2", "3.jpg", "3.jpg"]
    assert [str(path) for path in paths] == [*wanted, "one/4.jpg", "4.jpg"]
    assert [i for i, one in enumerate(entries) if one.problem] == [1, 3, 7]
    sentence = "labels.json: images[1]: the image 'two/1.jpg' is not there; one/1.jpg is another"
    assert options.damages[0].startswith(sentence)
    assert "two/1.jpg" not in str(find.note())


def test_two_letter_cases_are_two_files(tmp_path: Path) -> None:
    find = finder(tmp_path, "a.jpg", "A.jpg")
    assert find.find(entry("x\\A.jpg")) == PurePosixPath("A.jpg")
    with pytest.raises(UserError, match="fits several files"):
        find.find(entry("x\\a.JPG"))


def test_a_second_name_serves_where_the_first_is_not_there(tmp_path: Path) -> None:
    find = finder(tmp_path, "renamed.png")
    assert find.find(entry("DSC001.jpg", other="renamed")) == PurePosixPath("renamed.png")


def test_what_is_not_there_keeps_its_path_unless_it_leads_out(tmp_path: Path) -> None:
    find = finder(tmp_path, "a.jpg")
    assert find.find(entry("b.jpg")) == PurePosixPath("b.jpg")
    assert find.note() is None
    for listed in ("/etc/b.jpg", "x/../../b.jpg", ""):
        with pytest.raises(UserError, match="must be a path relative to the images folder"):
            find.find(entry(listed))
