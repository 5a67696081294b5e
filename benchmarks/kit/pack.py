"""Pack a run for a device that has nothing but Python, numpy and ONNX Runtime, or TensorRT and pycuda.

- ``measure.py``: the one command; ``measure_tensorrt.py`` is what it needs for TensorRT
- ``kit.json``: what is in it, how it is measured, and the SHA-256 of every other file, so that its own is the
  kit's identity
- ``models/<name>/model.onnx``, with the weight files it names, and the engine that the run has of it
- ``samples/``: see `benchmarks.kit.samples`

The same run gives the same bytes. The run keeps ``kits/<identity>.json``, by which a result is known again,
with what this machine answers to the samples.
"""

import platform
import shutil
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import onnxruntime as ort

from benchmarks.accuracy import collect
from benchmarks.bench import BenchSettings
from benchmarks.harness.backends import open_model
from benchmarks.kit.content import Answers, Entry, How, Kit
from benchmarks.kit.entries import entries_of, there
from benchmarks.kit.measure import KIT
from benchmarks.kit.record import Record, save_record
from benchmarks.kit.samples import Samples, choose
from benchmarks.onnx_file import weight_files
from deploy.onnxruntime.build import Optimization
from deploy.pipeline.line import FLOAT, Line, open_run
from deploy.tensorrt.cache import MANIFEST, PLAN
from quant.errors import BadInput
from quant.files import file_sha256

__all__ = ["Packed", "pack"]

_ARCHIVE, _SUFFIX = "kit.zip", ".zip"
_EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest that an archive knows
_RUNNER = Path(__file__).with_name("measure.py")
_TENSORRT = Path(__file__).with_name("measure_tensorrt.py")


@dataclass(frozen=True)
class Packed:
    """A finished kit.

    Attributes:
        path: the archive or folder.
        identity: SHA-256 of its ``kit.json``.
        variants: keys of the models in it.
        engines: keys of those with an engine.
        samples: how many.
        size_bytes: of the archive, or of the folder's files.
    """

    path: Path
    identity: str
    variants: tuple[str, ...]
    engines: tuple[str, ...]
    samples: int
    size_bytes: int


def pack(
    run: Path,
    out: Path | None = None,
    variants: Sequence[str] = (),
    targets: Sequence[str] = (),
    samples: int = 256,
) -> Packed:
    """Pack a run's models for ONNX Runtime and TensorRT.

    Args:
        run: its folder; lowered.
        out: where to: an archive where it ends with ``.zip``, else a new folder; by default ``kit.zip`` in
            the run's folder.
        variants: the variants beside ``fp32``, such as ``int8-ort-x86``; all where empty.
        targets: only those for these targets; all that a device can be measured with where empty.
        samples: how many of the validation set, at most.

    Raises:
        BadInput: the run is not lowered, has no such variant or target, or ``out`` cannot be written.
        Unsupported: no device is measured with what was asked for.
    """
    if samples < 1:
        raise BadInput(f"a kit needs at least 1 sample, got {samples}")
    line = open_run(run)
    out = line.workspace.path(_ARCHIVE) if out is None else out
    if out.suffix != _SUFFIX and out.exists():
        raise BadInput(f"{out}: exists already; name another folder, or an archive that ends with .zip")
    entries = entries_of(line, variants, targets)
    chosen = choose(line, samples)
    how = _how(line)
    answers = {entry.key: _answers(line, entry, chosen, how) for entry in entries}
    partial = out.with_name(f".{out.name}.part")
    try:
        with _emptied(partial):
            _fill(partial, line, entries, chosen)
            record = Record(kit=_about(line, entries, chosen, how, partial), answers=answers)
            (partial / KIT).write_text(record.kit, encoding="utf-8")
            save_record(run, record)  # first: without it nobody could read what the kit measures
            size = _publish(partial, out)
    except OSError as error:
        raise BadInput(f"cannot write {error.filename or out}: {error.strerror}") from error
    keys, engines = [e.key for e in entries], [e.key for e in entries if e.engine is not None]
    return Packed(out, record.identity, tuple(keys), tuple(engines), len(chosen.labels), size)


def _how(line: Line) -> How:
    bench = line.config.bench
    return How(
        processes=bench.processes,
        warmup=bench.warmup,
        calls=bench.calls,
        turn=bench.turn,
        batch=line.batch_size(bench.batch_sizes[0]),
        threads=bench.threads[0],
        accuracy_batch=line.batch_size(bench.accuracy_batch),
    )


def _answers(line: Line, entry: Entry, samples: Samples, how: How) -> Answers:
    """What this machine answers; as ONNX defines the operators where the model is made for another one."""
    here = entry.runtime == "onnxruntime" and platform.machine() in (entry.machines or (platform.machine(),))
    options = entry.session | ({} if here else {"optimization": Optimization.OFF.value})
    with open_model("onnxruntime", there(line, entry.source), how.threads, options)() as runner:
        some, total = samples.batches(how.accuracy_batch), len(samples.labels)
        return Answers.of(collect(runner, some, title=f"answers {entry.key}", total=total).logits)


@contextmanager
def _emptied(folder: Path) -> Iterator[None]:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    try:
        yield
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _fill(folder: Path, line: Line, entries: Sequence[Entry], samples: Samples) -> None:
    for file in (_RUNNER, *([_TENSORRT] if any(e.runtime == "tensorrt" for e in entries) else ())):
        shutil.copyfile(file, folder / file.name)
    (folder / "samples").mkdir()
    for name, content in samples.files().items():
        (folder / "samples" / name).write_bytes(content)
    for entry in entries:
        source, copy = there(line, entry.source), folder / entry.file
        copy.parent.mkdir(parents=True, exist_ok=True)  # two entries may have one file
        engine = () if entry.engine is None else (PLAN, MANIFEST)
        for name in (source.name, *weight_files(source), *engine):  # they are looked for beside it
            shutil.copyfile(source.parent / name, copy.parent / name)


def _about(line: Line, entries: Sequence[Entry], samples: Samples, how: How, folder: Path) -> str:
    about = Kit(
        model=line.config.model.name,
        recipe=", ".join(recipe.name for recipe in line.recipes),
        task=line.config.task,
        data=line.validation_in_words,
        onnxruntime=ort.__version__,
        input=BenchSettings().input_name,
        reference=FLOAT,
        samples=len(samples.labels),
        labels=tuple(samples.labels.tolist()),
        names=samples.names,
        variants=tuple(entries),
        measure=how,
        files={name: file_sha256(folder / name) for name in _names(folder)},
    )
    return about.model_dump_json(indent=1) + "\n"


def _names(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def _publish(folder: Path, out: Path) -> int:
    """Move the finished kit to its place; its size in bytes."""
    if out.suffix != _SUFFIX:
        size = sum((folder / name).stat().st_size for name in _names(folder))
        folder.rename(out)
        return size
    packed = folder.with_suffix(".zip")
    try:
        with zipfile.ZipFile(packed, "w") as archive:
            for name in _names(folder):
                about = zipfile.ZipInfo(f"kit/{name}", _EPOCH)
                about.compress_type, about.external_attr = zipfile.ZIP_DEFLATED, 0o644 << 16
                about.file_size = (folder / name).stat().st_size  # tells whether 4 GiB are enough
                with (folder / name).open("rb") as source, archive.open(about, "w") as copy:
                    shutil.copyfileobj(source, copy, 1 << 20)
        packed.replace(out)
    finally:
        packed.unlink(missing_ok=True)
    return out.stat().st_size
