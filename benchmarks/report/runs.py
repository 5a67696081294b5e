"""The runs a report is about: their summaries, their profiles, and how each variant is told apart."""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.analyses.findings import Findings
from benchmarks.kit.merge import Measured, belongs, merge_all
from benchmarks.kit.result import is_result
from benchmarks.report.analyses import read_analyses
from benchmarks.report.cells import label
from benchmarks.report.comparison import ordered
from benchmarks.report.profiles import ProfileView, read_profile
from benchmarks.results import Summary, Variant, load_summary
from quant.errors import BadInput

__all__ = ["SHAPES", "TONES", "Entry", "Run", "comparable", "entries", "load_runs"]

SUMMARY = "summary.json"
TONES = 6  # --series-1 to --series-6 of the style sheet; --series-0 is for references
SHAPES = ("circle", "square", "diamond", "triangle-up", "triangle-down")


@dataclass(frozen=True)
class Run:
    """One summary and what lies beside it.

    Attributes:
        name: unique among the runs of a report.
        summary: what was measured.
        profiles: variant name to its profile, of those that were profiled.
        analyses: what its analyses found, by label.
        device: of a run that is what a device measured of a kit: what that is made from.
        device_of: and the name of the run that the kit is of.
    """

    name: str
    summary: Summary
    profiles: Mapping[str, ProfileView] = field(default_factory=dict)
    analyses: Mapping[str, Findings] = field(default_factory=dict)
    device: Measured | None = None
    device_of: str = ""


@dataclass(frozen=True)
class Entry:
    """One variant as it is shown; it keeps its label, colour and shape through the whole page.

    Attributes:
        run: where it was measured.
        variant: its figures.
        label: its name; with the run's name in front where there are several runs.
        color: the variable of the style sheet, e.g. ``--series-2``.
        shape: of its point in drawings, so that colour is never the only sign.
    """

    run: Run
    variant: Variant
    label: str
    color: str
    shape: str

    @property
    def is_reference(self) -> bool:
        """Whether the others of its run are compared with it."""
        return self.variant.name == self.run.summary.reference


def load_runs(paths: Sequence[Path]) -> tuple[Run, ...]:
    """Read runs by their folders or their ``summary.json``, and what devices measured of them.

    Args:
        paths: of runs, and of the results of their kits, in any order; the latter come last.

    Raises:
        BadInput: no run is given, something is given twice, a file cannot be read, or a result is of none of
            the runs.
    """
    results = [path for path in paths if is_result(path)]
    files = [path if path.is_file() else path / SUMMARY for path in paths if path not in results]
    whole = [file.resolve() for file in (*files, *results)]
    twice = [str(file) for file in whole if whole.count(file) > 1]
    if twice:
        raise BadInput(f"{twice[0]} is given twice")
    if not files:
        raise BadInput(
            f"{results[0]}: is shown beside the run that its kit is of; name that, too"
            if results
            else "no run is given; name at least one folder"
        )
    names = _names([file.parent for file in whole[: len(files)]])
    runs = [_load(name, file) for name, file in zip(names, files, strict=True)]
    folders = {name: file.parent for name, file in zip(names, files, strict=True)}
    for path in results:
        runs += _measured(path, folders, {run.name for run in runs})
    return tuple(runs)


def entries(runs: Sequence[Run]) -> tuple[Entry, ...]:
    """Every variant of every run, the reference of each run first."""
    found: list[Entry] = []
    others = 0
    for i, run in enumerate(runs):
        for variant in ordered(run.summary):
            text = label(variant.name) if len(runs) == 1 else f"{run.name} · {label(variant.name)}"
            if variant.name == run.summary.reference:
                tone, shape = 0, i
            else:
                tone, shape = 1 + others % TONES, others // TONES
                others += 1
            found.append(Entry(run, variant, text, f"--series-{tone}", SHAPES[shape % len(SHAPES)]))
    return tuple(found)


def comparable(runs: Sequence[Run]) -> tuple[tuple[Run, ...], ...]:
    """Group the runs whose accuracy was measured on the same images: only they share an axis of accuracy."""
    groups: dict[tuple[str, str, int], list[Run]] = {}
    for run in runs:
        seen = {v.accuracy.n for v in run.summary.variants if v.accuracy is not None}
        groups.setdefault((run.summary.model, run.summary.data, max(seen, default=0)), []).append(run)
    return tuple(map(tuple, groups.values()))


def _load(name: str, file: Path) -> Run:
    summary = load_summary(file)
    found = {v.name: read_profile(file.parent / v.name) for v in summary.variants if _is_plain(v.name)}
    profiles = {name: profile for name, profile in found.items() if profile is not None}
    return Run(name, summary, profiles, read_analyses(file.parent, summary.settings))


def _measured(path: Path, folders: Mapping[str, Path], taken: Collection[str]) -> list[Run]:
    """A kit's result, as a run beside the one that it is of; as one more where a GPU was measured, too."""
    of = next((name for name, folder in folders.items() if belongs(folder, path)), None)
    if of is None:
        raise BadInput(
            f"{path}: was measured with a kit of another run than {', '.join(map(str, folders.values()))}; "
            "`octavo kit RUN` makes a run's own"
        )
    parent, runs = path.resolve().parent.name, []
    for found in merge_all(folders[of], path):
        device = found.summary.environment.gpu or found.summary.environment.cpu
        names = [f"{device}{rest}" for rest in ("", f", {path.stem}", f", {parent}/{path.stem}")]
        names += [str(path.resolve()), f"{device}, {path.resolve()}"]
        name = next(name for name in names if name not in taken)
        runs.append(Run(name, found.summary, device=found, device_of=of))
    return runs


def _is_plain(name: str) -> bool:
    """Whether a variant's name is that of a folder in the run, and not a path out of it."""
    return name not in (".", "..") and Path(name).name == name


def _names(folders: Sequence[Path]) -> list[str]:
    """The last part of each path; more parts of those that would be the same."""
    depth = 1
    while True:
        names = ["/".join(folder.parts[-depth:]) for folder in folders]
        if max(Counter(names).values()) == 1 or depth > max(len(f.parts) for f in folders):
            return names
        depth += 1
