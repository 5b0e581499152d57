"""A manifest is four files with digests, or an error that says what is wrong."""

import hashlib
import json
import pickle
import re
from copy import deepcopy
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.errors import ManifestError
from pipeline.manifest import HINT, MAX_MANIFEST_BYTES, FileEntry, Manifest, parse_manifest
from pipeline.snapshot import MANIFEST_NAME, Snapshot, snapshot_of_manifest_key
from pipeline.tables import TABLES

SAMPLES = Path(__file__).parents[1] / "samples"
SNAPSHOT = Snapshot("torus", date(2025, 8, 1), 195)
STEMS = [table.stem for table in TABLES]
SHA256 = {f"{stem}.parquet": hashlib.sha256(stem.encode()).hexdigest() for stem in STEMS}
MD5 = {name: digest[:32] for name, digest in SHA256.items()}
ALERTS, FEATURES = SHA256["alerts.parquet"], SHA256["features.parquet"]
OTHER = "0f" * 32
GONE = object()  # as a field's value: the field is not there

Json = dict[str, Any]


def present(fields: Json) -> Json:
    """Return the fields without those that are GONE."""
    return {key: value for key, value in fields.items() if value is not GONE}


def current(*, files: Json | None = None, **fields: Any) -> Json:
    """Return a manifest of the current dialect; ``files`` and ``fields`` replace, add, or take away."""
    header = {
        "schema_version": "1.0.0",
        "batch_id": "torus-2025-08-01-195d",
        "network": "torus",
        "processing_date": "2025-08-01",
        "window_days": 195,
        "generated_at": "2025-08-02T00:10:11.123456Z",
        "counts": {"features": 715, "alerts": 86, "clusters": 0, "address_labels": 400, "money_flows": 12},
    }
    return present({**header, "sha256": present({**SHA256, **(files or {})}), **fields})


def listed(*more: object, alerts: Json | None = None, **fields: Any) -> Json:
    """Return a manifest of the list dialect; ``alerts`` changes that entry, ``more`` entries come after."""
    entries: list[Any] = [{"filename": name, "checksum": f"sha256:{digest}"} for name, digest in SHA256.items()]
    entries[0] = present({**entries[0], **(alerts or {})})
    return present({"files": [*entries, *more], **fields})


def legacy(files: Json | None = None, **fields: Any) -> Json:
    """Return a manifest of the legacy dialect."""
    entries = {name: {"md5": digest} for name, digest in MD5.items()}
    return present({"files": present({**entries, **(files or {})}), **fields})


def encoded(document: object) -> bytes:
    """Return the document as upstream would write it; NaN included."""
    return json.dumps(document).encode()


def parsed(document: object, *, allow_md5: bool = False) -> Manifest:
    """Return what the manifest says about the snapshot that all tests here ask for."""
    return parse_manifest(encoded(document), SNAPSHOT, allow_md5=allow_md5)


SAMPLE_KEYS = sorted(path.relative_to(SAMPLES).as_posix() for path in SAMPLES.rglob(MANIFEST_NAME))


@pytest.mark.parametrize("key", SAMPLE_KEYS)
def test_the_samples_are_accepted(key: str) -> None:
    """What upstream's exporter wrote is read whole, and its digests are those of the files beside it."""
    path, snapshot = SAMPLES / key, snapshot_of_manifest_key(key)
    assert snapshot is not None
    manifest = parse_manifest(path.read_bytes(), snapshot, allow_md5=False)
    assert manifest.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert manifest.generated_at is not None
    assert list(manifest.files) == [table.name for table in TABLES]
    for table in TABLES:
        entry = manifest.files[table.name]
        file = SAMPLES / snapshot.shared_labels_key if table.shared else path.with_name(entry.name)
        assert (entry.algorithm, entry.digest) == ("sha256", hashlib.sha256(file.read_bytes()).hexdigest())
        assert entry.rows is not None
        assert entry.size is None


def test_there_are_six_samples() -> None:
    """Three networks, two dates."""
    assert len(SAMPLE_KEYS) == 6


@pytest.mark.parametrize("document", [current(), listed(), legacy()], ids=["current", "list", "legacy"])
def test_only_the_files_that_are_needed_are_looked_at(document: Json) -> None:
    """Of another one the digest may be anything; one that is needed must be there, and the hint names the setting."""
    needed = [table for table in TABLES if table.stem in {"features", "address_labels"}]
    if isinstance(document.get("files"), list):
        document["files"][0]["checksum"] = "none"
    else:
        (document.get("sha256") or document["files"])["alerts.parquet"] = "none"
    manifest = parse_manifest(encoded(document), SNAPSHOT, allow_md5=True, tables=needed)
    assert list(manifest.files) == ["raw_features", "raw_address_labels"]


def test_a_file_that_is_not_listed_names_the_setting() -> None:
    """For upstream may export that table no longer; two files of one table are something else."""
    with pytest.raises(ManifestError) as missing:
        parsed(current(files={"clusters.parquet": GONE}))
    assert "if upstream exports it no longer, leave raw_clusters out of INGESTION_TABLES" in missing.value.hint
    with pytest.raises(ManifestError) as twice:
        parsed(current(files={"raw_clusters.parquet": OTHER}))
    assert "INGESTION_TABLES" not in twice.value.hint


def test_the_current_dialect() -> None:
    """Every fact arrives, the time in UTC."""
    manifest = parsed(current(generated_at="2025-08-02T02:10:11+02:00", sizes={"alerts.parquet": 1234}))
    assert manifest.files["raw_alerts"] == FileEntry(
        "raw_alerts", "alerts.parquet", "sha256", ALERTS, size=1234, rows=86
    )
    assert manifest.files["raw_clusters"].rows == 0
    assert manifest.generated_at == datetime(2025, 8, 2, 0, 10, 11, tzinfo=UTC)
    assert manifest.generated_at.tzinfo is UTC


def test_the_list_dialect() -> None:
    """An entry may bring its own rows and size; the rest of the header may be missing."""
    manifest = parsed(listed(alerts={"rows": 86, "size": 1234}))
    assert manifest.files["raw_alerts"] == FileEntry(
        "raw_alerts", "alerts.parquet", "sha256", ALERTS, size=1234, rows=86
    )
    assert manifest.files["raw_features"] == FileEntry(
        "raw_features", "features.parquet", "sha256", FEATURES, size=None, rows=None
    )
    assert manifest.generated_at is None


def test_the_legacy_dialect() -> None:
    """With the setting, MD5 is accepted and the entry says that it is MD5."""
    manifest = parsed(legacy(), allow_md5=True)
    assert manifest.files["raw_alerts"] == FileEntry(
        "raw_alerts", "alerts.parquet", "md5", MD5["alerts.parquet"], size=None, rows=None
    )


def test_a_manifest_can_be_sent_to_another_process() -> None:
    """Luigi's workers do that."""
    manifest = parsed(current())
    assert pickle.loads(pickle.dumps(manifest)) == manifest  # noqa: S301 - our own bytes


ACCEPTED: dict[str, Json] = {
    "raw_ names": current(sha256={f"raw_{name}": digest for name, digest in SHA256.items()}),
    "one raw_ name": current(files={"alerts.parquet": GONE, "raw_alerts.parquet": ALERTS}),
    "prefix": current(files={"alerts.parquet": f"sha256:{ALERTS}"}),
    "upper case": current(files={"alerts.parquet": ALERTS.upper()}),
    "upper-case prefix": current(files={"alerts.parquet": f"SHA256:{ALERTS.upper()}"}),
    "list: raw_ name": listed(alerts={"filename": "raw_alerts.parquet"}),
    "list: other keys": listed(alerts={"filename": GONE, "checksum": GONE, "name": "alerts.parquet", "sha256": ALERTS}),
    "list: both names, equal": listed(alerts={"name": "alerts.parquet"}),
    "list: both digests, equal": listed(alerts={"sha256": ALERTS.upper()}),
    "list: header beside it": listed(**current(sha256=GONE)),
    "MD5 beside SHA-256": listed(alerts={"md5": MD5["alerts.parquet"]}),
    "legacy with SHA-256": legacy({n: {"md5": MD5[n], "sha256": digest} for n, digest in SHA256.items()}),
    "bare": {"sha256": SHA256},
    "counts by table": current(counts={"raw_alerts": 86}),
    "counts by file": current(counts={"alerts.parquet": 86, "alerts": 86}),
    "no version part": current(schema_version="1"),
    "later minor version": current(schema_version="1.12.3"),
    "batch_id is not compared": current(batch_id="x"),
    "equal digests": current(files=dict.fromkeys(SHA256, ALERTS)),
    "a file that we do not ingest": current(files={"money_flows.parquet": None, "größe 1.parquet": "?"}),
    "a list entry that we do not ingest": listed({"filename": "raw_money_flows.parquet"}),
    "a count of something else": current(counts={"money_flows": -1.5, "alerts": 86}),
    "unknown fields": current(exporter={"host": [1.5, None, True]}),
}


@pytest.mark.parametrize("document", ACCEPTED.values(), ids=ACCEPTED)
def test_accepted(document: Json) -> None:
    """Upstream may spell a fact in several ways; what we make of it is always the same."""
    entry = parsed(document).files["raw_alerts"]
    assert (entry.algorithm, entry.digest) == ("sha256", ALERTS)
    assert entry.rows in (86, None)
    assert entry.name in ("alerts.parquet", "raw_alerts.parquet")


@pytest.mark.parametrize("spelled", [MD5["alerts.parquet"], "MD5:" + MD5["alerts.parquet"].upper()])
def test_a_checksum_of_32_digits_is_md5(spelled: str) -> None:
    """The list dialect's checksum does not name its algorithm."""
    entry = parsed(listed(alerts={"checksum": spelled}), allow_md5=True).files["raw_alerts"]
    assert (entry.algorithm, entry.digest) == ("md5", MD5["alerts.parquet"])


@pytest.mark.parametrize("key", ["rows", "row_count", "count"])
def test_rows_of_an_entry(key: str) -> None:
    """Exporters spell it in three ways."""
    assert parsed(listed(alerts={key: 7})).files["raw_alerts"].rows == 7


@pytest.mark.parametrize("key", ["size", "size_bytes", "bytes"])
def test_size_of_an_entry(key: str) -> None:
    """Exporters spell it in three ways."""
    assert parsed(listed(alerts={key: 7})).files["raw_alerts"].size == 7


NAME_KEY = 'sha256["{}"]'
#: What is wrong, the manifest, and what its error must mention: the place and the value that was found.
REFUSED: dict[str, tuple[Json | list[Any] | str | bytes, list[str]]] = {
    # the document
    "empty": (b"", ["found b''", "JSON"]),
    "cut short": (encoded(current())[:-1], ['b\'{"schema_version"', "Expecting ',' delimiter", "column"]),
    "an error page": (b"<?xml version='1.0'?><Error/>", ["<?xml version", "line 1 column 1"]),
    "more after the end": (encoded(current()) + b"{}", ["Extra data"]),
    "not UTF-8": (encoded(current()).replace(b"torus", b"tor\xfcs"), ["UTF-8", "0xfc"]),
    "UTF-16": (json.dumps(current()).encode("utf-16"), ["UTF-8", "0xff"]),
    "UTF-16 without a mark": (json.dumps(current()).encode("utf-16-le"), ["UTF-8", "\\x00"]),
    "byte order mark": (b"\xef\xbb\xbf" + encoded(current()), ["\\xef\\xbb\\xbf", "BOM"]),
    "too large": (encoded(current()).ljust(MAX_MANIFEST_BYTES + 1), ["1048577 bytes", "at most 1048576"]),
    "deep list": (b"[" * 100_000, ["b'[[[[", "recursion"]),
    "deep object": (b'{"a":' * 100_000 + b"1" + b"}" * 100_000, ["recursion"]),
    "NaN": (current(x=float("nan")), ["found 'NaN'", "finite"]),
    "Infinity": (current(x=float("-inf")), ["found '-Infinity'"]),
    "a number like infinity": (encoded(current()).replace(b": 195,", b": 1e999,"), ["found '1e999'"]),
    "huge int": (encoded(current()).replace(b": 195,", b": " + b"1" * 5000 + b","), ["digits", "5000"]),
    "duplicate key": (b'{"network": "x", ' + encoded(current())[1:], ['"network"', "'x' and 'torus'"]),
    "duplicate key below": (
        encoded(current()).replace(b'"alerts.parquet"', b'"features.parquet"'),
        ['"features.parquet"', ALERTS, FEATURES],
    ),
    "duplicate key in what we ignore": (
        encoded(current(x=[[{"k": 1, "l": 2}]])).replace(b'"l"', b'"k"'),
        ['"k"', "1 and 2"],
    ),
    "a list": ([current()], ["META.json: found [{", "an object"]),
    "null": (b"null", ["found None", "an object"]),
    "a string": (b'"x"', ["found 'x'", "an object"]),
    # the header
    "version 2": (current(schema_version="2.0.0"), ["schema_version", "'2.0.0'"]),
    "version 10": (current(schema_version="10.0"), ["schema_version", "'10.0'"]),
    "version of four parts": (current(schema_version="1.0.0.0"), ["schema_version", "'1.0.0.0'"]),
    "version with a suffix": (current(schema_version="1.0.0-rc1"), ["schema_version", "'1.0.0-rc1'"]),
    "version as a number": (current(schema_version=1.0), ["schema_version", "found 1.0", "a string"]),
    "another network": (current(network="bitcoin"), ["network", "'bitcoin'", "'torus'"]),
    "network in another case": (current(network="Torus"), ["network", "'Torus'"]),
    "network null": (current(network=None), ["network", "None"]),
    "another date": (current(processing_date="2025-08-02"), ["processing_date", "'2025-08-02'"]),
    "date spelled otherwise": (current(processing_date="20250801"), ["processing_date", "'20250801'"]),
    "date as a number": (current(processing_date=20250801), ["processing_date", "found 20250801"]),
    "another window": (current(window_days=30), ["window_days", "found 30", "expected 195"]),
    "window as a float": (current(window_days=195.0), ["window_days", "found 195.0"]),
    "window as a string": (current(window_days="195"), ["window_days", "found '195'"]),
    "batch_id as a number": (current(batch_id=7), ["batch_id", "found 7"]),
    "time without zone": (
        current(generated_at="2025-08-02T00:10:11"),
        ["generated_at", "'2025-08-02T00:10:11'"],
    ),
    "no time": (current(generated_at="yesterday"), ["generated_at", "'yesterday'"]),
    "time as a number": (current(generated_at=1754093411), ["generated_at", "1754093411"]),
    "time before the first year": (
        current(generated_at="0001-01-01T00:00:00+10:00"),
        ["generated_at", "'0001-"],
    ),
    "list: another network": (listed(network="bitcoin"), ["network", "'bitcoin'"]),
    "legacy: another window": (legacy(window_days=7), ["window_days", "found 7"]),
    # counts and sizes
    "counts as a list": (current(counts=[1]), ["counts", "found [1]"]),
    "negative count": (current(counts={"alerts": -1}), ["counts.alerts", "found -1"]),
    "count true": (current(counts={"raw_alerts": True}), ["counts.raw_alerts", "found True"]),
    "count 5.0": (current(counts={"alerts.parquet": 5.0}), ['counts["alerts.parquet"]', "found 5.0"]),
    "count null": (current(counts={"alerts": None}), ["counts.alerts", "found None"]),
    "count too large": (
        current(counts={"alerts": 2**63}),
        ["counts.alerts", f"found {2**63}", f"to {2**63 - 1}"],
    ),
    "two counts": (
        current(counts={"alerts": 1, "raw_alerts": 2}),
        ["counts.raw_alerts", "found 2", "expected 1"],
    ),
    "two counts in two places": (
        listed(alerts={"rows": 1}, counts={"alerts": 2}),
        ["counts.alerts", "found 2", "expected 1, as files[0].rows says"],
    ),
    "rows as a string": (listed(alerts={"rows": "86"}), ["files[0].rows", "found '86'"]),
    "negative size": (listed(alerts={"size_bytes": -5}), ["files[0].size_bytes", "found -5"]),
    "sizes as a number": (current(sizes=5), ["sizes", "found 5"]),
    "size as a float": (current(sizes={"alerts.parquet": 5.0}), ['sizes["alerts.parquet"]', "found 5.0"]),
    # which files
    "no files": (current(sha256=GONE), ["'schema_version'", '"sha256" and "files"']),
    "two dialects": ({**current(), **listed()}, ["found ['sha256', 'files']", "exactly one"]),
    "files as a string": (listed(files="alerts.parquet"), ["files", "found 'alerts.parquet'"]),
    "files null": (listed(files=None), ["files", "found None"]),
    "sha256 as a list": (current(sha256=[SHA256]), ["sha256", "an object"]),
    "no file at all": (current(sha256={}), ["sha256", "found []", "alerts.parquet and raw_alerts.parquet"]),
    "features missing": (
        current(files={"features.parquet": GONE}),
        ["sha256", "'alerts.parquet', 'clusters.parquet'", "features.parquet and raw_features.parquet"],
    ),
    "list: features missing": (
        listed(files=listed()["files"][:1]),
        ["files", "['alerts.parquet']", "features"],
    ),
    "legacy: labels missing": (
        legacy({"address_labels.parquet": GONE}),
        ["files", "address_labels.parquet and raw_address_labels.parquet"],
    ),
    "a name in another case": (
        current(files={"alerts.parquet": GONE, "Alerts.parquet": ALERTS}),
        ["sha256", "'Alerts.parq", "alerts.parquet and raw_alerts.parquet"],
    ),
    "both names": (
        current(files={"raw_alerts.parquet": ALERTS}),
        ["sha256", "found ['alerts.parquet', 'raw_alerts.parquet']", "exactly one"],
    ),
    "list: both names": (
        listed({"name": "raw_alerts.parquet", "sha256": ALERTS}),
        ["files", "raw_alerts.parquet"],
    ),
    "list: a name twice": (
        listed({"filename": "alerts.parquet", "checksum": ALERTS}),
        ["files[4].filename", "'alerts.parquet'", "files[0]"],
    ),
    "list: an ignored name twice": (
        listed({"filename": "x.parquet"}, {"name": "x.parquet"}),
        ["files[5].name", "'x.parquet'", "files[4]"],
    ),
    "list: two names of one entry": (
        listed(alerts={"name": "features.parquet"}),
        ["files[0].name", "'features.parquet'", "'alerts.parquet', as files[0].filename says"],
    ),
    "list: no name": (listed({"checksum": OTHER}), ["files[4]", OTHER[:9], '"filename"']),
    "list: an entry as a string": (listed("alerts.parquet"), ["files[4]", "found 'alerts.parquet'"]),
    "list: an entry null": (listed(None), ["files[4]", "found None"]),
    # names, also of what we do not ingest
    "name with a folder": (
        current(files={"a/b.parquet": OTHER}),
        [NAME_KEY.format("a/b.parquet"), "'a/b.parquet'"],
    ),
    "absolute name": (current(files={"/etc/passwd": OTHER}), [NAME_KEY.format("/etc/passwd")]),
    "name that climbs": (current(files={"..": OTHER}), [NAME_KEY.format(".."), "found '..'"]),
    "name with two dots": (current(files={"a..parquet": OTHER}), [NAME_KEY.format("a..parquet")]),
    "name of a folder": (current(files={".": OTHER}), [NAME_KEY.format("."), "found '.'"]),
    "name with a backslash": (current(files={"a\\b": OTHER}), ["'a\\\\b'"]),
    "name with NUL": (current(files={"a\0": OTHER}), [r"""["a\u0000"]""", r"'a\x00'"]),
    "name with a newline": (current(files={"a\nb": OTHER}), [r"""["a\nb"]""", r"'a\nb'"]),
    "name with an escape": (current(files={"\x1b[2J": OTHER}), [r"""\u001b[2J""", r"'\x1b[2J'"]),
    "name that turns the line": (current(files={"a\u202eb": OTHER}), [r"'a\u202eb'"]),
    "name with a lone surrogate": (current(files={"a\ud800": OTHER}), [r"'a\ud800'"]),
    "empty name": (current(files={"": OTHER}), [NAME_KEY.format(""), "found ''"]),
    "long name": (current(files={"x" * 256: OTHER}), ['sha256["xxxx', "found 'xxxx", "255"]),
    "long name in bytes": (current(files={"ß" * 128: OTHER}), ["found 'ßßßß", "255"]),
    "list: name with a path": (listed({"filename": "../x"}), ["files[4].filename", "found '../x'"]),
    "list: name as a number": (listed({"name": 7}), ["files[4].name", "found 7"]),
    "list: name null": (listed(alerts={"filename": None}), ["files[0].filename", "found None"]),
    "legacy: name with a path": (legacy({"x/y": {}}), ['files["x/y"]', "found 'x/y'"]),
    # digests
    "digest null": (
        current(files={"alerts.parquet": None}),
        [NAME_KEY.format("alerts.parquet"), "found None"],
    ),
    "digest empty": (current(files={"alerts.parquet": ""}), [NAME_KEY.format("alerts.parquet"), "found ''"]),
    "digest as an object": (
        current(files={"alerts.parquet": {"sha256": ALERTS}}),
        [NAME_KEY.format("alerts.parquet"), "found {'sha256'"],
    ),
    "digest too short": (
        current(files={"alerts.parquet": ALERTS[:-1]}),
        [NAME_KEY.format("alerts.parquet"), ALERTS[:9]],
    ),
    "digest too long": (
        current(files={"alerts.parquet": ALERTS + "0"}),
        [ALERTS[:9], "sha256 in 64 hex digits"],
    ),
    "digest not hex": (
        current(files={"alerts.parquet": "g" * 64}),
        ["found 'ggg", "sha256 in 64 hex digits"],
    ),
    "digest with a newline": (
        current(files={"alerts.parquet": ALERTS + "\n"}),
        [r"\n'", "sha256 in 64 hex digits"],
    ),
    "digest in other digits": (
        current(files={"alerts.parquet": "١" * 64}),
        ["found '١١", "sha256 in 64 hex digits"],
    ),
    "prefix in other letters": (current(files={"alerts.parquet": f"ſha256:{ALERTS}"}), ["found 'ſha256"]),
    "another algorithm": (listed(alerts={"checksum": f"crc32:{OTHER}"}), ["files[0].checksum", "'crc32:"]),
    "SHA-256 called MD5": (listed(alerts={"checksum": f"md5:{ALERTS}"}), ["files[0].checksum", "'md5:"]),
    "MD5 under sha256": (
        listed(alerts={"sha256": MD5["alerts.parquet"]}),
        ["files[0].sha256", MD5["alerts.parquet"], "sha256 in 64 hex digits"],
    ),
    "list: no checksum": (
        listed(alerts={"checksum": GONE}),
        ["files[0]", "{'filename': 'alerts.parquet'}", "a checksum"],
    ),
    "list: checksum null": (listed(alerts={"checksum": None}), ["files[0].checksum", "found None"]),
    "list: checksum as a number": (listed(alerts={"checksum": 5}), ["files[0].checksum", "found 5"]),
    "list: two digests": (listed(alerts={"sha256": OTHER}), ["files[0].checksum", ALERTS[:9], OTHER]),
    "list: MD5 by prefix": (
        listed(alerts={"checksum": "md5:" + MD5["alerts.parquet"]}),
        ["files[0]", MD5["alerts.parquet"], "INGESTION_ALLOW_MD5"],
    ),
    "list: MD5 by length": (
        listed(alerts={"checksum": MD5["alerts.parquet"]}),
        ["files[0]", MD5["alerts.parquet"], "INGESTION_ALLOW_MD5"],
    ),
    "legacy: MD5": (legacy(), ['files["alerts.parquet"]', MD5["alerts.parquet"], "INGESTION_ALLOW_MD5"]),
    "legacy: no checksum": (
        legacy({"alerts.parquet": {}}),
        ['files["alerts.parquet"]', "found {}", "a checksum"],
    ),
    "legacy: entry as a string": (
        legacy({"alerts.parquet": ALERTS}),
        ['files["alerts.parquet"]', ALERTS[:9]],
    ),
    "legacy: SHA-256 under md5": (
        legacy({"alerts.parquet": {"md5": ALERTS}}),
        ['files["alerts.parquet"].md5', ALERTS, "md5 in 32 hex digits"],
    ),
    "legacy: bad MD5": (
        legacy({"alerts.parquet": {"md5": "5"}}),
        ['files["alerts.parquet"].md5', "found '5'"],
    ),
}


def refusal(document: object, mentioned: list[str]) -> ManifestError:
    """Return the error that the document earns; MD5 is allowed unless it is what is wrong."""
    data = document if isinstance(document, bytes) else encoded(document)
    with pytest.raises(ManifestError) as caught:
        parse_manifest(data, SNAPSHOT, allow_md5="INGESTION_ALLOW_MD5" not in mentioned)
    check(caught.value)
    return caught.value


def check(error: ManifestError) -> None:
    """Check that an error fits one line of a log, whatever upstream wrote, and helps."""
    assert str(error).startswith("META.json: ")
    assert "found" in str(error)
    assert "expected" in str(error)
    assert str(error).isprintable()
    assert len(str(error)) < 500
    assert len(error.hint) > 20
    assert not error.transient


@pytest.mark.parametrize(("document", "mentioned"), REFUSED.values(), ids=REFUSED)
def test_refused(document: object, mentioned: list[str]) -> None:
    """One thing is wrong; the error says where it is and what was found."""
    error = refusal(document, mentioned)
    for words in mentioned:
        assert words in str(error)


def test_hints_say_what_to_do() -> None:
    """Most errors are upstream's to mend; where something else helps, the hint says that."""
    hints = {name: refusal(document, mentioned).hint for name, (document, mentioned) in REFUSED.items()}
    assert hints["digest null"] == HINT
    assert "cut short" in hints["an error page"]
    assert "format" in hints["version 2"]
    assert "folder" in hints["another date"]
    assert "INGESTION_ALLOW_MD5" in hints["legacy: MD5"]


def test_a_manifest_of_the_greatest_size_is_read() -> None:
    """The bound is 1 MiB, not less."""
    data = encoded(current()).ljust(MAX_MANIFEST_BYTES)
    assert parse_manifest(data, SNAPSHOT, allow_md5=False).files["raw_alerts"].digest == ALERTS


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(codec=None)),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(st.characters(codec=None)), inner, max_size=4),
    max_leaves=12,
)
#: What a mutation puts into a place: anything, and values that nearly fit.
NEARLY = JSON | st.sampled_from(
    [
        *STEMS,
        *SHA256,
        *SHA256.values(),
        *MD5.values(),
        "torus",
        "2025-08-01",
        195,
        0,
        -1,
        2**63,
        195.0,
        "..",
        "sha256:",
        "md5:",
    ]
)
NAMES = st.text(st.characters(codec=None)) | st.sampled_from(
    [
        *STEMS,
        *SHA256,
        "raw_alerts.parquet",
        "sha256",
        "md5",
        "checksum",
        "files",
        "name",
        "rows",
        "bytes",
        "../x",
    ]
)
DOCUMENTS = st.sampled_from(
    [current(), listed(alerts={"rows": 1, "size": 2}), legacy(), listed(**current(sha256=GONE))]
)


@st.composite
def mutated(draw: st.DrawFn) -> Json:
    """Return a valid manifest with one field replaced, renamed, added or taken away."""
    document = deepcopy(draw(DOCUMENTS))
    place: Any = document
    while True:
        key = draw(st.sampled_from(list(place) if isinstance(place, dict) else list(range(len(place)))))
        if not (isinstance(place[key], dict | list) and place[key] and draw(st.booleans())):
            break
        place = place[key]
    match draw(st.sampled_from(["replace", "rename", "add", "remove"])):
        case "replace":
            place[key] = draw(NEARLY)
        case "remove":
            del place[key]
        case "rename" if isinstance(place, dict):
            place[draw(NAMES)] = place.pop(key)
        case _ if isinstance(place, dict):
            place[draw(NAMES)] = draw(NEARLY)
        case _:
            place.append(draw(NEARLY))
    return document


def check_parse(data: bytes, *, allow_md5: bool) -> None:
    """Check that the bytes are refused as every manifest is, or give four files with digests."""
    try:
        manifest = parse_manifest(data, SNAPSHOT, allow_md5=allow_md5)
    except ManifestError as error:
        check(error)
        return
    assert list(manifest.files) == [table.name for table in TABLES]
    for table in TABLES:
        entry = manifest.files[table.name]
        assert entry.table == table.name
        assert entry.name in table.file_names
        assert re.fullmatch(r"[0-9a-f]+", entry.digest)
        assert len(entry.digest) == {"sha256": 64, "md5": 32}[entry.algorithm]
        assert allow_md5 or entry.algorithm == "sha256"
        assert all(count is None or (type(count) is int and count >= 0) for count in (entry.size, entry.rows))


@settings(deadline=None)  # a busy machine is not a defect
@given(data=st.binary(), allow_md5=st.booleans())
def test_any_bytes(data: bytes, allow_md5: bool) -> None:
    """No bytes make it fail in another way."""
    check_parse(data, allow_md5=allow_md5)


@settings(deadline=None)  # a busy machine is not a defect
@given(document=JSON, allow_md5=st.booleans())
def test_any_json(document: object, allow_md5: bool) -> None:
    """No JSON makes it fail in another way."""
    check_parse(encoded(document), allow_md5=allow_md5)


@settings(deadline=None)  # a busy machine is not a defect
@given(document=mutated(), allow_md5=st.booleans())
def test_any_manifest_with_one_thing_changed(document: Json, allow_md5: bool) -> None:
    """Neither does a manifest that is nearly right, and one that is accepted is whole."""
    check_parse(encoded(document), allow_md5=allow_md5)


@settings(deadline=None)  # a busy machine is not a defect
@given(data=st.data(), place=st.integers(0, len(encoded(current())) - 1))
def test_any_manifest_with_one_byte_changed(data: st.DataObject, place: int) -> None:
    """A damaged transfer included."""
    sound = encoded(current())
    byte = data.draw(st.binary(max_size=3))
    check_parse(sound[:place] + byte + sound[place + 1 :], allow_md5=data.draw(st.booleans()))


@pytest.mark.parametrize("depth", [10, 100, 300, 900, 990, 1000, 5000])
def test_nesting_at_every_depth(depth: int) -> None:
    """A value that the decoder still takes is not too deep for the message either."""
    check_parse(b'{"network": ' + b"[" * depth + b"]" * depth + b"}", allow_md5=False)
