"""The bill of materials, judged by the schema of CycloneDX."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from cyclonedx.validation.json import JsonStrictValidator

from deploy.sbom import SCHEMA, Artefact, Package, installed, sbom, source_date
from quant.errors import BadInput

RUNTIME = Package("tensorrt_rtx", "1.7.1", "Proprietary")
MODEL = Artefact(
    "vit/model.onnx", "a" * 64, "machine-learning-model", "Apache-2.0 OR MIT", (installed("onnx"),)
)
ENGINE = Artefact("vit/engine.plan", "b" * 64, "machine-learning-model", depends_on=(MODEL, RUNTIME))
LABELS = Artefact("labels.txt", "c" * 64, "data", "CC0-1.0")
UNKNOWN = Package("octavo", None)


def written(*items: Artefact | Package, **more: Any) -> dict[str, Any]:
    text = sbom("bundle", items, **more)
    assert JsonStrictValidator(SCHEMA).validate_str(text) is None
    told: dict[str, Any] = json.loads(text)
    return told


def test_everything_an_artefact_depends_on_is_listed_once_with_its_digest_and_version() -> None:
    told = written(ENGINE, LABELS, RUNTIME, UNKNOWN)
    parts = {part["name"]: part for part in told["components"]}
    assert set(parts) == {"vit/engine.plan", "vit/model.onnx", "labels.txt", "tensorrt_rtx", "onnx", "octavo"}
    assert len(told["components"]) == 6
    assert parts["vit/engine.plan"]["hashes"] == [{"alg": "SHA-256", "content": "b" * 64}]
    assert parts["vit/engine.plan"]["type"] == "machine-learning-model"
    assert parts["labels.txt"]["type"] == "data"
    assert parts["tensorrt_rtx"]["purl"] == "pkg:pypi/tensorrt-rtx@1.7.1"
    assert parts["onnx"]["purl"] == f"pkg:pypi/onnx@{parts['onnx']['version']}"
    assert "version" not in parts["octavo"]
    assert parts["vit/model.onnx"]["licenses"][0]["expression"] == "Apache-2.0 OR MIT"
    assert parts["labels.txt"]["licenses"][0]["license"] == {"id": "CC0-1.0"}
    assert parts["tensorrt_rtx"]["licenses"][0]["license"] == {"name": "Proprietary"}


def test_what_depends_on_what_is_a_tree_below_the_whole() -> None:
    told = written(ENGINE, LABELS, RUNTIME, UNKNOWN)
    names = {part["bom-ref"]: part["name"] for part in told["components"]}
    needs = {
        names.get(d["ref"], d["ref"]): {names[ref] for ref in d.get("dependsOn", ())}
        for d in told["dependencies"]
    }
    assert needs["bundle"] == {"vit/engine.plan", "labels.txt", "octavo"}
    assert needs["vit/engine.plan"] == {"vit/model.onnx", "tensorrt_rtx"}
    assert needs["vit/model.onnx"] == {"onnx"}
    assert needs["onnx"] == needs["tensorrt_rtx"] == needs["octavo"] == set()


def test_the_same_values_give_the_same_bytes_and_others_another_serial_number() -> None:
    assert sbom("a", [ENGINE, LABELS]) == sbom("a", [LABELS, ENGINE])
    first, second = written(LABELS), written(ENGINE)
    assert first["serialNumber"].startswith("urn:uuid:")
    assert first["serialNumber"] != second["serialNumber"]
    assert "timestamp" not in first["metadata"]
    timed = written(LABELS, created=datetime(2026, 1, 2, tzinfo=UTC))
    assert timed["metadata"]["timestamp"].startswith("2026-01-02T00:00:00")
    assert timed["serialNumber"] != first["serialNumber"]


def test_the_time_is_that_of_source_date_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SOURCE_DATE_EPOCH", raising=False)
    assert source_date() is None
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "86400")
    assert source_date() == datetime(1970, 1, 2, tzinfo=UTC)
    for wrong in ("yesterday", "1e9", "9" * 30):
        monkeypatch.setenv("SOURCE_DATE_EPOCH", wrong)
        with pytest.raises(BadInput, match="whole number of seconds since 1970, got"):
            source_date()


def test_a_package_that_is_not_installed_has_no_version() -> None:
    assert installed("no-such-distribution") == Package("no-such-distribution", None)
    assert installed("onnx").licence == "Apache-2.0"
