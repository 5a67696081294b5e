import os
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from torch import nn

from quant.errors import BadInput
from quant.files import file_sha256
from quant.models.checkpoint import apply_weights, read_weights

WEIGHTS = {"weight": torch.tensor([[1.5, -2.0]]), "bias": torch.tensor([0.25])}


class Trap:
    """Makes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


def same(weights: dict[str, torch.Tensor]) -> bool:
    return weights.keys() == WEIGHTS.keys() and all(torch.equal(weights[k], WEIGHTS[k]) for k in WEIGHTS)


def test_safetensors_are_read(tmp_path: Path) -> None:
    safetensors.torch.save_file(WEIGHTS, tmp_path / "w.safetensors")
    assert same(read_weights(tmp_path / "w.safetensors"))


@pytest.mark.parametrize("suffix", [".pt", ".pth", ".bin"])
@pytest.mark.parametrize(
    "checkpoint",
    [
        WEIGHTS,
        {"state_dict": WEIGHTS, "epoch": 3},
        {"model": WEIGHTS, "optimizer": {"lr": 0.1}},
        {"model": {"state_dict": WEIGHTS}},
        {f"module.{name}": value for name, value in WEIGHTS.items()},
        {"state_dict": {f"module._orig_mod.{name}": value for name, value in WEIGHTS.items()}},
    ],
)
def test_torch_checkpoints_are_unwrapped(tmp_path: Path, checkpoint: dict[str, Any], suffix: str) -> None:
    path = tmp_path / f"w{suffix}"
    torch.save(checkpoint, path)
    assert same(read_weights(path))


def test_a_model_part_called_module_keeps_its_name(tmp_path: Path) -> None:
    torch.save({"module.weight": torch.ones(1), "head.weight": torch.ones(1)}, tmp_path / "w.pt")
    assert set(read_weights(tmp_path / "w.pt")) == {"module.weight", "head.weight"}


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_floats_of_other_widths_become_float32_and_integers_stay(tmp_path: Path, dtype: torch.dtype) -> None:
    path = tmp_path / "w.safetensors"
    safetensors.torch.save_file({"a": torch.tensor([0.5], dtype=dtype), "b": torch.tensor([7])}, path)
    weights = read_weights(path)
    assert (weights["a"].dtype, weights["a"].item()) == (torch.float32, 0.5)
    assert (weights["b"].dtype, weights["b"].item()) == (torch.int64, 7)


@pytest.mark.parametrize("as_zip", [True, False])
@pytest.mark.parametrize("checkpoint", ["nested", "bare"])
def test_pickled_objects_are_refused_and_never_run(tmp_path: Path, checkpoint: str, as_zip: bool) -> None:
    trap = Trap(tmp_path / "sprung")
    value = {"state_dict": WEIGHTS, "args": trap} if checkpoint == "nested" else trap
    torch.save(value, tmp_path / "w.pt", _use_new_zipfile_serialization=as_zip)
    with pytest.raises(
        BadInput, match=r"w\.pt: holds pickled objects, .* refused; save model\.state_dict\(\)"
    ):
        read_weights(tmp_path / "w.pt")
    assert not (tmp_path / "sprung").exists()


def test_a_whole_pickled_model_is_refused(tmp_path: Path) -> None:
    torch.save(nn.Linear(2, 1), tmp_path / "w.pth")
    with pytest.raises(BadInput, match="holds pickled objects"):
        read_weights(tmp_path / "w.pth")


@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
@pytest.mark.parametrize("damage", ["half", "empty", "text", "html"])
def test_damaged_files_are_refused(tmp_path: Path, suffix: str, damage: str) -> None:
    path = tmp_path / f"w{suffix}"
    if suffix == ".pt":
        torch.save(WEIGHTS, path)
    else:
        safetensors.torch.save_file(WEIGHTS, path)
    whole = path.read_bytes()
    path.write_bytes(
        {"half": whole[: len(whole) // 2], "empty": b"", "text": b"hello", "html": b"<!doctype html>" * 50}[
            damage
        ]
    )
    kind = "a PyTorch checkpoint, or is damaged" if suffix == ".pt" else "a whole safetensors file"
    with pytest.raises(BadInput, match=rf"w\{suffix}: is not {kind}"):
        read_weights(path)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"epoch": 3, "weight": torch.ones(1)}, "epoch is not a tensor"),
        ({}, "there is no tensor"),
        ([torch.ones(1)], "holds list instead of named tensors"),
        (torch.ones(1), "holds Tensor instead of named tensors"),
    ],
)
def test_files_of_anything_else_are_refused(tmp_path: Path, value: object, message: str) -> None:
    torch.save(value, tmp_path / "w.pt")
    with pytest.raises(BadInput, match=message):
        read_weights(tmp_path / "w.pt")


def test_absent_files_and_unknown_suffixes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"w\.pt: the weights file does not exist"):
        read_weights(tmp_path / "w.pt")
    (tmp_path / "w.h5").write_bytes(b"x")
    with pytest.raises(BadInput, match=r"'\.h5' is not one .*allowed: \.safetensors, \.pt, \.pth, \.bin"):
        read_weights(tmp_path / "w.h5")


def test_apply_copies_every_weight() -> None:
    model = nn.Linear(2, 1)
    apply_weights(model, WEIGHTS, "w.pt")
    assert model(torch.tensor([[1.0, 1.0]])).item() == 1.5 - 2.0 + 0.25


def test_mismatches_say_which_side_and_name_the_first_few() -> None:
    model = nn.Sequential(*(nn.Linear(2, 2) for _ in range(3)))
    weights = {"0.weight": torch.ones(2, 3), "head.weight": torch.ones(1), "0.bias": torch.ones(2)}
    with pytest.raises(BadInput) as caught:
        apply_weights(model, weights, "w.pt")
    message = str(caught.value)
    assert message.startswith("w.pt: does not fit the model; ")
    assert "the model needs, but the checkpoint lacks: 1.weight, 1.bias, 2.weight and 1 more; " in message
    assert "the checkpoint has, but the model does not: head.weight; " in message
    assert "different shapes: 0.weight (checkpoint [2, 3], model [2, 2]); " in message


def test_a_mismatch_leaves_the_model_as_it_was() -> None:
    model = nn.Linear(2, 1)
    before = model.bias.detach().clone()
    with pytest.raises(BadInput):
        apply_weights(model, {"bias": torch.ones(1)}, "w.pt")
    assert torch.equal(model.bias, before)


def test_the_counter_of_batch_normalisation_may_be_absent_or_present() -> None:
    state = nn.BatchNorm2d(2).state_dict()
    apply_weights(nn.BatchNorm2d(2), state, "w.pt")
    del state["num_batches_tracked"]
    apply_weights(nn.BatchNorm2d(2), state, "w.pt")


def test_sha256_is_the_standard_one(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"abc")
    # FIPS 180-4, example of a one-block message.
    expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert file_sha256(tmp_path / "x") == expected
