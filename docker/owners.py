"""Keep what says of which Debian packages the copied files are: for scanners; and their licences, for people.

Images without a package manager have it in ``/var/lib/dpkg/status.d``, one file per package, where scanners
look.
"""

import shutil
from pathlib import Path

__all__ = ["keep_owners"]


def keep_owners(base: Path, out: Path) -> list[str]:
    """Write the entry and the licence of every package that a copied file came from.

    Args:
        base: root of the base image's file system. One that was unpacked and not configured has no list of
            packages, and nothing is written.
        out: root of what was copied.

    Returns:
        The packages' names, sorted.
    """
    copied = {"/" + p.relative_to(out).as_posix() for p in out.rglob("*") if p.is_file()}
    # Debian lists a file at the place of before /lib became a link to /usr/lib.
    copied |= {path.removeprefix("/usr") for path in copied if path.startswith("/usr/lib")}
    status = base / "var/lib/dpkg/status"
    if not status.is_file():
        return []
    entries = {}
    for entry in status.read_text(encoding="utf-8").split("\n\n"):
        if entry.startswith("Package: "):
            entries[entry.split("\n", 1)[0].removeprefix("Package: ")] = entry.strip() + "\n"
    owners = set()
    for listing in sorted((base / "var/lib/dpkg/info").glob("*.list")):
        name = listing.stem.split(":")[0]
        if name in entries and copied.intersection(listing.read_text(encoding="utf-8").split("\n")):
            owners.add(name)
    folder = out / "var/lib/dpkg/status.d"
    folder.mkdir(parents=True, exist_ok=True)
    for name in sorted(owners):
        (folder / name).write_text(entries[name], encoding="utf-8")
        licence = base / "usr/share/doc" / name / "copyright"
        if licence.is_file():
            target = out / "usr/share/doc" / name / "copyright"
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(licence, target)
    return sorted(owners)
