import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import benchmarks
from benchmarks.environment import describe_environment, product_commit


def git(root: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "commit.gpgsign=false"]
    done = subprocess.run(
        ["git", "-C", str(root), *identity, *arguments], capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


def test_commit_says_when_files_differ(tmp_path: Path) -> None:
    git(tmp_path, "init", "-q")
    (tmp_path / "a.py").write_text("x = 1\n")
    git(tmp_path, "add", "a.py")
    git(tmp_path, "commit", "-qm", "first")
    head = git(tmp_path, "rev-parse", "HEAD")
    assert product_commit(tmp_path) == head
    (tmp_path / "a.py").write_text("x = 2\n")
    assert product_commit(tmp_path) == f"{head}-dirty"
    inside = tmp_path / "site-packages"
    inside.mkdir()
    assert product_commit(inside) is None


def test_no_repository_means_no_commit(tmp_path: Path) -> None:
    assert product_commit(tmp_path) is None


def test_environment_describes_this_machine() -> None:
    here = describe_environment()
    assert here.packages["onnxruntime"] == version("onnxruntime")
    assert here.cores >= 1
    assert here.memory_gib > 0.1
    assert here.python == ".".join(map(str, sys.version_info[:3]))


def test_describing_imports_no_framework() -> None:
    code = (
        "import sys; from benchmarks.environment import describe_environment; describe_environment();"
        "print(sorted(m for m in ('torch', 'timm', 'onnx', 'onnxruntime') if m in sys.modules))"
    )
    root = Path(benchmarks.__file__).parents[1]
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=root)
    assert done.stdout.strip() == "[]"
