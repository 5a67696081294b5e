"""Jobs there and back: on this machine, by the program that runs in the emulator, and in the emulator."""

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from benchmarks.arm64 import jobs as module
from benchmarks.arm64.audited import audit_arm
from benchmarks.arm64.cpus import CPUS, Cpu
from benchmarks.arm64.emulator import Emulator
from benchmarks.arm64.jobs import Job, do_here, do_on_arm
from deploy.onnxruntime.build import Optimization
from quant.errors import InternalError
from tests.benchmarks.arm64.conftest import Here


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Emulator:
    """A device that is this machine, and says that it is ARM."""
    source = Path(module.device.__file__).read_text()
    disguised = source.replace("platform.machine()", "'aarch64'").replace("libc.getauxval(_HWCAP)", "1 << 20")
    (tmp_path / "disguised.py").write_text(disguised)
    monkeypatch.setattr(module.device, "__file__", str(tmp_path / "disguised.py"))
    return Here(tmp_path, CPUS["neoverse-n1"])


def job(product: onnx.ModelProto, first: float = 1.0) -> Job:
    feeds = [
        {"x": np.array([[first, 2.0]], np.float32)},
        {"x": np.array([[3.0, 4.0], [5.0, 6.0]], np.float32)},
    ]
    return Job("product", product.SerializeToString(), feeds, ("y",), graph=True)


def test_the_calls_come_back_in_a_row_as_they_do_here(
    here: Emulator, product: onnx.ModelProto, tmp_path: Path
) -> None:
    (found,) = do_on_arm([job(product)], here, tmp_path / "work")
    np.testing.assert_array_equal(found.outputs["y"], [[2, 4], [6, 8], [10, 12]])
    np.testing.assert_array_equal(found.outputs["y"], do_here(job(product)).outputs["y"])
    assert dict(found.operators) == {"Add": 1}
    assert found.graph is not None
    assert [node.op_type for node in onnx.load(found.graph).graph.node] == ["Add"]


def test_what_is_done_is_not_done_again_and_other_inputs_are(
    here: Emulator, product: onnx.ModelProto, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    work = tmp_path / "work"
    do_on_arm([job(product)], here, work)
    (other,) = do_on_arm([job(product, first=9.0)], here, work)
    assert other.outputs["y"][0, 0] == 18

    def never(*_: object) -> str:
        raise AssertionError("it was run again")

    monkeypatch.setattr(Here, "run", never)
    (found,) = do_on_arm([job(product)], here, work)
    assert found.outputs["y"][0, 0] == 2


def test_another_processor_than_was_asked_for_is_a_bug(
    here: Emulator, product: onnx.ModelProto, tmp_path: Path
) -> None:
    wrong = Here(here.root, CPUS["cortex-a72"])  # the device says that it has dot products
    with pytest.raises(InternalError, match=r"to be a cortex-a72.*'dot_product': True"):
        do_on_arm([job(product)], wrong, tmp_path / "work")


@pytest.mark.parametrize("cpu", CPUS.values(), ids=list(CPUS))
def test_arms_runtime_executes_what_the_audit_predicts(
    cpu: Cpu, emulator: Emulator, vit: tuple[Path, torch.Tensor], tmp_path: Path
) -> None:
    path, images = vit
    model = onnx.load(path)
    feed = {model.graph.input[0].name: images.numpy()}
    whole = Job("logits", path.read_bytes(), [feed], (model.graph.output[0].name,), graph=True)
    (found,) = do_on_arm([whole], Emulator(emulator.root, cpu), tmp_path)
    (name,) = whole.outputs
    off = Job("off", whole.model, whole.feeds, whole.outputs, Optimization.OFF)
    assert (found.outputs[name].argmax(1) == do_here(off).outputs[name].argmax(1)).all()
    assert found.graph is not None
    audited = audit_arm(path, found.graph, found.operators)
    assert audited.differences == audited.unlike_profile == ()
    assert audited.executed.weight_share == 1
    assert not [note for note in audited.executed.notes if "emulated" in note]
