"""What a run keeps of a kit that was packed from it."""

import hashlib
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from benchmarks.files import write_text
from benchmarks.kit.content import Answers, Kit
from deploy.tensorrt.cache import MANIFEST, PLAN
from quant.errors import BadInput
from quant.files import file_sha256

__all__ = ["Record", "check_models", "load_record", "record_path", "save_record"]

_FOLDER = "kits"


class Record(BaseModel):
    """What a run keeps of a kit that was packed from it.

    Attributes:
        kit: the text of ``kit.json``.
        answers: key of a variant to what the machine that packed it answers to the samples.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kit: str
    answers: dict[str, Answers]

    @property
    def identity(self) -> str:
        """SHA-256 of ``kit.json``, and so of every file of the kit."""
        return hashlib.sha256(self.kit.encode()).hexdigest()

    @property
    def about(self) -> Kit:
        """What the kit says."""
        return Kit.model_validate_json(self.kit)


def record_path(run: Path, identity: str) -> Path:
    """Where a run keeps the record of a kit."""
    return run / _FOLDER / f"{identity[:16]}.json"


def save_record(run: Path, record: Record) -> None:
    """Keep a record in a run's folder.

    Raises:
        BadInput: it cannot be written.
    """
    path = record_path(run, record.identity)
    path.parent.mkdir(exist_ok=True)
    write_text(path, record.model_dump_json(indent=1) + "\n")


def load_record(run: Path, identity: str) -> Record:
    """The record of a kit.

    Raises:
        BadInput: the file cannot be read, or is not what was written.
    """
    path = record_path(run, identity)
    try:
        record = Record.model_validate_json(path.read_bytes())
        _ = record.about
    except OSError as error:
        raise BadInput(f"cannot read {path}: {error.strerror}") from error
    except ValidationError as error:
        raise BadInput(f"{path}: is damaged; pack the kit again with `octavo kit {run}`") from error
    if record.identity != identity:
        raise BadInput(f"{path}: was changed; pack the kit again with `octavo kit {run}`")
    return record


def check_models(run: Path, kit: Kit) -> None:
    """Refuse a run whose models are no longer those of the kit.

    Its engines may be: building one again does not change what was measured.

    Raises:
        BadInput: a file was made again since, or is gone.
    """
    for entry in kit.variants:
        inside = Path(entry.file).parent
        for name, sha256 in kit.files.items():
            if inside not in Path(name).parents or Path(name).name in (PLAN, MANIFEST):
                continue
            path = run / Path(entry.source).parent / Path(name).relative_to(inside)
            if not path.is_file() or file_sha256(path) != sha256:
                raise BadInput(
                    f"{path}: is not the file that the kit has: the run was changed since; pack "
                    f"it again with `octavo kit {run}`, and measure that"
                )
