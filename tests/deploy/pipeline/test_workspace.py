import errno
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from deploy.pipeline.workspace import Step, Workspace, code_digest
from quant.errors import BadInput


class Counter:
    """A step that writes two files from a setting, and counts how often it had to."""

    def __init__(self) -> None:
        self.setting = "a"
        self.times = 0

    def work(self, folder: Path) -> None:
        self.times += 1
        (folder / "part").mkdir()
        (folder / "part" / "one").write_text(self.setting)
        (folder / "two").write_text(self.setting * 2)

    def step(self, work: Callable[[Path], None] | None = None) -> Step:
        return Step("count it", lambda: self.setting, ("part/one", "two"), work or self.work, ())


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path / "run")


def test_a_step_is_done_once(workspace: Workspace) -> None:
    counter, said = Counter(), list[str]()
    assert [workspace.do(counter.step(), say=said.append) for _ in range(3)] == [True, False, False]
    assert said == ["count it", *["count it: nothing has changed, skipped"] * 2]
    assert workspace.path("two").read_text() == "aa"
    assert workspace.do(counter.step(), force=True)
    assert counter.times == 2


def test_it_is_done_again_when_its_inputs_change(workspace: Workspace) -> None:
    counter = Counter()
    workspace.do(counter.step())
    counter.setting = "b"
    assert workspace.do(counter.step())
    assert workspace.path("part/one").read_text() == "b"
    counter.setting = "a"  # back again: the files are those of b
    assert workspace.do(counter.step())


@pytest.mark.parametrize("spoil", [lambda p: p.unlink(), lambda p: p.write_text("x")], ids=["gone", "edited"])
def test_it_is_done_again_when_a_file_of_it_changes(
    workspace: Workspace, spoil: Callable[[Path], None]
) -> None:
    counter = Counter()
    workspace.do(counter.step())
    assert workspace.is_intact(counter.step())
    spoil(workspace.path("part/one"))
    assert not workspace.is_intact(counter.step())
    assert workspace.do(counter.step())


@pytest.mark.parametrize("stamp", ["", "[]", '{"key": 1'])
def test_a_damaged_stamp_counts_as_none(workspace: Workspace, stamp: str) -> None:
    counter = Counter()
    workspace.do(counter.step())
    (workspace.root / ".octavo" / "count-it.json").write_text(stamp)
    assert workspace.do(counter.step())


def fails_in_the_middle(error: BaseException) -> Callable[[Path], None]:
    def work(folder: Path) -> None:
        (folder / "two").write_text("half")
        raise error

    return work


@pytest.mark.parametrize("error", [KeyboardInterrupt(), RuntimeError("bug"), OSError(errno.EIO, "broken")])
def test_a_failure_keeps_the_old_files_and_leaves_nothing(workspace: Workspace, error: BaseException) -> None:
    counter = Counter()
    workspace.do(counter.step())
    counter.setting = "b"
    with pytest.raises(type(error)):
        workspace.do(counter.step(fails_in_the_middle(error)))
    assert workspace.path("two").read_text() == "aa"
    files = sorted(p.relative_to(workspace.root).as_posix() for p in workspace.root.rglob("*") if p.is_file())
    assert files == [".octavo/count-it.json", "part/one", "two"]
    counter.setting = "a"
    assert not workspace.do(counter.step())


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_a_full_disk_is_said_to_be_full(workspace: Workspace, code: int) -> None:
    error = OSError(code, "the system's words")
    with pytest.raises(BadInput, match=r"no disk space \(the system's words") as caught:
        workspace.do(Counter().step(fails_in_the_middle(error)))
    assert str(workspace.root) in str(caught.value)


def test_what_a_killed_run_left_is_cleared_away(workspace: Workspace) -> None:
    remains = workspace.root / ".octavo" / "partial" / "part"
    remains.mkdir(parents=True)
    (remains / "one").write_text("half")
    assert workspace.do(Counter().step())
    assert workspace.path("part/one").read_text() == "a"
    assert not (workspace.root / ".octavo" / "partial").exists()


def test_killed_while_files_are_moved_the_step_is_not_taken_for_done(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    counter = Counter()
    workspace.do(counter.step())
    counter.setting = "b"
    import os

    moved, replace = [], os.replace

    def once(source: Path, target: Path) -> None:
        if moved:
            raise KeyboardInterrupt
        moved.append(target)
        replace(source, target)

    monkeypatch.setattr("deploy.pipeline.workspace.os.replace", once)
    with pytest.raises(KeyboardInterrupt):
        workspace.do(counter.step())
    monkeypatch.undo()
    assert workspace.path("part/one").read_text() == "b"
    assert workspace.path("two").read_text() == "aa"
    assert not workspace.is_intact(counter.step())
    assert workspace.do(counter.step())
    assert workspace.path("two").read_text() == "bb"


def test_stamps_hold_no_place(workspace: Workspace) -> None:
    workspace.do(Counter().step())
    stamp = (workspace.root / ".octavo" / "count-it.json").read_text()
    assert sorted(json.loads(stamp)) == ["files", "key"]
    assert str(workspace.root) not in stamp


def test_a_change_of_code_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "octavo_test_package"
    package.mkdir()
    (package / "__init__.py").write_text("a = 1")
    monkeypatch.syspath_prepend(str(tmp_path))
    before = code_digest(("octavo_test_package",))
    (package / "__init__.py").write_text("a = 2")
    code_digest.cache_clear()
    assert code_digest(("octavo_test_package",)) != before
    code_digest.cache_clear()


def test_a_missing_input_is_named(workspace: Workspace) -> None:
    with pytest.raises(BadInput, match=r"qdq\.onnx"):
        workspace.sha256("int8/qdq.onnx")


def test_a_folder_is_an_output_with_all_that_is_in_it(workspace: Workspace) -> None:
    names = ["a", "b"]

    def work(folder: Path) -> None:
        (folder / "tables").mkdir()
        for name in names:
            (folder / "tables" / name).write_text(name)

    step = Step("make tables", lambda: len(names), ("tables/",), work, ())
    assert workspace.do(step)
    assert not workspace.do(step)
    (workspace.path("tables") / "c").write_text("not of this step")
    assert not workspace.is_intact(step)
    names.pop()
    assert workspace.do(step)
    assert [file.name for file in workspace.path("tables").iterdir()] == ["a"]
