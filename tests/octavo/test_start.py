"""How the command starts."""

import os
import subprocess
import sys
from pathlib import Path

from tests.octavo.project import ROOT


def test_help_answers_without_loading_torch() -> None:
    code = "import sys, octavo\ntry:\n octavo.main()\nfinally:\n assert 'torch' not in sys.modules, 'torch'"
    done = subprocess.run(
        [sys.executable, "-c", code, "--help"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    for verb in ("run", "quantize", "export", "lower", "bench", "audit", "report", "package", "verify"):
        assert verb in done.stdout


def test_a_package_from_elsewhere_is_named_before_it_is_imported(tmp_path: Path) -> None:
    fake = tmp_path / "benchmarks"
    fake.mkdir()
    (fake / "__init__.py").write_text("raise SystemExit('imported')")
    done = subprocess.run(
        [sys.executable, str(ROOT / "octavo.py"), "--help"],
        env=os.environ | {"PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}", "PYTHONSAFEPATH": "1"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert f"'benchmarks' comes from {fake}" in line
    assert str(ROOT / "benchmarks") in line


def test_bundles_are_verified_without_loading_torch(tmp_path: Path) -> None:
    code = "import sys, octavo\ntry:\n octavo.main()\nfinally:\n assert 'torch' not in sys.modules, 'torch'"
    done = subprocess.run(
        [sys.executable, "-c", code, "verify", str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2, done.stderr
    assert (
        done.stderr
        == f"octavo: {tmp_path}: is not a bundle: it has no manifest.json; `octavo package` makes bundles\n"
    )
