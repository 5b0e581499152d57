"""What is known without asking a service: luigi.cfg, the work directory, the disk."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import luigi.configuration

from pipeline import environment
from pipeline.audits import HINT
from pipeline.files import atomic
from pipeline.graph import luigi_settings
from pipeline.manifest import parse_manifest
from pipeline.operations.doctor import CheckResult, Examination, failed, ok, warning
from pipeline.settings import ignored_variables
from pipeline.snapshot import Snapshot
from pipeline.sources import missing_files
from pipeline.sources.download import locate

#: Bytes of a snapshot at upstream's limit of 1,000,000 features rows: what is expected where nothing says better.
LARGEST_SNAPSHOT = 500_000_000

_SHARED = ("nfs", "cifs", "smb", "fuse", "9p", "ceph", "gluster", "lustre")
_MIB = 1 << 20


def check_environment(examination: Examination) -> Iterator[CheckResult]:
    """Whether a variable is set that looks like one of ours and is none."""
    ignored = list(ignored_variables(examination.settings))
    for line in ignored:
        yield warning(line, "it changes nothing: correct or remove it; docs/configuration.md has all that there are")
    if not ignored:
        yield ok("every variable that looks like one of ours is one")


def check_luigi_cfg(_: Examination) -> Iterator[CheckResult]:
    """Whether luigi has read a luigi.cfg, the one that was named, and whether it says what it must."""
    loaded = [str(path) for path in type(luigi.configuration.get_config()).reload()]
    named = environment.luigi_config_path()
    if named and named not in loaded:
        hint = "luigi only warns of it: correct the path, or leave the variable out"
        yield failed(f"LUIGI_CONFIG_PATH names {named}, which is not there", hint)
    elif not loaded:
        hint = f"runs use the packaged one; where luigid runs, set LUIGI_CONFIG_PATH={luigi_settings.PATH}"
        yield warning("luigi has found no luigi.cfg", hint)
    elif differing := luigi_settings.differences(loaded):
        hint = f"runs enforce what is expected; luigid reads this file: correct it, see {luigi_settings.PATH}"
        yield warning(f"{', '.join(loaded)}: {'; '.join(differing)}", hint)
    else:
        yield ok(", ".join(dict.fromkeys(str(Path(path).absolute()) for path in loaded)))


def check_audits(examination: Examination) -> Iterator[CheckResult]:
    """Whether every file of INGESTION_AUDITS_PATH says what an audit is, and audits.toml names what there is."""
    catalogue = examination.context.audits
    yield from (failed(mistake, HINT) for mistake in catalogue.mistakes)
    if not catalogue.mistakes:
        own = ", ".join(sorted(catalogue.own)) or "none"
        yield ok(f"{len(catalogue.audits)} audits; of your own: {own}")


def check_work_directory(examination: Examination) -> Iterator[CheckResult]:
    """Whether files can be written and synced there, and whether its file system keeps them and knows locks."""
    path = examination.settings.work_path.absolute()
    with atomic.reported(path):
        place = _existing(path)
        with tempfile.TemporaryFile(dir=place) as file:
            file.write(b"doctor")
            file.flush()
            os.fsync(file.fileno())
    kind = _file_system(place)
    what = f"{path} can be written" if place == path else f"{path} is not there yet and can be made"
    if kind in {"tmpfs", "ramfs", "overlay"}:
        yield warning(
            f"{what}; {kind} does not outlive the host or the container", "put WORK_PATH on a disk or a volume"
        )
    elif kind.startswith(_SHARED):
        yield warning(f"{what}; {kind} is not a local file system", "locks between runs may not hold: use a local disk")
    else:
        yield ok(f"{what} ({kind})" if kind else what)


def _existing(path: Path) -> Path:
    """Return the directory itself, or the nearest above it that is there."""
    return next(each for each in (path, *path.parents) if each.exists())


def _file_system(path: Path) -> str:
    """Return the type of the file system that a directory is on, as Linux says; elsewhere ''."""
    try:
        lines = Path("/proc/self/mountinfo").read_text("utf-8").splitlines()
    except OSError:
        return ""
    mounts: dict[Path, str] = {}
    for line in lines:
        before, _, after = line.partition(" - ")
        mounts[Path(before.split()[4].encode().decode("unicode_escape"))] = after.split()[0]
    return next((mounts[each] for each in (path.resolve(), *path.resolve().parents) if each in mounts), "")


def check_disk_space(examination: Examination) -> Iterator[CheckResult]:
    """Whether the newest snapshot of every network fits on the disk of the work directory at the same time."""
    networks = examination.settings.networks
    known = {network: _bytes(examination, snapshot) for network, snapshot in examination.newest.items()}
    expected = sum(known.get(network, LARGEST_SNAPSHOT) for network in networks)
    free = shutil.disk_usage(_existing(examination.settings.work_path.absolute())).free
    said = "as the newest snapshots are" if len(known) == len(networks) else "upstream's limit where nothing is known"
    text = f"{free // _MIB:,} MiB free, {-(-expected // _MIB):,} MiB expected for {len(networks)} networks ({said})"
    if free < expected:
        yield failed(text, "make room on the disk of WORK_PATH, or put it elsewhere")
    elif free < 2 * expected:
        yield warning(text, "make room before the snapshots grow")
    else:
        yield ok(text)


def _bytes(examination: Examination, snapshot: Snapshot) -> int:
    """Return the bytes that a run downloads of a snapshot, as far as upstream has uploaded it."""
    source = examination.context.source
    text = source.read_manifest(snapshot)
    if text is None or missing_files(source, snapshot, text):
        return LARGEST_SNAPSHOT
    manifest = parse_manifest(text.data, snapshot, allow_md5=True, tables=examination.settings.tables)
    return sum(locate(source, snapshot, entry).size for entry in manifest.files.values())
