"""Selection and registry, which all kinds of source share, and the environment variables of paths."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from quant.data.config import SourceConfig, expand
from quant.data.sources import class_names, open_source
from quant.errors import BadInput


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    path = tmp_path / "ten.npz"
    images = np.arange(10, dtype=np.uint8)[:, None, None].repeat(4, 1).repeat(4, 2)
    np.savez(path, images=images, labels=np.arange(10))
    return path


def test_limit_takes_the_first_images_in_stored_order(archive: Path) -> None:
    source = open_source(SourceConfig(kind="npz", path=archive, limit=3))
    assert len(source) == 3
    assert list(source.labels) == [0, 1, 2]


def test_limit_beyond_the_end_takes_everything(archive: Path) -> None:
    assert len(open_source(SourceConfig(kind="npz", path=archive, limit=99))) == 10


def test_shuffle_keeps_images_labels_and_names_together(archive: Path) -> None:
    source = open_source(SourceConfig(kind="npz", path=archive, shuffle_seed=5))
    assert sorted(source.labels) == list(range(10))
    assert list(source.labels) != list(range(10))
    for i in range(10):
        image, label = source[i]
        assert label == source.labels[i] == np.asarray(image)[0, 0, 0]
        assert source.name(i) == f"ten.npz[{label}]"


def test_shuffle_comes_before_limit_and_depends_only_on_its_seed(archive: Path) -> None:
    def labels(seed: int, limit: int | None) -> list[int]:
        return list(
            open_source(SourceConfig(kind="npz", path=archive, shuffle_seed=seed, limit=limit)).labels
        )

    assert labels(5, 4) == labels(5, None)[:4]
    assert labels(5, None) == labels(5, None)
    assert labels(5, None) != labels(6, None)


def test_a_model_with_too_few_classes_is_noticed_on_opening(archive: Path) -> None:
    with pytest.raises(BadInput, match=r"ten\.npz row 7: label 7 is out of range; 7 classes allow 0 to 6"):
        open_source(SourceConfig(kind="npz", path=archive), num_classes=7)


def test_unknown_kind_lists_the_known_ones() -> None:
    with pytest.raises(BadInput, match=r"'tar'; allowed: arrays, .*csv, digits, folder, .*npz"):
        open_source(SourceConfig(kind="tar"))


@pytest.mark.parametrize("kind", ["csv", "folder", "npz"])
def test_missing_path_is_refused(kind: str, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="needs a path"):
        open_source(SourceConfig(kind=kind))
    with pytest.raises(BadInput, match=r"nowhere: does not exist"):
        open_source(SourceConfig(kind=kind, path=tmp_path / "nowhere"))


def test_paths_read_the_environment(archive: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_FOLDER", str(archive.parent))
    assert len(open_source(SourceConfig(kind="npz", path=Path("${SOME_FOLDER}/ten.npz")))) == 10


def test_data_folder_has_a_default_and_other_variables_do_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OCTAVO_DATA", raising=False)
    monkeypatch.delenv("SOME_FOLDER", raising=False)
    assert expand("${OCTAVO_DATA}/cifar10") == Path("../shared/data/cifar10")
    with pytest.raises(
        BadInput, match=r"\$\{SOME_FOLDER\}/x: the environment variable SOME_FOLDER is not set"
    ):
        expand("${SOME_FOLDER}/x")


def test_classes_have_the_names_that_the_source_brings(archive: Path, tmp_path: Path) -> None:
    for name in ("dog", "ant"):
        (tmp_path / "pets" / name).mkdir(parents=True)
        Image.new("RGB", (4, 4)).save(tmp_path / "pets" / name / "a.png")
    table = tmp_path / "table.csv"
    rows = "file,class_index,class_name\npets/dog/a.png,4,dog\npets/ant/a.png,2,\n"
    table.write_text(rows + "pets/dog/a.png,4,dog\n")

    def names(**settings: Any) -> dict[int, str]:
        return dict(class_names(open_source(SourceConfig(**settings))))

    assert names(kind="folder", path=tmp_path / "pets") == {0: "ant", 1: "dog"}
    assert names(kind="folder", path=tmp_path / "pets", labels={"ant": 7, "dog": 3}) == {7: "ant", 3: "dog"}
    assert names(kind="folder", path=tmp_path / "pets", limit=1) == {0: "ant", 1: "dog"}
    assert names(kind="csv", path=table, shuffle_seed=0) == {4: "dog"}
    assert names(kind="npz", path=archive) == {}
    table.write_text(rows + "pets/dog/a.png,4,hound\n")
    with pytest.raises(BadInput, match=r"table\.csv line 4: class 4 is 'hound' here and 'dog' above"):
        names(kind="csv", path=table)
