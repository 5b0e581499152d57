"""File names in META.json that lead elsewhere, or look like others."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from tests.support.snapshots import SnapshotFiles
from tests.torture.defect import Defect, legal, manifest

#: Names for the file of the alerts.
_WRONG = {
    "in the directory above": "../alerts.parquet",
    "far above": "../" * 20 + "etc/passwd",
    "absolute": "/etc/passwd",
    "in a directory below": "more/alerts.parquet",
    "with a backslash": "..\\alerts.parquet",
    "with a NUL": "alerts.parquet\0",
    "with a line end": "alerts.parquet\n",
    "empty": "",
    "two dots": "..",
    "of 100 characters with four bytes each": "\U0001f600" * 100,
    "in a Cyrillic look-alike": "\u0430lerts.parquet",
    "with a zero-width space": "alerts\u200b.parquet",
    "written from right to left": "\u202etenrap.strela",
    "with half a surrogate pair": "alerts\ud800.parquet",
    "in capitals": "Alerts.parquet",
    "with a space behind it": "alerts.parquet ",
    "a URL": "http://169.254.169.254/latest/meta-data",
}
_BESIDE = (
    "\u0430lerts.parquet",
    "money_flows.parquet",
    "alerts.parquet.bak",
    "{network}.parquet",
    "'; DROP TABLE x --",
)


def names() -> Iterator[Defect]:
    """Yield names that stand for the alerts', and such beside the four."""
    for what, name in _WRONG.items():
        yield manifest(f"a name {what}", partial(_renamed, name))
    for what in ("in the directory above", "with a NUL"):
        yield manifest(f"beside the four one {what}", partial(_beside, _WRONG[what]))
    yield manifest("both names of a table", partial(_beside, "raw_alerts.parquet"))
    for name in _BESIDE:
        yield legal(f"beside the four {name}", partial(_beside, name))
    yield legal("a file in the folder that is not listed", _unlisted)
    yield legal("raw names", SnapshotFiles.use_raw_names)


def _renamed(name: str, files: SnapshotFiles) -> None:
    def edit(meta: dict[str, dict[str, str]]) -> None:
        meta["sha256"] = {name if old == "alerts.parquet" else old: digest for old, digest in meta["sha256"].items()}

    files.edit_manifest(edit)


def _beside(name: str, files: SnapshotFiles) -> None:
    files.edit_manifest(lambda meta: meta["sha256"].update({name: "0" * 64}))


def _unlisted(files: SnapshotFiles) -> None:
    (files.manifest_path.parent / "money_flows.parquet").write_bytes(b"not of our business")
