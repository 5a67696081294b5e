"""Every cell of the table is an engine, or Octavo's own reason; anything else is a failure."""

import pytest
import timm
import torch

from benchmarks.bars import architectures as module
from benchmarks.bars.architectures import FORMATS, build_cells, markdown
from deploy.tensorrt.library import Library
from quant.errors import Unsupported
from quant.graph import capture


def test_a_small_transformer_in_every_format(rtx: Library) -> None:
    torch.manual_seed(0)
    sizes = {"img_size": 32, "patch_size": 8, "depth": 1, "embed_dim": 48, "num_heads": 3}
    model = timm.create_model("vit_tiny_patch16_224", num_classes=10, **sizes).eval()
    images = torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    cells = {c.format: c for c in build_cells("tiny", capture(model, images[:2]), images, rtx)}
    assert list(cells) == list(FORMATS)
    refused = cells.pop("int4 weights")
    assert refused.outcome == "refused"
    assert "'blocks.0.attn.qkv.weight' of shape [144, 48] has no whole groups of 64" in refused.text
    assert {c.outcome for c in cells.values()} == {"builds"}, cells
    text = markdown([*cells.values(), refused], "RTX")
    assert "| refused (1) |" in text
    assert "1. 'blocks.0.attn.qkv.weight'" in text


def test_what_only_the_builder_refuses_is_a_failure(rtx: Library, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuses(*_: object) -> None:
        raise Unsupported("'fc': no kernel")

    monkeypatch.setattr(module, "build_plan", refuses)
    images = torch.randn(4, 8, generator=torch.Generator().manual_seed(0))
    cells = build_cells(
        "linear", capture(torch.nn.Sequential(torch.nn.Linear(8, 4)).eval(), images[:2]), images, rtx
    )
    assert (cells[0].format, cells[0].outcome, cells[0].text) == ("fp16", "FAILED", "'fc': no kernel")
    assert "| FAILED (1) |" in markdown(cells, "RTX")
