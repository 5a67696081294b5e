"""Stage 4: find out what ONNX Runtime really runs on integers in each model that it can run."""

import json
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path

from deploy.audit import audit_model
from deploy.audit.site import Target as AuditTarget
from deploy.cpu import cpu_info
from deploy.pipeline.line import Line, variant_name
from deploy.pipeline.workspace import Step

__all__ = ["is_audited", "steps"]


def is_audited(target: str) -> bool:
    """Whether the runtime of a target can be audited here."""
    return target in {known.value for known in AuditTarget}


def steps(line: Line) -> list[Step]:
    """One for each variant whose runtime is ONNX Runtime; fusion on ARM is emulated elsewhere."""
    return [
        _step(line, variant_name(recipe, target), target.name)
        for recipe in line.recipes
        for target in line.targets
        if is_audited(target.name)
    ]


def _step(line: Line, variant: str, target: str) -> Step:
    return Step(
        name=f"audit {variant}",
        inputs=lambda: [line.workspace.sha256(f"{variant}/model.onnx"), target, asdict(cpu_info())],
        outputs=(f"{variant}/audit.json",),
        work=partial(_audit, line, variant, target),
        packages=("deploy",),
    )


def _audit(line: Line, variant: str, target: str, folder: Path) -> None:
    model = f"{variant}/model.onnx"
    report = replace(audit_model(line.workspace.path(model), target), model=model)
    path = folder / variant / "audit.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(report.to_dict(), indent=1) + "\n", encoding="utf-8")
