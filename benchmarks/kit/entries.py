"""Which models of a run go into a kit, and how each is opened on the device."""

import json
from collections.abc import Sequence
from pathlib import Path

from benchmarks.kit.content import Entry, Runtime
from benchmarks.run_variants import RUN_ON, lowered
from deploy.onnxruntime.build import EXACT_ON_X86, SessionSettings, settings_to
from deploy.pipeline.export import FLOAT_FILE
from deploy.pipeline.line import FLOAT, Line, float_variant
from deploy.tensorrt.cache import MANIFEST, PLAN
from deploy.tensorrt.engines import model_sha256
from deploy.tensorrt.manifest import read_manifest
from deploy.tensorrt.runs import TARGET as TENSORRT
from export.targets import Target, get_target
from quant.encoding import WeightGuard
from quant.errors import BadInput, Unsupported
from quant.words import near

__all__ = ["entries_of", "there"]

_KNOWN: dict[str, Runtime] = {**dict.fromkeys(RUN_ON, "onnxruntime"), TENSORRT: "tensorrt"}
"""Target to what runs it on a device."""


def entries_of(line: Line, variants: Sequence[str], targets: Sequence[str]) -> list[Entry]:
    """The float model, then the quantized ones.

    Args:
        line: the run.
        variants: names of quantized variants; all where empty.
        targets: only those for these; all that a device can be measured with where empty.

    Raises:
        BadInput: the run has no such variant or target, or its files are not there.
        Unsupported: no device is measured with what was asked for.
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
    """The float model: in its best graph for some machines, for all others, and for TensorRT."""
    found = []
    for target in line.targets:
        key = float_variant(target)
        wanted = target.lowers_float and target.name in targets & RUN_ON.keys()
        if wanted and not _same(line, f"{key}/model.onnx", FLOAT_FILE):
            found.append(_entry(key, FLOAT, target.name, RUN_ON[target.name], f"{key}/model.onnx"))
    if targets & RUN_ON.keys():
        found.append(_entry(FLOAT, FLOAT, "onnx", None, FLOAT_FILE))
    if TENSORRT in targets:
        half = float_variant(get_target(TENSORRT))
        found.append(_engine(line, f"{FLOAT}@{TENSORRT}", FLOAT, FLOAT_FILE, f"models/{FLOAT}/model.onnx"))
        found.append(_engine(line, half, half, f"{half}/model.onnx"))
    return found


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
    foreign = [target for target in asked or known.values() if target not in _KNOWN]
    if foreign and (asked or len(foreign) == len(known)):
        raise Unsupported(
            f"a kit is measured with ONNX Runtime, or TensorRT 10 and later, and neither runs {foreign[0]}; "
            f"a kit can be for {', '.join(_KNOWN)}"
        )
    found = []
    for name, target in known.items():
        if target not in (targets or _KNOWN) or target not in _KNOWN or name not in (variants or known):
            continue
        source = f"{name}/model.onnx"
        if target == TENSORRT:
            found.append(_engine(line, name, name, source))
        else:
            exact = _exact(line, name, get_target(target))
            found.append(_entry(name, name, target, RUN_ON[target], source, exact))
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


def _engine(line: Line, key: str, name: str, source: str, file: str | None = None) -> Entry:
    """A model for TensorRT, with the engine that the run has of it, unless that is of an older model."""
    file = file or f"models/{key}/model.onnx"
    path = there(line, source)
    plan, engine = path.with_name(PLAN), None
    if plan.is_file():
        read_manifest(plan)  # damaged ones are refused here, not on the device
        made_of = json.loads(path.with_name(MANIFEST).read_bytes()).get("model")
        engine = str(Path(file).with_name(PLAN)) if made_of == model_sha256(path) else None
    target = "onnx" if name == FLOAT else TENSORRT
    return Entry(
        key=key,
        name=name,
        target=target,
        runtime="tensorrt",
        machines=None,
        file=file,
        source=source,
        session={},
        engine=engine,
    )


def _exact(line: Line, name: str, target: Target) -> dict[str, str]:
    """What the CPU must be told where the weights were not guarded, because this machine's needs no guard."""
    lowering = json.loads(there(line, f"{name}/lowering.json").read_bytes())
    return EXACT_ON_X86 if target.saturates and lowering["guard"] == WeightGuard.NONE.value else {}


def _same(line: Line, one: str, other: str) -> bool:
    return there(line, one).read_bytes() == there(line, other).read_bytes()
