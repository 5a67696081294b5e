"""A container that does not start is told with the engine's own words, and none is left."""

from pathlib import Path

import pytest

from benchmarks.arm64.cpus import CPUS
from benchmarks.arm64.served import emulated
from benchmarks.bars import container
from benchmarks.bars.container import Engine
from quant.errors import BadInput

ENGINE = """#!/bin/sh
echo "$@" >> {log}
case $1 in
  run) echo 1234 ;;
  container) echo '[{{"State": {{"Running": false}}}}]' ;;
  logs) echo "bundle.zip: was made for target ort-x86" >&2 ;;
esac
"""


def engine(folder: Path, text: str) -> Engine:
    script = folder / "engine"
    script.write_text(text)
    script.chmod(0o755)
    return Engine(str(script))


def test_a_server_that_ends_is_told_and_taken_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(container, "_LOOK_S", 0.0)
    log = tmp_path / "log"
    name = engine(tmp_path, ENGINE.format(log=log))
    served = emulated(name, "image", tmp_path / "bundle.zip", CPUS["cortex-a72"], tmp_path)
    with pytest.raises(BadInput, match="was made for target ort-x86"), served:
        pass
    calls = log.read_text().splitlines()
    assert calls[-1] == "rm --force 1234"
    assert "--read-only" in calls[0]
    assert "--cap-drop=all" in calls[0]
    assert f"{tmp_path}/cpuinfo:/proc/cpuinfo:ro" in calls[0]
    assert "QEMU_CPU=cortex-a72" in calls[0]
    assert "0xd08" in (tmp_path / "cpuinfo").read_text()


def test_an_engine_that_refuses_is_quoted(tmp_path: Path) -> None:
    name = engine(tmp_path, "#!/bin/sh\necho 'image not known' >&2\nexit 125\n")
    with pytest.raises(BadInput, match="run failed: image not known"):
        emulated(name, "image", tmp_path / "bundle.zip", CPUS["cortex-a72"], tmp_path).__enter__()
