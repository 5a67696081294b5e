"""Which models of a run go into a kit, and how each is opened on the device."""

import json
from collections.abc import Sequence
from pathlib import Path

from benchmarks.kit.content import Entry
from benchmarks.run_variants import RUN_ON, lowered
from deploy.onnxruntime.build import EXACT_ON_X86, SessionSettings, settings_to
from deploy.pipeline.export import FLOAT_FILE
from deploy.pipeline.line import FLOAT, Line, float_variant
from export.targets import Target, get_target
from quant.encoding import WeightGuard
from quant.errors import BadInput, Unsupported
from quant.words import near

__all__ = ["entries_of", "there"]


def entries_of(line: Line, variants: Sequence[str], targets: Sequence[str]) -> list[Entry]:
    """The float model, then the quantized ones.

    Args:
        line: the run.
        variants: names of quantized variants; all where empty.
        targets: only those for these; all that ONNX Runtime executes where empty.

    Raises:
        BadInput: the run has no such variant or target, or its files are not there.
        Unsupported: what was asked for is not executed by ONNX Runtime.
    """
    quantized = _quantized(line, variants, targets)
    return _floats(line, {entry.target for entry in quantized}) + quantized


def there(line: Line, source: str) -> Path:
    """A file of the run.

    Raises:
        BadInput: it does not exist.
    """
    path, root = line.workspace.path(source), line.workspace.root
    if not path.is_file():
        raise BadInput(f"{path}: does not exist; `octavo export {root}` and `octavo lower {root}` write it")
    return path


def _floats(line: Line, targets: set[str]) -> list[Entry]:
    """The float model in its best graph for some machines, then the one for all others."""
    found = []
    for target in line.targets:
        key = float_variant(target)
        wanted = target.lowers_float and target.name in targets
        if wanted and not _same(line, f"{key}/model.onnx", FLOAT_FILE):
            found.append(_entry(key, FLOAT, target.name, RUN_ON[target.name], f"{key}/model.onnx"))
    return [*found, _entry(FLOAT, FLOAT, "onnx", None, FLOAT_FILE)]


def _quantized(line: Line, variants: Sequence[str], targets: Sequence[str]) -> list[Entry]:
    known = {name: target for name, target, _ in lowered(line)}
    for name in targets:
        line.target_named(name)
    for name in (name for name in variants if name != FLOAT):
        if name not in known:
            raise BadInput(
                f"the run has no variant '{name}'{near(name, known)}; it has {', '.join((FLOAT, *known))}"
            )
    asked = [*targets, *(known[name] for name in variants if name != FLOAT)]
    foreign = [target for target in asked or known.values() if target not in RUN_ON]
    if foreign and (asked or len(foreign) == len(known)):
        raise Unsupported(
            f"a kit is measured with ONNX Runtime; engines for {foreign[0]} are built where they "
            f"run: `python -m benchmarks.gpu prepare {line.workspace.root} --out FOLDER` packs a kit for that"
        )
    found = [
        _entry(
            name, name, target, RUN_ON[target], f"{name}/model.onnx", _exact(line, name, get_target(target))
        )
        for name, target in known.items()
        if target in (targets or RUN_ON) and target in RUN_ON and name in (variants or known)
    ]
    if not found:
        raise BadInput(f"none of {', '.join(variants)} is for {', '.join(targets) or 'a device'}")
    return found


def _entry(
    key: str,
    name: str,
    target: str,
    machines: tuple[str, ...] | None,
    source: str,
    exact: dict[str, str] | None = None,
) -> Entry:
    return Entry(
        key=key,
        name=name,
        target=target,
        machines=machines,
        file=f"models/{key}/model.onnx",
        source=source,
        session=settings_to(SessionSettings()),
        exact=exact or {},
    )


def _exact(line: Line, name: str, target: Target) -> dict[str, str]:
    """What the CPU must be told where the weights were not guarded, because this machine's needs no guard."""
    lowering = json.loads(there(line, f"{name}/lowering.json").read_bytes())
    return EXACT_ON_X86 if target.saturates and lowering["guard"] == WeightGuard.NONE.value else {}


def _same(line: Line, one: str, other: str) -> bool:
    return there(line, one).read_bytes() == there(line, other).read_bytes()
