from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from quant.data.config import SourceConfig
from quant.data.sources import ImageSource, open_source
from quant.errors import BadInput


def write_image(path: Path, value: int = 7, mode: str = "RGB") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, (8, 6), value if mode == "L" else (value, 2, 3)).save(path)


def open_table(folder: Path, text: str, **settings: object) -> ImageSource:
    table = folder / "labels.csv"
    table.write_text(text)
    return open_source(SourceConfig.model_validate({"kind": "csv", "path": table, **settings}))


@pytest.mark.parametrize("column", ["class_index", "label"])
def test_rows_become_images_with_labels(tmp_path: Path, column: str) -> None:
    write_image(tmp_path / "a/x.png", 11)
    write_image(tmp_path / "b/y.png", 22)
    source = open_table(tmp_path, f"file,{column}\nb/y.png,3\na/x.png,0\n")
    assert [source.name(i) for i in range(len(source))] == ["b/y.png", "a/x.png"]
    image, label = source[0]
    assert (label, image.mode, image.size, image.getpixel((0, 0))) == (3, "RGB", (8, 6), (22, 2, 3))


def test_byte_order_mark_and_further_columns_do_no_harm(tmp_path: Path) -> None:
    write_image(tmp_path / "x.png")
    source = open_table(tmp_path, "\ufeffname,file,class_index\nfish,x.png, 4 \n")
    assert list(source.labels) == [4]


def test_root_replaces_the_folder_of_the_csv(tmp_path: Path) -> None:
    write_image(tmp_path / "images/x.png")
    table = tmp_path / "lists"
    table.mkdir()
    assert len(open_table(table, "file,label\nx.png,0\n", root=tmp_path / "images")) == 1
    with pytest.raises(BadInput, match="elsewhere: is not a folder"):
        open_table(table, "file,label\nx.png,0\n", root=tmp_path / "elsewhere")


def test_grey_images_come_out_as_rgb(tmp_path: Path) -> None:
    write_image(tmp_path / "x.png", 9, mode="L")
    assert open_table(tmp_path, "file,label\nx.png,0\n")[0][0].getpixel((0, 0)) == (9, 9, 9)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"labels\.csv line 1: needs the columns file and class_index \(or label\); found none"),
        ("file,klass\nx.png,0\n", r"line 1: needs the columns .*found file, klass"),
        ("image,label\nx.png,0\n", r"line 1: needs the columns .*found image, label"),
        ("file,label\n", r"labels\.csv: lists no images"),
        ("file,label\nx.png,0\nx.png,cat\n", r"labels\.csv line 3: label 'cat' is not an integer"),
        ("file,label\nx.png,1.0\n", r"line 2: label '1\.0' is not an integer"),
        ("file,label\nx.png\n", r"line 2: label '' is not an integer"),
        ("file,label\nx.png,-1\n", r"line 2: label -1 is negative"),
        ("file,label\nx.png,5\n", r"line 2: label 5 is out of range; 5 classes allow 0 to 4"),
        ("file,label\nx.png,0\n\ngone.png,0\n", r"line 4: file 'gone\.png' does not exist in "),
        ("file,label\n,0\n", r"line 2: file '' does not exist in "),
    ],
)
def test_wrong_label_files_are_refused_with_their_line(tmp_path: Path, text: str, message: str) -> None:
    write_image(tmp_path / "x.png")
    with pytest.raises(BadInput, match=message):
        open_table(tmp_path, text, num_classes=5)


def test_a_label_file_that_is_no_text_is_refused(tmp_path: Path) -> None:
    write_image(tmp_path / "labels.csv.png")
    (tmp_path / "labels.csv").write_bytes((tmp_path / "labels.csv.png").read_bytes())
    with pytest.raises(BadInput, match=r"labels\.csv: cannot be read as a CSV in UTF-8"):
        open_source(SourceConfig(kind="csv", path=tmp_path / "labels.csv"))


@pytest.mark.parametrize("suffix", ["jpg", "png"])
def test_a_truncated_image_is_refused_when_read(tmp_path: Path, suffix: str) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    path = tmp_path / f"x.{suffix}"
    Image.fromarray(noise).save(path)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    source = open_table(tmp_path, f"file,label\nx.{suffix},0\n")
    with pytest.raises(BadInput, match=rf"x\.{suffix} \(.*labels\.csv line 2\): cannot be decoded"):
        source[0]


@pytest.mark.parametrize("content", [b"", b"hello", b"\x89PNG\r\n\x1a\n" + b"\0" * 40])
def test_a_file_that_is_no_image_is_refused_when_read(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.png").write_bytes(content)
    source = open_table(tmp_path, "file,label\nx.png,0\n")
    with pytest.raises(BadInput, match=r"x\.png .*line 2\): cannot be decoded"):
        source[0]


def test_more_than_8_bits_are_refused_rather_than_clipped(tmp_path: Path) -> None:
    Image.fromarray(np.full((4, 4), 40_000, np.uint16)).save(tmp_path / "x.png")
    with pytest.raises(BadInput, match="more than 8 bits"):
        open_table(tmp_path, "file,label\nx.png,0\n")[0]
