"""Measure the models of this kit on this device, with one command.

    python3 measure.py

Needs Linux, Python 3.9 or later, numpy and onnxruntime; for models for TensorRT, of which a GPU's engines are
built first, tensorrt and pycuda. Leaves ``result.json``: what the device is, every timed call, the memory of
every process and every answer. No figure is computed here; bring the file back and
`octavo report RUN result.json` does that. The file is written after each part, and the same command goes on
where it was interrupted.
"""

from __future__ import annotations

import argparse
import base64
import functools
import gc
import importlib.util
import json
import os
import platform
import selectors
import shutil
import signal
import subprocess
import sys
import time
from contextlib import ExitStack
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

LAYOUT = 1  # of result.json
PYTHON = (3, 9)
BAD_INPUT, INTERRUPTED = 2, 130
ROOT = Path(__file__).resolve().parent
KIT = "kit.json"
ORT, TENSORRT = "onnxruntime", "tensorrt"  # what runs a model
ANSWERS_SHARE = 0.45  # of the time; the rest is for latency
LONGEST_S = 600  # of one order to a process
BUILD_S = 3600  # of building one engine
WANTED_SETS = 5  # calls are cut before there are fewer processes than this
LEAST_SETS = 2  # an interval is made of the differences between processes
CPUINFO = (
    *("vendor_id", "model name", "flags", "Features", "Hardware", "Model"),
    *("CPU implementer", "CPU architecture", "CPU variant", "CPU part", "CPU revision"),
)
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # before it is imported, here or in a process of ours
VNNI = ("avx_vnni", "avx512_vnni", "avx_vnni_int8", "amx_int8")  # x86: 8-bit products in 32-bit sums
VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "OMP_WAIT_POLICY")

if TYPE_CHECKING:  # an older Python, too, must get as far as saying that it is too old
    Json = dict[str, Any]


class Refused(Exception):
    """Nothing can be measured; the message says why and what to do."""


class Failed(Exception):
    """One model cannot be measured."""


# ---- the process that holds one model --------------------------------------------------------------------


class _Worker:
    """One model, run on order; `serve` reads orders as lines of JSON."""

    def __init__(self) -> None:
        self.call: Any = None  # from a name and an input to a list of outputs
        self.engine: Any = None
        self.feeds: dict[str, Any] = {}
        self.told: tuple[type[Exception], ...] = (Failed,)  # errors whose text says all

    def tensorrt(self) -> Any:
        module = _load_tensorrt()
        self.told = (Failed, module.Failed)
        return module

    def describe(self) -> Json:
        gpu: Json = self.tensorrt().describe()
        return gpu

    def build(self, model: str, plan: str, batches: list[int]) -> Json:
        built: Json = self.tensorrt().build(ROOT / model, Path(plan), batches)
        return built

    def open(
        self, entry: Json, kit: Json, threads: int, cpus: list[int] | None, plan: str | None = None
    ) -> Json:
        if cpus is not None:
            os.sched_setaffinity(0, cpus)  # before the runtime makes its threads, which inherit it
        import numpy

        self.numpy, self.input = numpy, kit["input"]
        if plan is None:
            return self.open_session(entry, kit, threads)
        module = self.tensorrt()
        trt, cuda, packages = module.runtime()
        imported, began = _status("VmRSS"), time.perf_counter_ns()
        self.engine = module.Engine(trt, cuda, Path(plan))
        self.call = self.engine.call
        return {
            "load_ms": (time.perf_counter_ns() - began) / 1e6,
            "imported_mib": imported,
            "loaded_mib": _status("VmRSS"),
            "packages": {"numpy": numpy.__version__, **packages},
            "most": self.engine.most,
            "gpu_mib": self.engine.used_mib,
        }

    def open_session(self, entry: Json, kit: Json, threads: int) -> Json:
        import onnxruntime

        imported, began = _status("VmRSS"), time.perf_counter_ns()
        try:
            session = _build_session(onnxruntime, entry, threads)
        except Exception as error:  # ONNX Runtime's exceptions share no base class of their own
            here, made = onnxruntime.__version__, kit["onnxruntime"]
            hint = "" if here == made else f"by onnxruntime {here}, packed with {made}: "
            raise Failed(f"{hint}{error}") from None
        self.call = functools.partial(session.run, [output.name for output in session.get_outputs()])
        took = (time.perf_counter_ns() - began) / 1e6
        packages = {"numpy": self.numpy.__version__, "onnxruntime": onnxruntime.__version__}
        loaded = _status("VmRSS")
        return {"load_ms": took, "imported_mib": imported, "loaded_mib": loaded, "packages": packages}

    def feed(self, first: int, count: int) -> Json:
        self.feeds = {self.input: self.samples(first, count)}
        return {}

    def answer(self, first: int, count: int) -> Json:
        values = self.call({self.input: self.samples(first, count)})
        logits = self.numpy.ascontiguousarray(values[0], dtype=self.numpy.dtype("<f4"))
        if len(values) != 1 or logits.ndim != 2 or len(logits) != count:
            raise ValueError(f"expected one output [{count}, K], the model gave {[v.shape for v in values]}")
        if not self.numpy.isfinite(logits).all():
            raise ValueError("some logits are not finite (NaN or infinity)")
        return {"outputs": logits.shape[1], "float32": base64.b64encode(logits.tobytes()).decode("ascii")}

    def run(self, calls: int) -> Json:
        call, feeds, clock = self.call, self.feeds, time.perf_counter_ns
        times = [0] * calls
        free = None if self.engine is None else self.engine.free_mib()
        gc.collect()
        gc.disable()
        try:
            for i in range(calls):
                began = clock()
                call(feeds)
                times[i] = clock() - began
        finally:
            gc.enable()
        used = None if free is None else self.engine.count_used(free)
        return {
            "ns": times,
            "resident_mib": _status("VmRSS"),
            "peak_mib": _status("VmHWM"),
            "gpu_mib": used,
        }

    def close(self) -> None:
        if self.engine is not None:
            self.call = None
            self.engine.close()

    def samples(self, first: int, count: int) -> Any:
        """Inputs [count, ...], float32; of images, codes [N, C, H, W] are looked up in a table [C, 256]."""
        np = self.numpy
        stored = np.load(ROOT / "samples" / "inputs.npy", mmap_mode="r")[first : first + count]
        if stored.dtype != np.uint8:
            return np.ascontiguousarray(stored, dtype=np.float32)
        table = np.load(ROOT / "samples" / "table.npy")
        return np.stack([table[c][stored[:, c]] for c in range(len(table))], axis=1)


def _build_session(ort: Any, entry: Json, threads: int) -> Any:
    """Every setting written out, as `deploy.onnxruntime.build` of Octavo does."""
    how, options = entry["session"], ort.SessionOptions()
    levels = {"off": "ORT_DISABLE_ALL", "basic": "ORT_ENABLE_BASIC", "all": "ORT_ENABLE_ALL"}
    options.log_severity_level = 4  # fatal only; every error also arrives as an exception
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = how["inter_op_threads"]
    options.graph_optimization_level = getattr(ort.GraphOptimizationLevel, levels[how["optimization"]])
    for key, value in how["config"].items():
        options.add_session_config_entry(key, value)
    return ort.InferenceSession(
        str(ROOT / entry["file"]),
        sess_options=options,
        providers=how["providers"],
        disabled_optimizers=how["disabled_optimizers"],
        enable_fallback=0,
    )


def _serve() -> int:
    """Answer orders until there are no more."""
    # A library that prints must not be taken for an answer.
    with os.fdopen(os.dup(1), "w", encoding="utf-8") as answers:
        os.dup2(2, 1)
        worker = _Worker()
        for line in sys.stdin:
            order = json.loads(line)
            try:
                reply = getattr(worker, order.pop("do"))(**order)
            except Exception as error:
                plain = isinstance(error, worker.told)
                reply = {"error": str(error) if plain else f"{type(error).__name__}: {error}"}
            answers.write(json.dumps(reply) + "\n")
            answers.flush()
        worker.close()
    return 0


def _load_tensorrt() -> Any:
    """The second file of a kit that has models for TensorRT: a CPU's kit goes without."""
    path = ROOT / "measure_tensorrt.py"
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise Failed(f"{path.name} cannot be loaded")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _status(field: str) -> float:
    """A memory field of this process, in MiB."""
    for line in Path("/proc/self/status").read_text(encoding="ascii", errors="replace").splitlines():
        key, _, value = line.partition(":")
        if key == field:
            return int(value.split()[0]) / 1024
    raise OSError(f"/proc/self/status has no field {field}")


# ---- who gives the orders --------------------------------------------------------------------------------


class _Process:
    """A fresh process that was given its first order, such as to open a model."""

    def __init__(self, do: str, longest_s: float = LONGEST_S, **order: Any) -> None:
        import tempfile

        self.longest_s = longest_s

        flags = [f for f, on in (("-I", sys.flags.isolated), ("-S", sys.flags.no_site)) if on]
        self.errors = tempfile.TemporaryFile()  # noqa: SIM115
        self.child = subprocess.Popen(
            [sys.executable, *flags, str(ROOT / "measure.py"), "--worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.errors,
        )
        try:
            self.opened = self.ask(do, **order)
        except BaseException:
            self.close()
            raise
        self.first_mib: float | None = None
        self.last: Json = {}

    def ask(self, do: str, **order: Any) -> Json:
        assert self.child.stdin is not None
        assert self.child.stdout is not None
        try:
            self.child.stdin.write(json.dumps({"do": do, **order}).encode() + b"\n")
            self.child.stdin.flush()
        except BrokenPipeError:
            raise self.died() from None
        with selectors.DefaultSelector() as selector:
            selector.register(self.child.stdout, selectors.EVENT_READ)
            if not selector.select(self.longest_s):
                self.child.kill()
                raise Failed(f"'{do}' took longer than {self.longest_s} s")
        line = self.child.stdout.readline()
        if not line:
            raise self.died()
        reply: Json = json.loads(line)
        if "error" in reply:
            raise Failed(" ".join(reply["error"].split()))
        return reply

    def run(self, calls: int) -> list[float]:
        """The time of each call in ms."""
        self.last = self.ask("run", calls=calls)
        if self.first_mib is None:
            self.first_mib = self.last["resident_mib"]
        return [ns / 1e6 for ns in self.last["ns"]]

    def footprint(self) -> Json:
        return {
            "imported_mib": self.opened["imported_mib"],
            "loaded_mib": self.opened["loaded_mib"],
            "first_mib": self.first_mib,
            "steady_mib": self.last["resident_mib"],
            "peak_mib": self.last["peak_mib"],
        }

    def died(self) -> Failed:
        code = self.child.wait()
        self.errors.seek(0)
        last = self.errors.read()[-500:].decode(errors="replace").strip()
        how = f"with status {code}" if code >= 0 else f"by {signal.Signals(-code).name}"
        hint = ", perhaps for want of memory" if code == -signal.SIGKILL else ""
        return Failed(" ".join(f"the process that ran it ended {how}{hint}: {last}".split()))

    def close(self) -> None:
        assert self.child.stdin is not None
        assert self.child.stdout is not None
        try:
            self.child.stdin.close()
            self.child.wait(timeout=10)
        except (subprocess.TimeoutExpired, BrokenPipeError):
            self.child.kill()
            self.child.wait()
        finally:
            self.child.stdout.close()
            self.errors.close()


class _Measurement:
    """What one runtime does, in steps; each is in the file before the next one begins.

    ``part`` is where in the result: all of it, or a part of its own for TensorRT.
    """

    def __init__(
        self, out: Path, kit: Json, entries: list[Json], result: Json, part: Json, minutes: float
    ) -> None:
        self.out, self.kit, self.entries, self.result, self.part = out, kit, entries, result, part
        self.began, self.total = time.monotonic(), 60 * minutes
        self.settings: Json = part["settings"]
        self.errors: dict[str, str] = part["errors"]

    @property
    def left(self) -> float:
        return self.total - (time.monotonic() - self.began)

    def do(self) -> None:
        for i, entry in enumerate(self.entries):
            if entry["name"] not in {**self.part["answers"], **self.errors}:
                self.answers(entry, ANSWERS_SHARE * self.total * (i + 1) / len(self.entries))
                self.save()
        sets: list[Json] = self.part["sets"]
        alive = [entry for entry in self.entries if entry["name"] not in self.errors]
        if "calls" not in self.settings:
            self.settings["calls"] = self.affordable(alive)
        last = 0.0
        if self.result["device"]["emulated"]:
            self.say("emulated: no times and no memory are measured, for they would be the emulator's")
            alive = []
        while alive and len(sets) < self.settings["processes"]:
            if len(sets) >= LEAST_SETS and self.left < last:
                break
            began = time.monotonic()
            self.say(f"latency, processes {len(sets) + 1} of up to {self.settings['processes']}")
            sets.append(self.one_set(alive))
            self.save()
            last = time.monotonic() - began
            alive = [entry for entry in alive if entry["name"] not in self.errors]

    def open(self, entry: Json, **more: Any) -> _Process:
        told = {key: self.kit[key] for key in ("input", "onnxruntime")}
        how = {key: self.settings[key] for key in ("threads", "cpus")}
        return _Process("open", entry=entry, kit=told, **how, **more)

    def answers(self, entry: Json, until: float) -> None:
        """Logits of the samples, or of the first of them where time is short; the order is a random one."""
        name, batch = entry["name"], self.settings["accuracy_batch"]
        reference = self.part["answers"].get(self.kit["reference"], {})
        wanted = reference.get("count", self.kit["samples"])
        began, done, parts, outputs = time.monotonic(), 0, [], 0
        try:
            with ExitStack() as stack:
                process = self.open(entry)
                stack.callback(process.close)
                self.part["packages"] = process.opened["packages"]
                batch = min(batch, process.opened.get("most", batch))
                opened = time.monotonic()
                while done < wanted and (not done or time.monotonic() - self.began < until):
                    reply = process.ask("answer", first=done, count=min(batch, wanted - done))
                    parts.append(base64.b64decode(reply["float32"]))
                    outputs = reply["outputs"]
                    done += min(batch, wanted - done)
                    self.say(f"{name}: answers {done} of {wanted}", again=done < wanted)
        except Failed as error:
            self.fail(name, error)
            return
        if done < wanted:
            self.say(f"{name}: answers {done} of {wanted}, for want of time")
        self.part["answers"][name] = {
            "count": done,
            "outputs": outputs,
            "float32": base64.b64encode(b"".join(parts)).decode("ascii"),
            "open_s": opened - began,
            "sample_s": (time.monotonic() - opened) / done,
        }

    def affordable(self, alive: list[Json]) -> int:
        """Steady calls per process: the run's number, or fewer, so that there is time for some processes."""
        s, known = self.settings, [self.part["answers"][entry["name"]] for entry in alive]
        known += known[:1]  # the reference runs twice
        opening = sum(one["open_s"] for one in known)
        call = sum(one["sample_s"] for one in known) * s["batch"]
        for calls in range(self.kit["measure"]["calls"], s["turn"], -1):
            took = opening + call * (1 + s["warmup"] + calls + -(-calls // s["turn"]))
            if WANTED_SETS * took <= self.left:
                return calls
        return int(min(s["turn"], self.kit["measure"]["calls"]))

    def one_set(self, alive: list[Json]) -> Json:
        """A fresh process for each model, and a second one for the reference, that take turns."""
        s = self.settings
        running: dict[str, _Process] = {}
        rows: Json = {}
        subjects = {entry["name"]: entry for entry in alive}
        again = f"{self.kit['reference']} again"
        if self.kit["reference"] in subjects and again not in self.errors:
            subjects[again] = subjects[self.kit["reference"]]
        with ExitStack() as stack:
            for name, entry in subjects.items():
                try:
                    running[name] = self.open(entry)
                    stack.callback(running[name].close)
                    running[name].ask("feed", first=0, count=s["batch"])
                except Failed as error:
                    self.fail(name, error)
            names = list(running)
            if not names:
                return rows
            first = {name: self.run(name, running, 1) for name in names}
            warmup = {name: self.run(name, running, s["warmup"]) for name in names}
            steady: dict[str, list[float]] = {name: [] for name in names}
            for number, done in enumerate(range(0, s["calls"], s["turn"])):
                start, now = number % len(names), min(s["turn"], s["calls"] - done)
                for name in names[start:] + names[:start]:
                    steady[name] += self.run(name, running, 1 + now)[1:]  # the first finds strange caches
            more = self.memory({name: running[name] for name in names if name not in self.errors})
            for name in names:
                if name not in self.errors:
                    rows[name] = {
                        "load_ms": running[name].opened["load_ms"],
                        "first_ms": first[name][0],
                        "warmup_ms": warmup[name],
                        "steady_ms": steady[name],
                        "footprint": running[name].footprint(),
                        **more[name],
                    }
        return rows

    def memory(self, running: dict[str, _Process]) -> Json:
        """What else there is to know of each process."""
        return {name: {} for name in running}

    def run(self, name: str, running: dict[str, _Process], calls: int) -> list[float]:
        if name in self.errors:
            return []
        try:
            return running[name].run(calls)
        except Failed as error:
            self.fail(name, error)
            return []

    def fail(self, name: str, error: Failed) -> None:
        self.errors[name] = str(error)
        self.say(f"{name}: FAILED: {error}")

    def save(self) -> None:
        _write(self.out, self.result)

    def say(self, text: str, again: bool = False) -> None:
        if again and not sys.stderr.isatty():
            return
        clock = int(time.monotonic() - self.began)
        end = "\r" if again else "\n"
        print(f"[{clock // 60}:{clock % 60:02d}] {text}", end=end, file=sys.stderr, flush=True)


class _Engines(_Measurement):
    """Models for TensorRT: their engines are built first, in time of their own."""

    def do(self) -> None:
        for entry in self.entries:
            if entry["name"] not in self.errors and not self.is_built(entry):
                self.build(entry)
                self.save()
        self.began = time.monotonic()
        super().do()

    def is_built(self, entry: Json) -> bool:
        built: Json = self.part["builds"].get(entry["name"], {})
        return bool(built) and self.plan(entry).is_file() and _sha256(self.plan(entry)) == built["sha256"]

    def plan(self, entry: Json) -> Path:
        """The engine's file: the kit's, or one that is built here."""
        own = self.part["builds"].get(entry["name"], {}).get("own")
        return ROOT / str(entry["engine"]) if own else _engines_of(self.out) / f"{entry['key']}.plan"

    def build(self, entry: Json) -> None:
        name, s, builds = entry["name"], self.settings, self.part["builds"]
        builds.pop(name, None)
        plan, why, seconds = self.plan(entry), "", None
        if entry["engine"] is not None:
            manifest = (ROOT / str(entry["engine"])).with_suffix(".json")
            why = _load_tensorrt().unfit(manifest, self.result["device"]["gpu"], s["batch"])
        own = entry["engine"] is not None and not why
        if not own:
            if why:
                self.say(f"{name}: the kit's engine {why}")
            self.say(f"{name}: building the engine, which may take minutes")
            plan.parent.mkdir(parents=True, exist_ok=True)
            batches = [1, s["batch"], max(s["batch"], s["accuracy_batch"])]
            try:
                order = {"model": entry["file"], "plan": str(plan.resolve()), "batches": batches}
                process = _Process("build", BUILD_S, **order)
                process.close()
            except Failed as error:
                self.fail(name, error)
                return
            seconds = process.opened["seconds"]
            self.say(f"{name}: built in {seconds:.1f} s")
        builds[name] = {"own": own, "seconds": seconds, "why": why}
        plan = self.plan(entry)
        builds[name].update(sha256=_sha256(plan), bytes=plan.stat().st_size)

    def open(self, entry: Json, **more: Any) -> _Process:
        return super().open(entry, plan=str(self.plan(entry).resolve()), **more)

    def memory(self, running: dict[str, _Process]) -> Json:
        told = _load_tensorrt().memory_of_processes()
        return {
            name: {
                "gpu": {
                    "loaded_mib": process.opened["gpu_mib"],
                    "steady_mib": process.last["gpu_mib"],
                    "process_mib": told.get(process.child.pid),
                }
            }
            for name, process in running.items()
        }


def _engines_of(out: Path) -> Path:
    """Where engines are kept until the result is finished."""
    return out.with_name(f".{out.name}.engines")


# ---- the device, the kit, the result ---------------------------------------------------------------------


def _device(emulated: bool = False) -> Json:
    """What does not change while it is measured."""
    blocks = [dict(_fields(block)) for block in (_read("/proc/cpuinfo") or "").split("\n\n")]
    first = blocks[0]
    return {
        "cpuinfo": {key: first[key] for key in CPUINFO if key in first},
        "parts": sorted({block["CPU part"] for block in blocks if "CPU part" in block}),
        "board": (_read("/proc/device-tree/model") or "").rstrip("\0"),
        "architecture": platform.machine(),
        "emulated": emulated or _emulated(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30, 1),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "thread_variables": {name: os.environ[name] for name in VARIABLES if name in os.environ},
    }


def _emulated() -> bool:
    """Whether an emulator of programs, such as QEMU's user mode, runs this one.

    It answers for /proc/self/exe, with the program that it emulates. What the kernel runs, the emulator
    itself, is seen through the main thread's own entry, and is a program for another processor.
    """
    return _elf_machine("/proc/self/exe") != _elf_machine(f"/proc/self/task/{os.getpid()}/exe")


def _elf_machine(path: str) -> bytes | None:
    """The processor that a program is for (elf(5), e_machine); None where that cannot be read."""
    try:
        with open(path, "rb") as file:
            return file.read(20)[18:]
    except OSError:
        return None


def _state(cpus: list[int] | None, gpu: Json | None = None) -> Json:
    """What may change: temperatures in °C, the clock in MHz and its governor; and the GPU's."""
    zones = sorted(Path("/sys/class/thermal").glob("thermal_zone*"))
    heat = {f"{zone.name} {_read(zone / 'type')}": _read(zone / "temp") for zone in zones}
    clock = Path(f"/sys/devices/system/cpu/cpu{cpus[-1] if cpus else 0}/cpufreq")
    khz = _read(clock / "scaling_cur_freq")
    return {
        "celsius": {name: int(text) / 1000 for name, text in heat.items() if text and _is_int(text)},
        "mhz": int(khz) / 1000 if khz and _is_int(khz) else None,
        "governor": _read(clock / "scaling_governor"),
        **({} if gpu is None else {"gpu": _load_tensorrt().state(gpu["bus"])}),
    }


def _read(path: str | Path) -> str | None:
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return None


def _fields(block: str) -> list[tuple[str, str]]:
    pairs = (line.partition(":") for line in block.splitlines())
    return [(key.strip(), value.strip()) for key, _, value in pairs]


def _is_int(text: str) -> bool:
    return text.lstrip("-").isdigit()


def open_kit() -> tuple[str, Json]:
    """The kit's identity and what it says, when every file is as it was packed."""
    import hashlib

    try:
        content = (ROOT / KIT).read_bytes()
        kit: Json = json.loads(content)
        for name, expected in kit["files"].items():
            if _sha256(ROOT / name) != expected:
                raise Refused(f"the kit is damaged: {name} is not what was packed; copy the kit again")
    except OSError as error:
        raise Refused(f"the kit is damaged: {error.filename}: {error.strerror}; copy the kit again") from None
    except (ValueError, KeyError, AttributeError, TypeError):
        raise Refused(f"the kit is damaged: {KIT} cannot be read; copy the kit again") from None
    return hashlib.sha256(content).hexdigest(), kit


def _sha256(path: Path) -> str:
    import hashlib  # here, for it brings OpenSSL, whose memory is not the model's

    found = hashlib.sha256()
    with path.open("rb") as file:
        for part in iter(lambda: file.read(1 << 20), b""):
            found.update(part)
    return found.hexdigest()


def _fitting(kit: Json) -> tuple[list[Json], dict[str, str]]:
    """What ONNX Runtime can run on this machine, the reference first; and why the others are left out."""
    here = platform.machine()
    chosen: dict[str, Json] = {}
    others: dict[str, str] = {}
    known = [entry for entry in kit["variants"] if entry["runtime"] == ORT]
    for entry in known:  # one for certain machines stands before one for all
        if entry["machines"] is None or here in entry["machines"]:
            chosen.setdefault(entry["name"], entry)
    for entry in known:
        if entry["name"] not in chosen:
            others[entry["name"]] = f"made for {entry['target']}; this device is {here}"
    return sorted(chosen.values(), key=lambda entry: entry["name"] != kit["reference"]), others


def _packages(*names: str) -> str:
    """What must be installed first; empty where all is there."""
    missing = [name for name in names if importlib.util.find_spec(name) is None]
    return _to_install(missing) if missing else ""


def _to_install(packages: list[str]) -> str:
    return f"not installed: {sys.executable} -m pip install {' '.join(packages)}"


def _gpu(needs: bool) -> tuple[Json | None, str]:
    """The GPU where models for TensorRT need one and can run; else None, and why not."""
    if not needs:
        return None, ""
    missing = _load_tensorrt().absent()
    if importlib.util.find_spec("numpy") is None:
        missing.insert(0, "numpy")
    if missing:
        return None, _to_install(missing)
    try:
        process = _Process("describe")  # not in this one: a library that crashes takes its process with it
        process.close()
    except Failed as error:
        return None, str(error)
    return process.opened, ""


def _exact(entries: list[Json], cpuinfo: Json) -> dict[str, str]:
    """Have those models run on exact kernels that would overflow here; name to the remark."""
    if any(flag in VNNI for flag in cpuinfo.get("flags", "").split()):
        return {}
    found = [entry for entry in entries if entry["exact"]]
    for entry in found:
        entry["session"]["config"].update(entry["exact"])
    remark = "on slower, exact kernels: its weights are not guarded, and this CPU has no VNNI"
    return {entry["name"]: remark for entry in found}


def _begin(out: Path, fresh: Json) -> Json:
    """The result that ``out`` holds half done, or a fresh one."""
    if not out.exists():
        return fresh
    other = f"{out} exists and is not a measurement of this kit; name another file with --out"
    try:
        old: Json = json.loads(out.read_text(encoding="utf-8"))
        if seal(old) != old["sha256"]:
            raise Refused(other)
        settings = {key: old["settings"].get(key) for key in fresh["settings"]}
        same = [old["layout"], old["kit"], old["variants"]] == [LAYOUT, fresh["kit"], fresh["variants"]]
        same = same and (TENSORRT in old) == (TENSORRT in fresh)
    except (OSError, ValueError, KeyError, AttributeError, TypeError):
        raise Refused(other) from None
    if not same:
        raise Refused(other)
    if old["finished"]:
        raise Refused(f"{out} is finished; to measure again, remove it or name another file with --out")
    if (old["device"], settings) != (fresh["device"], fresh["settings"]):
        raise Refused(f"{out} was begun on another device or with other settings; name another with --out")
    print(f"going on with {out}", file=sys.stderr)
    return old


def seal(result: Json) -> str:
    """SHA-256 of everything but itself."""
    import hashlib

    content = {key: value for key, value in result.items() if key != "sha256"}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _write(out: Path, result: Json) -> None:
    """Beside, then renamed: a reader sees the old file or the whole new one."""
    result["sha256"] = seal(result)
    beside = out.with_name(f".{out.name}.part")
    beside.write_text(json.dumps(result), encoding="utf-8")
    os.replace(beside, out)


def measure(out: Path, minutes: float, threads: int | None, emulated: bool = False) -> None:
    """Check, then measure; ``emulated`` says that this machine is, where that cannot be seen.

    Raises:
        Refused: nothing can be measured.
    """
    if not sys.platform.startswith("linux"):
        raise Refused(f"memory and times are measured on Linux only, this is {sys.platform}")
    if minutes <= 0 or (threads is not None and threads < 1):
        raise Refused("--minutes and --threads must be positive")
    identity, kit = open_kit()
    entries, others = _fitting(kit)
    engines = [entry for entry in kit["variants"] if entry["runtime"] == TENSORRT]
    gpu, no_gpu = _gpu(bool(engines))
    no_ort = _packages("numpy", ORT) if entries or not engines else ""
    lacking = [(no_ort, entries), (no_gpu, engines)]
    measured = {entry["name"] for why, those in lacking for entry in those if not why}
    missing = {e["name"]: why for why, those in lacking for e in those if why and e["name"] not in measured}
    entries, engines = [] if no_ort else entries, [] if no_gpu else engines
    if not entries and not engines:
        raise Refused(
            "; ".join(why for why, _ in lacking if why) or "no model of the kit is for this machine"
        )
    here = _device(emulated)
    if gpu is not None:
        here["gpu"] = gpu
    remarks = _exact(entries, here["cpuinfo"])
    how = {key: value for key, value in kit["measure"].items() if key != "calls"}
    how["threads"] = threads or how["threads"]
    usable = sorted(os.sched_getaffinity(0))
    how["cpus"] = usable[-how["threads"] :] if len(usable) >= how["threads"] else None
    fresh = {
        "layout": LAYOUT,
        "kit": identity,
        "model": kit["model"],
        "variants": [entry["key"] for entry in entries],
        "skipped": others,
        "missing": missing,
        "remarks": remarks,
        "created": datetime.now(timezone.utc).isoformat(),
        "device": here,
        "before": _state(how["cpus"], gpu),
        "after": None,
        **_nothing_yet(how),
        "finished": False,
    }
    if gpu is not None:
        module = _load_tensorrt()
        fresh[TENSORRT] = {
            "variants": [entry["key"] for entry in engines],
            "remarks": {},
            "timed": module.TIMED,
            "precision": module.PRECISION,
            "builds": {},
            **_nothing_yet(how),
        }
    result = _begin(out, fresh)
    for name, why in {**others, **missing, **remarks}.items():
        print(f"{name}: {why}", file=sys.stderr)
    _write(out, result)
    share = minutes / 2 if entries and engines else minutes
    if entries:
        _Measurement(out, kit, entries, result, result, share).do()
    if engines:
        _Engines(out, kit, engines, result, result[TENSORRT], share).do()
    result["settings"].setdefault("calls", kit["measure"]["calls"])  # of ONNX Runtime, where it is not there
    result["after"] = _state(how["cpus"], gpu)
    result["finished"] = True
    _write(out, result)
    shutil.rmtree(_engines_of(out), ignore_errors=True)
    print(f"{out} is finished; bring it back: octavo report RUN {out.name}", file=sys.stderr)


def _nothing_yet(how: Json) -> Json:
    return {"packages": {}, "settings": dict(how), "answers": {}, "sets": [], "errors": {}}


def main() -> int:
    """The command; 2 for what is refused, 130 for Ctrl-C, else 0."""
    if sys.version_info < PYTHON:
        print(f"measure.py: needs Python 3.9 or later, this is {platform.python_version()}", file=sys.stderr)
        return BAD_INPUT
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("result.json"), help="result.json by default")
    parser.add_argument("--minutes", type=float, default=2.0, help="for everything together; 2 by default")
    parser.add_argument("--threads", type=int, help="inside one operator; as the run had it by default")
    parser.add_argument("--emulated", action="store_true", help="no times: this whole machine is emulated")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        return _serve()
    try:
        measure(arguments.out, arguments.minutes, arguments.threads, arguments.emulated)
    except Refused as error:
        print(f"measure.py: {error}", file=sys.stderr)
        return BAD_INPUT
    except OSError as error:  # a full disk, for one
        print(f"measure.py: {error}", file=sys.stderr)
        return BAD_INPUT
    except KeyboardInterrupt:
        print("measure.py: interrupted; the same command goes on after the last part", file=sys.stderr)
        return INTERRUPTED
    return 0


if __name__ == "__main__":
    sys.exit(main())
