"""What a bundle is, in a few lines for a terminal."""

from collections.abc import Mapping
from typing import Any

from deploy.bundle.bundle import Bundle
from deploy.bundle.layout import LICENSE, MANIFEST
from quant.errors import BadInput

__all__ = ["describe"]


def describe(bundle: Bundle) -> list[str]:
    """Model, target, accuracy, latency, licence, files and the digest of a loaded bundle.

    Raises:
        BadInput: its manifest says enough to load it, but not this.
    """
    try:
        return _lines(bundle)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise BadInput(
            f"{bundle.path}: its {MANIFEST} does not say what was measured ({error!r}); make it again"
        ) from error


def _lines(bundle: Bundle) -> list[str]:
    manifest = bundle.manifest
    told = manifest.told
    runtime = " ".join(str(told["runtime"][key]) for key in ("name", "version") if told["runtime"][key])
    return [
        f"{bundle.path}: whole, {len(bundle.files)} files, {sum(map(len, bundle.files.values()))} bytes",
        f"  model     {manifest.model}, {manifest.variant} for {manifest.target} ({runtime})",
        f"  task      {manifest.task}, {len(bundle.labels) or 'no'} labels",
        f"  input     {_shape(manifest.model_input.shape)} {manifest.model_input.dtype}",
        f"  accuracy  {_accuracy(told)}",
        *(f"  latency   {_latency(one)}" for one in told["latency"] or ()),
        f"  measured  {_conditions(told['measured'])}",
        f"  parity    {_parity(told['parity'])}",
        f"  licence   {_license(told['model']['license'])}",
        *(f"  file      {name}  {size} bytes  {sha}" for name, (sha, size) in sorted(manifest.files.items())),
        f"  digest    {bundle.digest} (of SHA256SUMS)",
    ]


def _accuracy(told: Mapping[str, Any]) -> str:
    own, base = told["accuracy"], told["reference"]["accuracy"]
    agreement = "" if own["agreement"] is None else f", {own['agreement']:.1%} the same answers"
    return (
        f"{own['top1']:.2%} top-1 ({own['correct']} of {own['n']}); {told['reference']['name']} "
        f"{base['top1']:.2%}{agreement}"
    )


def _latency(one: Mapping[str, Any]) -> str:
    speedup = "" if one["speedup"] is None else f", {one['speedup']['value']:.2f}× as fast as the reference"
    return (
        f"batch {one['batch']}, {one['threads']} threads: {one['median_ms']:.3f} ms median, "
        f"{one['p99_ms']:.3f} ms 99th percentile{speedup}"
    )


def _conditions(measured: Mapping[str, Any]) -> str:
    device, data = measured["device"], measured["data"]
    images = " ".join(str(data[key]) for key in ("kind", "split") if data[key])
    note = f"; {measured['note']}" if measured["note"] else ""
    version = measured["packages"].get(measured["backend"], "")
    return (
        f"{measured['created'][:10]}, {data['samples']} samples ({images}), {measured['backend']} {version} "
        f"on {device['cpu'] or device['architecture']}, {device['cores']} cores{note}"
    )


def _parity(parity: Mapping[str, Any] | None) -> str:
    if parity is None:
        return "a float model, nothing to compare"
    if parity["passed"]:
        return "passed"
    outside = [stage for stage, figures in parity["stages"].items() if not figures["within_limits"]]
    return f"OUT OF LIMITS, which the run's settings let pass: {', '.join(outside)}"


def _license(told: Mapping[str, Any]) -> str:
    return f"in the file {LICENSE}" if told["file"] else str(told["spdx"] or "of the weights not known")


def _shape(shape: tuple[int | None, ...]) -> str:
    return f"[{', '.join('N' if size is None else str(size) for size in shape)}]"
