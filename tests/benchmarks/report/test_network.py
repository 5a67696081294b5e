from collections.abc import Callable

from benchmarks.report.network import networks
from benchmarks.report.runs import Run, entries
from benchmarks.results import Summary


def item(
    module: str, macs: int, integer: bool = True, intended: bool = False, rule: str = ""
) -> dict[str, object]:
    found = [{"rule": rule, "reason": "because", "remedy": "do that"}] if rule else []
    return {
        "module": module,
        "op": "MatMul",
        "kind": "linear",
        "macs": macs,
        "integer": integer,
        "intended": intended,
        "findings": found,
    }


def test_blocks_states_and_widths_are_those_of_the_audit(changed: Callable[..., Summary]) -> None:
    items = [
        item("stem.conv", 50),
        item("stages.0.blocks.1.mlp.0", 100),
        item("stages.0.blocks.1.attn", 60, integer=False),
        item("stages.0.blocks.1.fc2", 40, integer=False, intended=True, rule="shared-quantizer"),
        item("layer1.0.conv1", 20, integer=False, rule="weight-only"),
        item("head", 10),
    ]
    audit = {"total_share": 0.57, "weight_share": 0.6, "multiplications": items}
    (network,) = networks(entries([Run("main", changed(audit=audit))]))
    assert [block.name for block in network.blocks] == ["stem", "stages.0.blocks.1", "layer1.0", "head"]
    cells = network.blocks[1].cells
    assert [(c.name, c.state, c.width) for c in cells] == [
        ("mlp.0", "integer", 50.0),
        ("attn", "float", 30.0),
        ("fc2", "broken", 20.0),
    ]
    assert network.blocks[2].cells[0].state == "weight"
    assert "because – do that" in cells[2].told
    assert "1 in float against the recipe" in network.summary
    assert network.share == "57.0%"


def test_a_variant_without_an_audit_has_no_picture(run: Run) -> None:
    assert [n.entry.variant.name for n in networks(entries([run]))] == ["int8-ort-x86"]
