"""A defect of what upstream publishes: it is refused and readers see what they saw, or it is none and is loaded."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from tests.support.packaged_audits import switched_off
from tests.support.snapshots import Bucket, SnapshotFiles
from tests.torture import oracle
from tests.torture.case import Case, harmed
from tests.torture.commands import Ended
from tests.torture.oracle import EMPTY
from tests.torture.site import DAY, Site

MANIFEST = "META.json"
ALERTS, FEATURES, CLUSTERS, LABELS = "raw_alerts", "raw_features", "raw_clusters", "raw_address_labels"
_PUBLISHED_EVERY = 3  #: a third of the refused cases begin with a day that is published

Spoil = Callable[[SnapshotFiles], object]


@dataclass(frozen=True)
class Defect:
    """Something that upstream publishes, and what has to come of it."""

    name: str
    spoil: Spoil
    file: str = MANIFEST  #: that the line about it names
    exit_code: int = 30  #: 0 when it is no defect


def manifest(name: str, spoil: Spoil, **more: int | str) -> Defect:
    """Return a defect of META.json."""
    return replace(Defect(name, spoil), **more)  # type: ignore[arg-type]  # fields of it


def parquet(name: str, table: str, spoil: Spoil) -> Defect:
    """Return a defect of a table's file."""
    return Defect(name, spoil, f"{table.removeprefix('raw_')}.parquet")


def legal(name: str, spoil: Spoil) -> Defect:
    """Return what looks strange and is not wrong: it is loaded, and every cell is compared."""
    return Defect(name, spoil, "", 0)


def cases_of(defects: Iterable[Defect]) -> Iterator[Case]:
    """Yield a case for each, every third of those refused over a day that is published already."""
    number = 0  # of what is refused
    for defect in defects:
        if defect.exit_code == 0:
            yield Case(f"accepted: {defect.name}", accepted(defect))
            continue
        number += 1
        if number % _PUBLISHED_EVERY:
            yield Case(defect.name, harmed(partial(_refused, defect)))
        else:
            yield Case(f"{defect.name}, over a published day", harmed(_publish, partial(_refused, defect)))


def accepted(*defects: Defect) -> Callable[[Site], None]:
    """Return what runs a case of what is none, all in one snapshot."""
    return partial(_accepted, defects)


def _accepted(defects: Sequence[Defect], site: Site) -> None:
    for defect in defects:
        defect.spoil(site.files["torus"])
    site.variables |= switched_off(site.directory)
    site.upload()
    site.check_recovered([], site.run())


def _refused(defect: Defect, site: Site) -> list[Ended]:
    """Run with the defect: readers see what they saw; then put back what there was before it."""
    before = readers_see(site)
    good = _content(site.bucket)
    defect.spoil(site.files["torus"])
    spoiled = _content(site.bucket)
    put(site)
    ended = site.run()
    if ended.exit_code != defect.exit_code:
        site.violated(5, f"{defect.name}: exit code {ended.exit_code}, expected {defect.exit_code}")
    site.check_refused(ended, file=defect.file)
    site.check_seen()
    if readers_see(site) != before:
        site.violated(1, f"{defect.name}: readers do not see any longer what they saw")
    for path, data in good.items():
        path.write_bytes(data)
    put(site)
    changed = {defect.file} | {path.name for path, data in good.items() if spoiled.get(path) != data}
    return [_still_good(ended, changed)]


def _publish(site: Site) -> list[Ended]:
    """Publish the day as it is, then let upstream replace it with an edition that differs in every value."""
    ended = site.run()
    if ended.exit_code:
        site.violated(0, f"the first run exited {ended.exit_code}")
    site.check_rows()
    newer(site)
    return []


def newer(site: Site) -> None:
    """Write a newer edition of the day, without uploading it."""
    Bucket(site.bucket).snapshot("torus", DAY, seed=1)


def readers_see(site: Site) -> oracle.Seen:
    """Return what readers see of the day now; nothing while there are no tables."""
    server, database = site.ground.server, site.database("torus")
    if not int(oracle.ask(server, f"EXISTS VIEW {database}.raw_features")):
        return EMPTY
    return oracle.seen(server, database, site.key("torus"))


def put(site: Site) -> None:
    """Make the bucket hold what its directory holds, and nothing else."""
    client, name = site.ground.client, site.name
    for listed in client.list_objects_v2(Bucket=name).get("Contents", []):
        if not (site.bucket / listed["Key"]).is_file():
            client.delete_object(Bucket=name, Key=listed["Key"])
    site.upload()


def _content(bucket: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in bucket.rglob("*") if path.is_file()}


def _still_good(ended: Ended, changed: set[str]) -> Ended:
    """Return a run with the events of what need not be done again.

    META.json is uploaded again, so it is fetched again; while its bytes are the same all the rest holds. By another
    manifest a file is validated again; one whose digest is as before is neither fetched nor loaded again.
    """
    return replace(ended, stderr="\n".join(line for line in ended.stderr.splitlines() if _holds(line, changed)))


def _holds(line: str, changed: set[str]) -> bool:
    event = json.loads(line)
    if MANIFEST not in changed:
        return str(event.get("step")) != "DownloadManifest"
    stem = str(event.get("table") or "").removeprefix("raw_")
    return event.get("step") in {"DownloadFile", "LoadTable"} and not any(stem in name for name in changed)
