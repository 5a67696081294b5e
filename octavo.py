"""The command line: one function per verb.

Everything heavy is imported by the verb that needs it, so that ``octavo --help`` answers at once.
"""

import errno
import importlib.util
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.text import Text
from typer.core import TyperGroup

__all__ = ["app", "main"]

PACKAGES = ("quant", "export", "deploy", "benchmarks")
FAILED, BAD_INPUT, INTERRUPTED = 1, 2, 130
_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)


class _Verbs(TyperGroup):
    def invoke(self, ctx: Any) -> Any:
        with _one_line():
            return super().invoke(ctx)


app = typer.Typer(
    cls=_Verbs,
    help="Take a trained PyTorch model and ship it quantized: calibration, QDQ ONNX, runtimes, the proof.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

Config = Annotated[Path, typer.Argument(metavar="CONFIG.yaml", help="The run's configuration.")]
Out = Annotated[Path, typer.Option("--out", metavar="RUN", help="The folder that everything goes to.")]
Run = Annotated[Path, typer.Argument(metavar="RUN", help="The folder of a run.")]
OneRecipe = Annotated[str | None, typer.Option(help="One of the run's recipes; the first by default.")]
OneTarget = Annotated[str | None, typer.Option(help="One of the run's targets; the first by default.")]
Force = Annotated[bool, typer.Option("--force", help="Do it again, though nothing has changed.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON and nothing else.")]


@app.command()
def run(
    config: Config,
    out: Out,
    only: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="Of a suite, the runs to do. Repeatable.")
    ] = None,
) -> None:
    """Do the whole line: quantize, export, lower, audit, bench, profile, analyse, report.

    Stages whose inputs have not changed are skipped, so an interrupted run goes on where it stopped. A
    configuration with `runs` is a suite: each of them goes to RUN/NAME, and RUN has one report of all.
    """
    from benchmarks.suite import begin, do_runs

    lines = begin(config, out, only or ())
    do_runs(lines, _say)
    folders = [line.workspace.root for line in lines]
    report(folders, out)


@app.command()
def analyse(run: Run, force: Force = False) -> None:
    """Do the profiles and analyses of a run's configuration again; `octavo report` shows them."""
    from benchmarks.stages import go_on

    go_on(run, "profile", _say, force)
    go_on(run, "analyse", _say, force)


@app.command()
def quantize(config: Config, out: Out, force: Force = False) -> None:
    """Begin a run: calibrate the model with each recipe."""
    from benchmarks.stages import do_stage
    from benchmarks.suite import begin_run

    do_stage(begin_run(config, out), "quantize", _say, force)


@app.command()
def export(run: Run, force: Force = False) -> None:
    """Write the float model and the calibrated ones as ONNX."""
    from benchmarks.stages import go_on

    go_on(run, "export", _say, force)


@app.command()
def lower(run: Run, force: Force = False) -> None:
    """Write the model for each target, and check that it computes what was calibrated."""
    from benchmarks.stages import go_on

    go_on(run, "lower", _say, force)


@app.command()
def bench(
    run: Run,
    host: Annotated[
        str | None,
        typer.Option(metavar="USER@DEVICE", help="Instead measure a kit of the run there, over SSH."),
    ] = None,
    python: Annotated[
        str, typer.Option(metavar="PATH", help="With --host: the Python there that has the packages.")
    ] = "python3",
    force: Force = False,
    json: Json = False,
) -> None:
    """Audit and measure the models of a run; leaves summary.json.

    With --host a kit of the run is measured on that device instead, over SSH, and shown beside the run's own
    figures; see `octavo kit`. No password is asked for: keys, ports and the like are what ~/.ssh/config says.
    """
    from benchmarks.measure_run import SUMMARY
    from benchmarks.report.terminal import print_summary
    from benchmarks.results import load_summary
    from benchmarks.stages import go_on

    if host is not None:
        _bench_on(host, run, python, json)
        return
    go_on(run, "bench", _say, force)
    if json:
        print((run / SUMMARY).read_text(encoding="utf-8"), end="")
    else:
        print_summary(load_summary(run / SUMMARY))


@app.command()
def audit(
    model: Annotated[Path, typer.Argument(metavar="MODEL.onnx", help="Any ONNX model, quantized or not.")],
    engine: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="The TensorRT engine that was built of it: engine.plan, which needs a GPU, or its layers as "
            "JSON (trtexec --exportLayerInfo).",
        ),
    ] = None,
    target: Annotated[str, typer.Option(help="The runtime: ort-x86 or ort-arm64.")] = "ort-x86",
    shape: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=1x3x224x224", help="Shape of an input whose sizes the model leaves open."),
    ] = None,
    json: Json = False,
) -> None:
    """Say what the runtime computes on integers, and which rule each of the rest broke."""
    from json import dumps

    from deploy.audit import audit_model, render

    shapes = dict(map(_shape, shape or ()))
    if engine is None:
        found = audit_model(model, target, shapes)
    else:
        from deploy.audit.engine import audit_engine
        from deploy.tensorrt.inspect import layer_information

        found = audit_engine(model, *layer_information(engine), shapes)
    if json:
        print(dumps(found.to_dict(), indent=1))
    else:
        render(found, Console())


@app.command()
def profile(
    run: Run,
    recipe: OneRecipe = None,
    target: OneTarget = None,
    images: Annotated[int, typer.Option(min=1, help="How many validation images.")] = 64,
    sensitivity: Annotated[
        str | None,
        typer.Option(
            metavar="METRIC[,METRIC...]",
            help="Also measure what each layer loses at some widths, such as kl,fisher. kl, sqnr and "
            "output_l2 together cost about half a pass over the images per layer and width; nuclear_norm one "
            "pass; fisher and hessian one with 16 backward passes each. A recipe that tunes weights is "
            "calibrated once more, without that.",
        ),
    ] = None,
    bits: Annotated[str, typer.Option(metavar="N,N[,N...]", help="The widths of --sensitivity.")] = "4,6,8",
) -> None:
    """Compare a quantized model with the float one, layer by layer, and say what to try at the worst.

    Leaves statistics.csv, summary.json and plots in RUN/RECIPE-TARGET/profile.

    With --sensitivity also sensitivity.csv, a plot for each metric, and the least loss for each mean width
    by the first one.
    """
    from benchmarks.profile.run import profile_run

    metrics = () if sensitivity is None else [name.strip() for name in sensitivity.split(",")]
    _say(f"{profile_run(run, recipe, target, images, metrics, _widths(bits))}")


@app.command()
def place(
    run: Run,
    recipe: OneRecipe = None,
    target: OneTarget = None,
    max_drop: Annotated[float, typer.Option(min=0.0, help="Points of top-1 that may be lost.")] = 1.0,
    images: Annotated[int, typer.Option(min=1, help="How many images single layers are judged on.")] = 64,
    force: Force = False,
    json: Json = False,
) -> None:
    """Search which layers to quantize here: what each layer takes and loses is measured, then whole models.

    Leaves RUN/placement/RECIPE-TARGET: a run of its own with the recipes that were tried, and latency.csv,
    which budgets of latency read. What it names to take is never slower than the start.
    """
    from json import dumps

    from benchmarks.placement.run import PlaceSettings
    from benchmarks.placement.run import place as search
    from benchmarks.placement.show import print_placement

    found = search(run, recipe, target, PlaceSettings(max_drop, images), _say, force)
    if json:
        print(dumps(found.to_dict(), indent=1))
    else:
        print_placement(found, Console())


@app.command()
def compare(
    base: Annotated[Path, typer.Argument(metavar="BASE", help="The run before: its folder or summary.json.")],
    new: Annotated[Path, typer.Argument(metavar="NEW", help="The run now.")],
    fail_if: Annotated[
        list[str] | None,
        typer.Option(
            metavar="CONDITION",
            help="What must not happen, such as 'top1 < -0.5' (points) or 'latency_p50 > +5%'. Repeatable.",
        ),
    ] = None,
    together: Annotated[
        bool, typer.Option("--together", help="Time the models of both runs again, in turns with each other.")
    ] = False,
    markdown: Annotated[Path | None, typer.Option(metavar="FILE", help="Also write Markdown.")] = None,
    junit: Annotated[Path | None, typer.Option(metavar="FILE", help="Also write JUnit XML.")] = None,
    json: Json = False,
) -> None:
    """Say what changed between two runs of a model; exit with 1 where a condition holds."""
    from json import dumps

    from benchmarks.compare import show
    from benchmarks.compare.run import compare_runs
    from benchmarks.files import write_text
    from benchmarks.report.terminal import print_grid

    found = compare_runs(base, new, fail_if or (), together)
    if markdown is not None:
        write_text(markdown, show.markdown(found))
    if junit is not None:
        write_text(junit, show.junit(found))
    if json:
        print(dumps(show.to_dict(found), indent=1))
    else:
        print_grid(show.grid_of(found), Console())
        for remark in found.remarks:
            _say(remark)
        for check in found.checks:
            _say(f"{'FAILED' if check.failed else 'passed'}  {check.variant}: {check.title}: {check.text}")
    if found.failed:
        raise typer.Exit(FAILED)


@app.command()
def build(
    run: Annotated[Path | None, typer.Argument(metavar="[RUN]", help="The folder of a run.")] = None,
    matrix: Annotated[
        Path | None,
        typer.Option(
            metavar="BUILDS.yaml", help="Instead of RUN: models × variants × profiles, from a file."
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Where engines of --matrix go; ./engines by default."),
    ] = None,
    variant: Annotated[
        list[str] | None,
        typer.Option(help="fp32, fp16 or one of the run's recipes; all by default. Repeatable."),
    ] = None,
    target: Annotated[
        str | None,
        typer.Option(help="tensorrt or tensorrt8 (TensorRT 8.5, 8.6); the first of these that the run has."),
    ] = None,
    library: Annotated[
        str | None, typer.Option(help="tensorrt or tensorrt_rtx; the first that is installed by default.")
    ] = None,
    batches: Annotated[
        str | None,
        typer.Option(
            metavar="MIN,USUAL,MAX",
            help="Images per call, where the file leaves them open; 1,1,8 by default.",
        ),
    ] = None,
    level: Annotated[
        int | None, typer.Option(min=0, max=5, help="How long the builder searches; its own default.")
    ] = None,
    workspace: Annotated[int | None, typer.Option(metavar="MIB", help="Scratch memory of kernels.")] = None,
    compute: Annotated[
        list[str] | None, typer.Option(metavar="SM89", help="TensorRT-RTX: GPUs to build for. Repeatable.")
    ] = None,
    json: Json = False,
) -> None:
    """Build TensorRT engines of a run's float and `tensorrt` models: engine.plan and engine.json beside each.

    What TensorRT would refuse is refused first, by layer. Engines are kept in ~/.cache/octavo/engines.

    With --matrix, engines go to FOLDER/MODEL/VARIANT/PROFILE, with checksums, a bill of materials and
    summaries in FOLDER; exit with 1 where one cannot be built. A killed build goes on where it stopped.
    """
    from dataclasses import asdict
    from json import dumps

    from deploy.pipeline.line import open_run
    from deploy.pipeline.progress_bar import progress_bar
    from deploy.tensorrt.build import EngineSettings
    from deploy.tensorrt.cache import default_cache
    from deploy.tensorrt.runs import build_run
    from quant.errors import BadInput

    if run is None and matrix is not None:
        if any(given not in (None, []) for given in (variant, target, batches, level, workspace, compute)):
            raise BadInput(
                "--variant, --target, --batches, --level, --workspace and --compute go with RUN; a matrix "
                "says such things in `variants` and `profiles`"
            )
        _build_matrix(matrix, out or Path("engines"), library, json)
        return
    if run is None or matrix is not None:
        raise BadInput("octavo build takes either RUN, the folder of a run, or --matrix BUILDS.yaml")
    if out is not None:
        raise BadInput("--out goes with --matrix: engines of a RUN are laid beside its models")
    settings = EngineSettings(
        _three("1,1,8" if batches is None else batches), level, workspace, tuple(compute or ())
    )
    with progress_bar("build") as show:
        built = build_run(
            open_run(run), variant or (), settings, default_cache(), library, _say, show, target
        )
    if json:
        print(dumps([asdict(one) for one in built], indent=1, default=str))
    else:
        for one in built:
            print(f"{one.plan}: {one.size_bytes / 2**20:.1f} MiB{'' if one.fresh else ', from the cache'}")


@app.command()
def package(
    run: Run,
    variant: Annotated[
        str, typer.Option(help="fp32, fp16 or one of the run's recipes; also with its target: int8-ort-x86.")
    ],
    target: Annotated[
        str | None, typer.Option(help="What it was lowered for; needed where there are several.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="PATH",
            help="A zip where it ends in .zip, else a folder; RUN/bundles/VARIANT-TARGET.zip by default.",
        ),
    ] = None,
    license: Annotated[
        str | None,
        typer.Option(metavar="SPDX-ID|FILE", help="Licence of the weights, such as Apache-2.0, or its text."),
    ] = None,
    labels: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Names of the outputs: one per line, or a .csv with class_index and name. By default the "
            "class names of the validation images.",
        ),
    ] = None,
    engine: Annotated[
        bool, typer.Option("--engine", help="Take the engine that `octavo build` left, not the ONNX file.")
    ] = False,
    triton: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Also lay the model into this model repository of Triton."),
    ] = None,
) -> None:
    """Write a measured variant as one bundle: model, preprocessing, labels, and what was found of it.

    Only what was measured is packaged, and only the very file that was. The same run gives the same bytes.
    Loading a bundle needs NumPy, ONNX Runtime and Pillow: `from deploy.bundle import load_bundle`.
    """
    from json import loads

    from benchmarks.measure_run import SUMMARY
    from benchmarks.results import load_summary
    from deploy.bundle import load_bundle
    from deploy.bundle.package import PackageSettings, package_run
    from deploy.bundle.triton import write_repository
    from deploy.pipeline.line import open_run

    line = open_run(run)
    summary = loads(load_summary(run / SUMMARY).model_dump_json())
    done = package_run(line, summary, PackageSettings(variant, target, license, labels, engine), out)
    for remark in done.remarks:
        _say(f"note: {remark}")
    print(f"{done.path}: {done.size_bytes / 2**20:.2f} MiB")
    if triton is not None:
        bundle = load_bundle(done.path, None)
        print(write_repository(bundle, triton))
        if bundle.saturates_without_vnni:
            _say("note: its weights are not guarded: serve it on CPUs with VNNI only")


@app.command()
def verify(
    bundle: Annotated[Path, typer.Argument(metavar="BUNDLE", help="A zip or a folder of `octavo package`.")],
    target: Annotated[str | None, typer.Option(help="What it must have been made for.")] = None,
    json: Json = False,
) -> None:
    """Say what a bundle is, after checking every byte of it; exit with 2 where it is not whole."""
    from deploy.bundle import load_bundle
    from deploy.bundle.layout import MANIFEST
    from deploy.bundle.show import describe

    found = load_bundle(bundle, target)
    print(found.files[MANIFEST].decode() if json else "\n".join(describe(found)), end="" if json else "\n")


@app.command(
    add_help_option=False, context_settings={"allow_extra_args": True, "ignore_unknown_options": True}
)
def serve(context: typer.Context) -> None:
    """Serve bundles over the Open Inference Protocol, REST and gRPC, with a page to try them."""
    from deploy.serve.command import main as serve_bundles

    raise typer.Exit(serve_bundles(context.args, "octavo serve"))


@app.command()
def choose(
    run: Run,
    max_drop: Annotated[float, typer.Option(min=0.0, help="Points of top-1 that may be lost.")] = 1.0,
    max_size: Annotated[float | None, typer.Option(metavar="MIB", help="Of the model's file.")] = None,
    max_memory: Annotated[float | None, typer.Option(metavar="MIB", help="Peak of a process.")] = None,
    batch: Annotated[int | None, typer.Option(help="Judge the speed at this batch size.")] = None,
    threads: Annotated[int | None, typer.Option(help="And with this many threads.")] = None,
    json: Json = False,
) -> None:
    """Per target, pick the fastest variant within a budget, and say why."""
    from dataclasses import asdict
    from json import dumps

    from benchmarks.choose import Budget
    from benchmarks.choose import choose as choose_variants
    from benchmarks.measure_run import SUMMARY
    from benchmarks.results import load_summary

    found = choose_variants(
        load_summary(run / SUMMARY), Budget(max_drop, max_size, max_memory), batch, threads
    )
    if json:
        print(dumps([asdict(choice) for choice in found], indent=1))
        return
    for choice in found:
        print(f"{choice.target}: {choice.text}")
        for candidate in choice.candidates:
            print(f"  {'*' if candidate.name == choice.name else ' '} {candidate.name}: {candidate.text}")


@app.command()
def report(
    runs: Annotated[
        list[Path],
        typer.Argument(
            metavar="RUN... [RESULT.json...]",
            help="Folders of runs, one or several, and what kits of them measured on devices.",
        ),
    ],
    out: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Where to; a single run's own folder by default.")
    ] = None,
    csv: Annotated[Path | None, typer.Option(metavar="FILE", help="Also write all figures as CSV.")] = None,
    parquet: Annotated[Path | None, typer.Option(metavar="FILE", help="The same as Parquet.")] = None,
    samples: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Also write every timed call as Parquet.")
    ] = None,
    png: Annotated[Path | None, typer.Option(metavar="FOLDER", help="Also write the charts as PNG.")] = None,
) -> None:
    """Print the summaries of runs; leaves report.html and report.md.

    A result that `octavo kit` measured on a device is a run of its own, and one table has all devices side by
    side: accuracy on the same samples, how far answers are from the host's, latency, memory.
    """
    from benchmarks.report.devices import device_grids
    from benchmarks.report.terminal import print_grid, print_summary
    from benchmarks.report.write import Wanted, write_report

    page, found = write_report(runs, out, Wanted(csv, parquet, samples, png))
    for one in found:
        if len(found) > 1:
            _say(one.name)
        print_summary(one.summary, Console())
    for grid in device_grids(found):
        print_grid(grid, Console())
    _say(f"{page}")


@app.command()
def kit(
    run: Run,
    variant: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Such as int8-ort-arm64; all by default. Repeatable."),
    ] = None,
    target: Annotated[
        list[str] | None,
        typer.Option(
            metavar="TARGET",
            help="ort-x86, ort-arm64 or tensorrt; all that the run has by default. Repeatable.",
        ),
    ] = None,
    samples: Annotated[int, typer.Option(min=1, help="How many of the validation set, at most.")] = 256,
    out: Annotated[
        Path | None,
        typer.Option(metavar="FILE.zip", help="Or a new folder; RUN/kit.zip by default."),
    ] = None,
) -> None:
    """Pack a run for a device that has nothing but Python, numpy and ONNX Runtime, or TensorRT and pycuda.

    There, unpack it and run `python3 measure.py`, which takes two minutes and leaves result.json; here,
    `octavo report RUN result.json` shows the device beside this machine.

    The kit has the float model, the variants, preprocessed samples with labels, and checksums; the same run
    gives the same bytes. ONNX Runtime is measured on the device's CPU, TensorRT on its GPU, where engines are
    built first, unless those that `octavo build` left in the run fit. RUN/kits keeps what is needed to know
    the result again.
    """
    from benchmarks.kit.pack import pack

    packed = pack(run, out, variant or (), target or (), samples)
    engines = f"; engines of {', '.join(packed.engines)}" if packed.engines else ""
    _say(f"{', '.join(packed.variants)}{engines}; {packed.samples} samples; kit {packed.identity[:16]}")
    print(f"{packed.path}: {packed.size_bytes / 2**20:.1f} MiB")


def main() -> None:
    """The command ``octavo``."""
    complaint = misplaced(Path(__file__).resolve().parent)
    if complaint is not None:
        print(f"octavo: {complaint}", file=sys.stderr)
        sys.exit(BAD_INPUT)
    app(prog_name="octavo")


def misplaced(home: Path) -> str | None:
    """What is wrong where a package of ours would be imported from another place than ``home``.

    The packages have plain names, and other distributions also install, say, a ``benchmarks``.
    """
    for name in PACKAGES:
        spec = importlib.util.find_spec(name)
        places = [] if spec is None else list(spec.submodule_search_locations or [str(spec.origin)])
        if str(home / name) not in (str(Path(place).resolve()) for place in places[:1]):
            found = places[0] if places else "nowhere"
            return (
                f"the package '{name}' comes from {found}, but Octavo's own is {home / name}; another "
                f"distribution or folder has the same name: uninstall it, take it off PYTHONPATH, or install "
                "Octavo in an environment of its own"
            )
    return None


def _bench_on(host: str, run: Path, python: str, json: bool) -> None:
    from benchmarks.kit.merge import merge_all
    from benchmarks.kit.remote import measure_on

    result = measure_on(host, run, _say, python)
    if json:
        for measured in merge_all(run, result):
            print(measured.summary.model_dump_json(indent=2))
    else:
        report([run, result])


def _build_matrix(matrix: Path, folder: Path, library: str | None, json: bool) -> None:
    from json import dumps

    from deploy.pipeline.progress_bar import progress_bar
    from deploy.tensorrt.cache import default_cache
    from deploy.tensorrt.matrix.run import build_matrix

    with progress_bar("build") as show:
        built = build_matrix(matrix, folder, default_cache(), library, _say, show)
    if json:
        print(dumps(built.to_dict(), indent=1))
    else:
        for one in built.outcomes:
            print(f"{folder / one.cell.name}: {one.text}")
    if built.failed:
        raise typer.Exit(FAILED)


def _say(text: str) -> None:
    Console(stderr=True).print(Text(text, style="dim"), highlight=False, soft_wrap=True)


def _widths(text: str) -> list[int]:
    try:
        return [int(bits) for bits in text.split(",")]
    except ValueError:
        raise typer.BadParameter(f"'{text}' is not widths with commas between, such as 4,6,8") from None


def _three(text: str) -> tuple[int, int, int]:
    try:
        least, usual, most = (int(size) for size in text.split(","))
    except ValueError:
        raise typer.BadParameter(f"'{text}' is not MIN,USUAL,MAX, such as 1,1,8") from None
    return least, usual, most


def _shape(text: str) -> tuple[str, tuple[int, ...]]:
    name, _, sizes = text.rpartition("=")
    try:
        return name, tuple(int(size) for size in sizes.split("x"))
    except ValueError:
        raise typer.BadParameter(f"'{text}' is not NAME=SIZExSIZE, such as input=1x3x224x224") from None


@contextmanager
def _one_line() -> Iterator[None]:
    """End with one line and an exit code where it is not our bug."""
    from quant.errors import BadInput, Unsupported

    try:
        yield
    except (BadInput, Unsupported) as error:
        _fail(" ".join(str(error).split()), BAD_INPUT, error)
    except OSError as error:
        if error.filename is None and error.errno not in _DISK:
            raise
        where = f"{error.filename}: " if error.filename else ""
        _fail(f"{where}{error.strerror}", BAD_INPUT, error)
    except KeyboardInterrupt as error:
        _fail("interrupted; the same command goes on after the last finished step", INTERRUPTED, error)


def _fail(message: str, code: int, error: BaseException) -> None:
    print(f"octavo: {message}", file=sys.stderr)
    raise typer.Exit(code) from error


if __name__ == "__main__":
    main()
