from pathlib import Path

import pytest
from PIL import Image

from quant.data.config import SourceConfig
from quant.data.sources import open_source
from quant.errors import BadInput


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    root = tmp_path / "pets"
    for value, name in enumerate(["dog/b.png", "dog/a.JPG", "cat/1/deep.png", "ant/z.bmp"]):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (4, 4), (value, 0, 0)).save(path)
    (root / "dog/notes.txt").write_text("not an image")
    (root / "README.md").write_text("not a class")
    (root / ".cache").mkdir()
    return root


def test_sorted_folder_names_give_the_classes(tree: Path) -> None:
    source = open_source(SourceConfig(kind="folder", path=tree))
    assert [source.name(i) for i in range(len(source))] == [
        "ant/z.bmp",
        "cat/1/deep.png",
        "dog/a.JPG",
        "dog/b.png",
    ]
    assert list(source.labels) == [0, 1, 2, 2]
    image, label = source[3]
    assert (image.getpixel((0, 0)), label) == ((0, 0, 0), 2)


def test_a_class_file_gives_the_order_and_the_number_of_classes(tree: Path) -> None:
    classes = tree.parent / "classes.txt"
    classes.write_text("dog\nbird\ncat\nant\nowl\n")
    source = open_source(SourceConfig(kind="folder", path=tree, classes=classes))
    assert list(source.labels) == [3, 2, 0, 0]
    assert source.num_classes == 5


def test_folders_of_a_larger_class_list_do_not_claim_to_be_all_classes(tree: Path) -> None:
    assert open_source(SourceConfig(kind="folder", path=tree)).num_classes is None


def test_a_mapping_gives_the_classes(tree: Path) -> None:
    labels = {"ant": 310, "cat": 281, "dog": 207}
    assert list(open_source(SourceConfig(kind="folder", path=tree, labels=labels)).labels) == [
        310,
        281,
        207,
        207,
    ]
    with pytest.raises(BadInput, match=r"ant: label 310 is out of range; 300 classes"):
        open_source(SourceConfig(kind="folder", path=tree, labels=labels), num_classes=300)


def test_a_folder_outside_the_class_list_is_refused(tree: Path) -> None:
    classes = tree.parent / "classes.txt"
    classes.write_text("ant\ndog\n")
    with pytest.raises(BadInput, match=r"cat: the class list .* has no class 'cat'"):
        open_source(SourceConfig(kind="folder", path=tree, classes=classes))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"ant\ncat\nant\ndog", r"classes\.txt line 3: class 'ant' is already on line 1"),
        (b"ant\n\ncat\ndog\n", r"classes\.txt line 2: is empty"),
        (b"\xff\xfe\x00", r"classes\.txt: the class list cannot be read"),
    ],
)
def test_wrong_class_files_are_refused(tree: Path, content: bytes, message: str) -> None:
    classes = tree.parent / "classes.txt"
    classes.write_bytes(content)
    with pytest.raises(BadInput, match=message):
        open_source(SourceConfig(kind="folder", path=tree, classes=classes))


def test_classes_and_labels_together_are_refused(tree: Path) -> None:
    with pytest.raises(BadInput, match="not both"):
        open_source(SourceConfig(kind="folder", path=tree, classes=Path("x"), labels={"ant": 0}))


def test_a_file_or_a_folder_without_images_is_refused(tree: Path, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"README\.md: is not a folder"):
        open_source(SourceConfig(kind="folder", path=tree / "README.md"))
    (tmp_path / "empty/class").mkdir(parents=True)
    with pytest.raises(BadInput, match=r"empty: has no image files"):
        open_source(SourceConfig(kind="folder", path=tmp_path / "empty"))


def test_a_damaged_file_is_refused_by_its_path(tree: Path) -> None:
    (tree / "ant/z.bmp").write_bytes(b"BM")
    with pytest.raises(BadInput, match=r"ant/z\.bmp: cannot be decoded"):
        open_source(SourceConfig(kind="folder", path=tree))[0]
