"""Facts about the two file sources: a real S3 API over HTTP, a network that breaks it, a real directory."""

from __future__ import annotations

import errno
import itertools
import os
import pickle
import subprocess
import sys
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import boto3
import pytest
from moto.server import ThreadedMotoServer

from pipeline.errors import FileError, ManifestError, PipelineError, SourceError, SourceUnavailableError
from pipeline.manifest import MAX_MANIFEST_BYTES
from pipeline.retry import RetryPolicy
from pipeline.snapshot import Snapshot
from pipeline.sources import PIECE_BYTES, RemoteFile, Source
from pipeline.sources.directory import DirectorySource
from pipeline.sources.s3 import S3Source
from tests.support.misbehaving import Fault, Misbehaving, broken, chunked, headers, page, refused, resized

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

SAMPLES = Path(__file__).parents[1] / "samples"
SNAPSHOT = Snapshot("torus", date(2025, 8, 1), 195)
KEY = f"{SNAPSHOT.folder}/alerts.parquet"
BYTES = bytes(range(256)) * 8192  # 2 MiB in which every offset is recognisable within its 256
SECRET, TOKEN = "canary/secret", "canary/token"
HASTY = RetryPolicy(first_wait=0.0, read_timeout=5.0)
BUSY = refused(503, "SlowDown")

_numbers = itertools.count()


@dataclass(frozen=True)
class Bucket:
    """One bucket of the real API, and the network through which the source sees it."""

    name: str
    s3: S3Client
    network: Misbehaving

    def put(self, key: str, data: bytes) -> None:
        """Put an object past the network."""
        self.s3.put_object(Bucket=self.name, Key=key, Body=data)

    def source(self, *, prefix: str = "", anonymous: bool = False, policy: RetryPolicy = HASTY) -> S3Source:
        """Return the source behind the network."""
        return S3Source(
            self.name,
            endpoint=self.network.url,
            region="us-east-1",
            prefix=prefix,
            anonymous=anonymous,
            policy=policy,
        )


class Shelf(Protocol):
    """Something to put objects on, and the source that reads them."""

    def put(self, key: str, data: bytes) -> None:
        """Put an object, or put it again."""

    def source(self) -> Source:
        """Return what reads it."""


@dataclass(frozen=True)
class Folder:
    """A directory in the bucket's layout."""

    path: Path

    def put(self, key: str, data: bytes) -> None:
        """Write a file, in place when it is there."""
        path = self.path / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)

    def source(self) -> DirectorySource:
        """Return the source of the directory."""
        return DirectorySource(self.path)


@pytest.fixture(scope="session")
def s3_server() -> Iterator[tuple[str, int]]:
    """Moto over HTTP."""
    server = ThreadedMotoServer(port=0, verbose=False)
    server.start()
    yield server.get_host_and_port()
    server.stop()


@pytest.fixture(scope="session")
def s3(s3_server: tuple[str, int]) -> S3Client:
    """Return the publisher's client."""
    return boto3.client(
        "s3",
        endpoint_url="http://{}:{}".format(*s3_server),
        region_name="us-east-1",
        aws_access_key_id="publisher",
        aws_secret_access_key="publisher",
    )


@pytest.fixture(autouse=True)
def _credentials(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Whatever this machine is configured with stays out."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAEXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.setenv("AWS_SESSION_TOKEN", TOKEN)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


@pytest.fixture
def bucket(s3: S3Client, s3_server: tuple[str, int]) -> Iterator[Bucket]:
    """An empty bucket of its own for each test."""
    name = f"sot-{next(_numbers)}"
    s3.create_bucket(Bucket=name)
    with Misbehaving(s3_server).running() as network:
        yield Bucket(name, s3, network)


@pytest.fixture(params=["s3", "directory"])
def shelf(request: pytest.FixtureRequest, tmp_path: Path) -> Shelf:
    """An empty bucket, and an empty directory."""
    if request.param == "directory":
        (tmp_path / "root").mkdir()
        return Folder(tmp_path / "root")
    found: Bucket = request.getfixturevalue("bucket")
    return found


def found(source: Source, key: str = KEY) -> RemoteFile:
    """Return the object that a test has put there."""
    file = source.find(key)
    assert file is not None
    return file


def read(source: Source, key: str = KEY) -> bytes:
    """Return its bytes."""
    return b"".join(source.read(found(source, key)))


def failure(kind: type[PipelineError], action: Callable[[], object]) -> PipelineError:
    """Return the error that is raised, having looked for secrets in everything that it would print."""
    with pytest.raises(kind) as caught:
        action()
    error = caught.value
    assert error.transient == kind.transient
    printed = "".join((*traceback.format_exception(error), repr(error), error.hint))
    assert "canary" not in printed
    assert "Signature=" not in printed
    return error


# What both sources do


def test_a_file_is_read_as_it_was_put(shelf: Shelf) -> None:
    """find tells the size, read gives the bytes, in pieces of at most 1 MiB."""
    shelf.put(KEY, BYTES)
    source = shelf.source()
    file = found(source)
    pieces = list(source.read(file))
    assert (file.key, file.size) == (KEY, len(BYTES))
    assert b"".join(pieces) == BYTES
    assert 0 < max(map(len, pieces)) <= 1 << 20


@pytest.mark.parametrize("size", [0, 1, PIECE_BYTES, PIECE_BYTES + 1])
def test_a_file_of_any_size_is_read_whole(shelf: Shelf, size: int) -> None:
    """Nothing, one byte, exactly one piece, one byte more."""
    shelf.put(KEY, BYTES[:size])
    assert read(shelf.source()) == BYTES[:size]


@pytest.mark.parametrize("key", [KEY, SNAPSHOT.folder, f"{KEY}/below"])
def test_what_is_not_there_is_none(shelf: Shelf, key: str) -> None:
    """An object that is missing, a folder, and something below an object are no objects."""
    if key != KEY:
        shelf.put(KEY, b"")
    assert shelf.source().find(key) is None


def test_a_missing_manifest_is_none(shelf: Shelf) -> None:
    """That nothing was published yet is no error."""
    source = shelf.source()
    assert source.manifest_uri(SNAPSHOT) is None
    assert source.read_manifest(SNAPSHOT) is None
    assert list(source.manifests("torus")) == []


def test_the_manifest_comes_with_the_uri_of_its_version(shelf: Shelf) -> None:
    """Asking for the URI and reading the manifest agree, until it is published again."""
    source = shelf.source()
    shelf.put(SNAPSHOT.manifest_key, b"{}")
    first = source.read_manifest(SNAPSHOT)
    assert first is not None
    assert first.data == b"{}"
    assert first.uri == source.manifest_uri(SNAPSHOT)
    assert first.uri.startswith(f"{source.uri}/{SNAPSHOT.manifest_key}#")
    shelf.put(SNAPSHOT.manifest_key, b'{"again": 1}')
    assert source.manifest_uri(SNAPSHOT) != first.uri


@pytest.mark.parametrize("excess", [0, 1])
def test_a_manifest_has_at_most_1_mib(shelf: Shelf, excess: int) -> None:
    """1 MiB is read; one byte more is refused and the message names the object."""
    shelf.put(SNAPSHOT.manifest_key, bytes(MAX_MANIFEST_BYTES + excess))
    source = shelf.source()
    if excess:
        error = failure(ManifestError, lambda: source.read_manifest(SNAPSHOT))
        assert SNAPSHOT.manifest_key in str(error)
    else:
        manifest = source.read_manifest(SNAPSHOT)
        assert manifest is not None
        assert len(manifest.data) == MAX_MANIFEST_BYTES


def test_manifests_come_newest_first(shelf: Shelf) -> None:
    """By processing date, whatever the window; other networks and other files do not count."""
    snapshots = [
        Snapshot("torus", date(2025, 8, 2), 7),
        Snapshot("torus", date(2025, 8, 1), 195),
        Snapshot("torus", date(2025, 8, 1), 30),
        Snapshot("torus", date(2024, 12, 31), 195),
    ]
    for snapshot in (snapshots[2], snapshots[0], snapshots[3], snapshots[1]):
        shelf.put(snapshot.manifest_key, b"{}")
    for key in (
        "snapshots/torus2/2025-08-09/195/META.json",
        "snapshots/bitcoin/2025-08-09/195/META.json",
        "snapshots/torus/2025-08-09/195/alerts.parquet",
        "snapshots/torus/20250809/195/META.json",  # dates that Python reads and upstream does not write
        "snapshots/torus/2025-08-09/0195/META.json",
        "snapshots/torus/latest/195/META.json",
        "snapshots/torus/2025-08-09/META.json",
        "snapshots/torus/META.json",
    ):
        shelf.put(key, b"{}")
    assert list(shelf.source().manifests("torus")) == snapshots


def test_a_file_that_was_replaced_is_not_read(shelf: Shelf) -> None:
    """What is read is what was found, or an error."""
    shelf.put(KEY, b"old")
    source = shelf.source()
    file = found(source)
    shelf.put(KEY, b"newer")
    error = failure(FileError, lambda: list(source.read(file)))
    assert KEY in str(error)
    assert not error.transient


def test_the_samples_are_a_source() -> None:
    """They are laid out like the bucket, with labels beside the snapshots."""
    source = DirectorySource(SAMPLES)
    newest, *older = source.manifests("torus")
    assert (newest, older) == (Snapshot("torus", date(2025, 8, 2), 195), [SNAPSHOT])
    assert found(source, SNAPSHOT.shared_labels_key).size == len(read(source, SNAPSHOT.shared_labels_key))


def test_a_source_is_not_asked_before_it_is_used(tmp_path: Path) -> None:
    """Making a source reaches for nothing: settings can be wrong and still be reported together."""
    assert DirectorySource(tmp_path / "none").uri.endswith("/none")
    assert S3Source("b", endpoint="http://127.0.0.1:9", region=None).uri == "s3://b"


def test_importing_the_sources_does_not_import_boto3() -> None:
    """It costs 0.3 to 0.6 s, in every process that luigi starts."""
    program = "import pipeline.sources.s3, sys; sys.exit('boto3' in sys.modules or 'botocore' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


# S3, names and versions


@pytest.mark.parametrize("prefix", ["exports/eu", "/exports/eu/", "exports/eu/"])
def test_a_prefix_may_have_slashes_at_its_ends(bucket: Bucket, prefix: str) -> None:
    """Keys are relative to it, in both directions."""
    bucket.put(f"exports/eu/{SNAPSHOT.manifest_key}", b"{}")
    bucket.put(f"exports/eu/{KEY}", b"rows")
    source = bucket.source(prefix=prefix)
    assert source.uri == f"s3://{bucket.name}/exports/eu"
    assert read(source) == b"rows"
    assert list(source.manifests("torus")) == [SNAPSHOT]
    assert (source.manifest_uri(SNAPSHOT) or "").startswith(f"{source.uri}/{SNAPSHOT.manifest_key}#")


def test_the_version_of_a_manifest_is_etag_time_and_size(bucket: Bucket) -> None:
    """The ETag alone would do for S3; stores that compute it otherwise exist."""
    bucket.put(SNAPSHOT.manifest_key, b"{}")
    head = bucket.s3.head_object(Bucket=bucket.name, Key=SNAPSHOT.manifest_key)
    etag, seconds = head["ETag"].strip('"'), int(head["LastModified"].timestamp())
    assert (bucket.source().manifest_uri(SNAPSHOT) or "").endswith(f"#{etag}-{seconds}-2")


def test_the_version_in_a_versioned_bucket_is_the_version_id(bucket: Bucket) -> None:
    """The same bytes put again are another version; versions from before versioning are all called null."""
    bucket.put(SNAPSHOT.manifest_key, b"{}")
    bucket.s3.put_bucket_versioning(Bucket=bucket.name, VersioningConfiguration={"Status": "Enabled"})
    bucket.network.plan("HEAD", headers(x_amz_version_id="null"))  # as S3 answers, unlike moto
    source = bucket.source()
    assert not (source.manifest_uri(SNAPSHOT) or "null").endswith("null")
    put = bucket.s3.put_object(Bucket=bucket.name, Key=SNAPSHOT.manifest_key, Body=b"{}")
    assert (source.manifest_uri(SNAPSHOT) or "").endswith(f"#{put['VersionId']}")
    manifest = source.read_manifest(SNAPSHOT)
    assert manifest is not None
    assert manifest.uri == source.manifest_uri(SNAPSHOT)


def test_a_listing_goes_over_pages(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    """S3 gives 1,000 keys at a time (here 2); a page that fails is asked for again, and only that one."""
    monkeypatch.setenv("MOTO_S3_DEFAULT_MAX_KEYS", "2")
    snapshots = [Snapshot("torus", date(2025, 8, day), 195) for day in range(5, 0, -1)]
    for snapshot in snapshots:
        bucket.put(snapshot.manifest_key, b"{}")
    bucket.network.plan("GET", BUSY, headers(), BUSY)
    assert list(bucket.source().manifests("torus")) == snapshots
    assert len(bucket.network.gets()) == 3 + 2


@pytest.mark.parametrize(
    ("keys", "token"),
    [("a{}", "same"), ("a", "{}"), ("", "{}"), ("a{}", "{}")],
    ids=["the same token", "the same keys", "no keys", "always more"],
)
def test_a_listing_that_does_not_end_is_refused(
    bucket: Bucket, monkeypatch: pytest.MonkeyPatch, keys: str, token: str
) -> None:
    """Each page promises another: the list is given up when it goes round, or after many pages."""
    monkeypatch.setattr("pipeline.sources.s3.MOST_PAGES", 20)
    pages = [_page(keys.format(number), token.format(number)) for number in range(30)]
    bucket.network.aim("GET", "", *pages, alone=True)
    error = failure(SourceError, lambda: list(bucket.source().manifests("torus")))
    assert "snapshots/torus/: a list without an end" in str(error)
    assert len(bucket.network.asked) <= 20


_KEY = "<Contents><Key>snapshots/torus/2025-08-01/195/META.json</Key></Contents>"
_ENDS = "<IsTruncated>false</IsTruncated>"


_BROKEN = {
    "no token": (f"<IsTruncated>true</IsTruncated>{_KEY}", "NextContinuationToken"),
    "no token and no keys": ("<IsTruncated>true</IsTruncated>", "NextContinuationToken"),
    "an empty token": ("<IsTruncated>true</IsTruncated><NextContinuationToken/>", "NextContinuationToken"),
    "no end": (_KEY, "IsTruncated"),
    "another page": ("<html><body>Sign in</body></html>", "IsTruncated"),
    "fewer keys than it says": (f"{_ENDS}<KeyCount>2</KeyCount>{_KEY}", "1 of 2 keys"),
    "an entry without its key": (f"{_ENDS}<Contents><Size>1</Size></Contents>", "Key"),
    "another folder": (f"{_ENDS}{_KEY.replace('torus', 'other')}", "snapshots/other/"),
}


@pytest.mark.parametrize(("answer", "said"), [*_BROKEN.values(), (None, "IsTruncated")], ids=[*_BROKEN, "nothing"])
def test_a_listing_that_is_broken_is_refused(bucket: Bucket, answer: str | None, said: str) -> None:
    """What does not say that it is whole is no list; it must not pass for one that ends, or for an empty one."""
    document = "" if answer is None else f"<ListBucketResult>{answer}</ListBucketResult>"
    bucket.network.aim("GET", "", page(200, document), lasting=True, alone=True)
    error = failure(SourceError, lambda: list(bucket.source().manifests("torus")))
    assert said in str(error)
    assert "SOT_S3_ENDPOINT" in error.hint


def test_a_listing_that_goes_round_is_refused(bucket: Bucket) -> None:
    """However many pages the round has."""
    bucket.network.aim("GET", "", *[_page(name, name) for name in "abcabc"], alone=True)
    error = failure(SourceError, lambda: list(bucket.source().manifests("torus")))
    assert "a list without an end" in str(error)
    assert len(bucket.network.asked) == 4


def _page(key: str, token: str) -> Fault:
    """One page of a list that promises another."""
    content = f"<Contents><Key>snapshots/torus/{key}</Key></Contents>" if key else ""
    text = (
        f"<ListBucketResult><IsTruncated>true</IsTruncated>{content}"
        f"<NextContinuationToken>{token}</NextContinuationToken></ListBucketResult>"
    )
    return page(200, text)


def test_anonymous_requests_are_not_signed(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    """A public object is read without any credentials; a private one is refused with a hint."""
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    bucket.s3.put_object(Bucket=bucket.name, Key=KEY, Body=b"rows", ACL="public-read")
    bucket.put("private", b"rows")
    source = bucket.source(anonymous=True)
    assert read(source) == b"rows"
    assert all("authorization" not in asked.headers for asked in bucket.network.asked)
    assert "s3:ListBucket" in failure(SourceError, lambda: source.find("private")).hint


def test_a_forked_process_opens_its_own_connection(bucket: Bucket) -> None:
    """Luigi forks per task; two processes on one connection would read each other's answers."""
    bucket.put(KEY, b"rows")
    source = bucket.source()
    assert read(source) == b"rows"
    child = os.fork()
    if child == 0:
        os._exit(0 if read(source) == b"rows" else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert read(source) == b"rows"
    ports = [asked.client_port for asked in bucket.network.asked]
    assert ports[0] == ports[1] == ports[4] == ports[5]
    assert ports[2] == ports[3] != ports[0]


# S3, a network that fails


@pytest.mark.parametrize("then", ["reset", "close"])
@pytest.mark.parametrize("after", [0.0, 0.0001, 0.5, 0.999])
def test_a_broken_body_is_resumed_where_it_broke(bucket: Bucket, then: str, after: float) -> None:
    """The bytes are exact, and the second request asks from the first byte that has not arrived."""
    bucket.put(KEY, BYTES)
    bucket.network.plan("GET", broken(then, after))
    source = bucket.source()
    arrived = 0
    starts = set()
    for piece in source.read(found(source)):
        assert piece == BYTES[arrived : arrived + len(piece)]
        starts.add(arrived)
        arrived += len(piece)
    assert arrived == len(BYTES)
    first, second = bucket.network.gets()
    resumed = int(second.removeprefix("bytes=").removesuffix("-")) if second else 0
    assert first is None
    assert resumed in starts
    assert resumed <= len(BYTES) * after


def test_a_body_that_closes_early_loses_nothing(bucket: Bucket) -> None:
    """What arrived before the end is used to the byte: no byte is asked for twice."""
    bucket.put(KEY, BYTES)
    bucket.network.plan("GET", broken("close", 0.25), broken("close", 0.5), broken("close", 0.5))
    assert read(bucket.source()) == BYTES
    size = len(BYTES)
    assert bucket.network.gets() == [None, *(f"bytes={size * part // 16}-" for part in (4, 10, 13))]


def test_every_range_is_asked_of_the_version_that_was_found(bucket: Bucket) -> None:
    """If-Match goes with every GET."""
    bucket.put(KEY, BYTES)
    bucket.network.plan("GET", broken("close", 0.5))
    source = bucket.source()
    file = found(source)
    assert b"".join(source.read(file)) == BYTES
    gets = [asked for asked in bucket.network.asked if asked.method == "GET"]
    assert [asked.headers["if-match"] for asked in gets] == [file.version] * 2


def test_a_body_that_stalls_is_resumed(bucket: Bucket) -> None:
    """After the read timeout, and not before: a slow network is not a dead one."""
    bucket.put(KEY, BYTES)
    bucket.network.plan("GET", broken("stall", 0.5))
    assert read(bucket.source(policy=RetryPolicy(first_wait=0.0, read_timeout=0.3))) == BYTES
    assert len(bucket.network.gets()) == 2


def test_progress_resets_the_count_of_tries(bucket: Bucket) -> None:
    """Twelve breaks are no reason to give up while each brings bytes; five in a row without are."""
    bucket.put(KEY, BYTES)
    source = bucket.source()
    bucket.network.plan("GET", *[broken("close", 0.1), BUSY, BUSY, BUSY, BUSY] * 3)
    assert read(source) == BYTES
    bucket.network.plan("GET", broken("close", 0.1), *[BUSY] * 5)
    error = failure(SourceUnavailableError, lambda: read(source))
    assert "5 tries" in str(error)


@pytest.mark.parametrize("then", ["keep", "close"])
def test_a_break_after_the_last_byte_asks_for_nothing_more(bucket: Bucket, then: str) -> None:
    """Chunks can break between the last byte and their end; S3 answers 416 to a range of no bytes."""
    bucket.put(KEY, BYTES)
    bucket.network.plan("GET", chunked(then=then))
    assert read(bucket.source()) == BYTES
    assert bucket.network.gets() == [None]


def test_a_reader_that_stops_early_gives_the_connection_back(bucket: Bucket) -> None:
    """Closing the iterator is no error and no retry."""
    bucket.put(KEY, BYTES)
    source = bucket.source()
    pieces = source.read(found(source))
    assert next(pieces) == BYTES[:PIECE_BYTES]
    pieces.close()  # type: ignore[attr-defined]  # the protocol promises an iterator, this is a generator
    assert read(source) == BYTES
    assert bucket.network.gets() == [None, None]


TRANSIENT = {
    "503 SlowDown": BUSY,
    "500 InternalError": refused(500, "InternalError"),
    "502 from a proxy": page(502, "<html>Bad Gateway</html>"),
    "503 without a body": refused(503, ""),
    "504 from a proxy": page(504, "gateway timeout"),
    "429": refused(429, "TooManyRequests"),
    "reset": broken("reset", 0.0),
    "closed": broken("close", 0.0),
}


@pytest.mark.parametrize(
    ("operation", "fault"),
    [
        *[("read", name) for name in TRANSIENT],
        *itertools.product(("find", "read_manifest", "manifests"), ("503 without a body", "closed")),
    ],
)
def test_what_passes_is_waited_for(bucket: Bucket, operation: str, fault: str) -> None:
    """Four failures are survived, by every operation; the fifth in a row is reported as transient."""
    bucket.put(KEY, b"rows")
    bucket.put(SNAPSHOT.manifest_key, b"{}")
    source = bucket.source()
    actions: dict[str, Callable[[], object]] = {
        "find": lambda: source.find(KEY),
        "read": lambda: b"".join(
            source.read(RemoteFile(KEY, 4, bucket.s3.head_object(Bucket=bucket.name, Key=KEY)["ETag"]))
        ),
        "read_manifest": lambda: source.read_manifest(SNAPSHOT),
        "manifests": lambda: list(source.manifests("torus")),
    }
    method = "HEAD" if operation == "find" else "GET"
    bucket.network.plan(method, *[TRANSIENT[fault]] * 4)
    assert actions[operation]()
    bucket.network.plan(method, *[TRANSIENT[fault]] * 5)
    error = failure(SourceUnavailableError, actions[operation])
    assert error.transient
    assert len(bucket.network.asked) == 10
    assert "5 tries" in str(error)
    assert f"s3://{bucket.name}/snapshots/torus/" in str(error)


def test_a_request_that_s3_found_too_slow_is_tried_again(bucket: Bucket) -> None:
    """RequestTimeout is a 400 that passes."""
    bucket.put(KEY, b"rows")
    bucket.network.plan("GET", refused(400, "RequestTimeout"))
    assert read(bucket.source()) == b"rows"


def test_a_manifest_that_breaks_is_read_again_from_the_start(bucket: Bucket) -> None:
    """Its version may have changed in between."""
    bucket.put(SNAPSHOT.manifest_key, BYTES[:1000])
    bucket.network.plan("GET", broken("close", 0.5), broken("reset", 0.5))
    manifest = bucket.source().read_manifest(SNAPSHOT)
    assert manifest is not None
    assert manifest.data == BYTES[:1000]
    assert bucket.network.gets() == [None] * 3


def test_half_a_listing_is_not_a_listing(bucket: Bucket) -> None:
    """XML that was cut is asked for again, even when the length was right."""
    bucket.put(SNAPSHOT.manifest_key, b"{}")
    bucket.network.plan("GET", resized(-40), broken("close", 0.5))
    assert list(bucket.source().manifests("torus")) == [SNAPSHOT]


PERMANENT = {
    "403": (refused(403, ""), "SOT_S3_ANONYMOUS"),
    "AccessDenied": (refused(403, "AccessDenied", "canary"), "SOT_S3_ANONYMOUS"),
    "InvalidAccessKeyId": (refused(403, "InvalidAccessKeyId"), "AWS_ACCESS_KEY_ID"),
    "SignatureDoesNotMatch": (refused(403, "SignatureDoesNotMatch", "canary"), "AWS_ACCESS_KEY_ID"),
    "ExpiredToken": (refused(400, "ExpiredToken"), "credentials"),
    "401 from a proxy": (page(401, "<html>canary</html>"), "credentials"),
    "301": (refused(301, ""), "SOT_S3_REGION"),
    "PermanentRedirect": (refused(301, "PermanentRedirect"), "SOT_S3_ENDPOINT"),
    "AuthorizationHeaderMalformed": (refused(400, "AuthorizationHeaderMalformed"), "SOT_S3_REGION"),
    "NoSuchBucket": (refused(404, "NoSuchBucket"), "SOT_S3_BUCKET"),
    "RequestTimeTooSkewed": (refused(403, "RequestTimeTooSkewed"), "clock"),
    "InvalidObjectState": (refused(403, "InvalidObjectState"), "archive"),
    "400": (refused(400, ""), "credentials"),
    "418": (page(418, "canary"), "SOT_S3_ENDPOINT"),
    "no ETag": (headers(etag=None), "SOT_S3_ENDPOINT"),
}


@pytest.mark.parametrize(("fault", "hint"), PERMANENT.values(), ids=PERMANENT)
def test_a_refusal_is_not_tried_again(bucket: Bucket, fault: Fault, hint: str) -> None:
    """It names operation and object, and what the operator can do; what the server says is not repeated."""
    bucket.put(SNAPSHOT.manifest_key, b"{}")
    bucket.network.plan("GET", fault)
    error = failure(SourceError, lambda: bucket.source().read_manifest(SNAPSHOT))
    assert f"GetObject s3://{bucket.name}/{SNAPSHOT.manifest_key}" in str(error)
    assert hint in error.hint
    assert not error.transient
    assert len(bucket.network.gets()) == 1


def test_an_endpoint_that_redirects_everything(bucket: Bucket) -> None:
    """Http to https, say: botocore alone would follow its own question until Python's stack ends."""
    bucket.network.plan("HEAD", *[refused(301, "")] * 99)
    error = failure(SourceError, lambda: bucket.source().find(KEY))
    assert "SOT_S3_ENDPOINT" in error.hint
    assert len(bucket.network.asked) == 1


def test_a_region_that_s3_corrects_is_taken(bucket: Bucket) -> None:
    """The answer to a request in the wrong region names the right one; botocore goes there."""
    bucket.put(KEY, b"rows")
    elsewhere = refused(301, "PermanentRedirect")
    bucket.network.plan("HEAD", lambda answer: elsewhere(answer).with_headers(x_amz_bucket_region="eu-west-1"))
    assert read(bucket.source()) == b"rows"
    assert "/eu-west-1/s3/" in bucket.network.asked[1].headers["authorization"]


@pytest.mark.parametrize("operation", ["find", "manifest_uri", "read_manifest", "manifests"])
def test_a_missing_bucket_is_not_a_missing_object(bucket: Bucket, operation: str) -> None:
    """HEAD answers 404 to both, without a body."""
    source = S3Source("no-such-bucket", endpoint=bucket.network.url, region="us-east-1", policy=HASTY)
    actions: dict[str, Callable[[], object]] = {
        "find": lambda: source.find(KEY),
        "manifest_uri": lambda: source.manifest_uri(SNAPSHOT),
        "read_manifest": lambda: source.read_manifest(SNAPSHOT),
        "manifests": lambda: list(source.manifests("torus")),
    }
    error = failure(SourceError, actions[operation])
    assert "no-such-bucket" in str(error)
    assert "SOT_S3_BUCKET" in error.hint


def test_a_bucket_that_may_not_be_listed_exists(bucket: Bucket) -> None:
    """403 to HeadBucket is an answer: the object is missing, not the bucket. 503 is none."""
    source = bucket.source()
    bucket.network.plan("HEAD", headers(), refused(403, ""))
    assert source.find(KEY) is None
    bucket.network.plan("HEAD", *[headers(), refused(503, "")] * 5)
    failure(SourceUnavailableError, lambda: source.find(KEY))


@pytest.mark.parametrize(
    ("endpoint", "kind", "hint"),
    [
        ("http://127.0.0.1:9", SourceUnavailableError, "SOT_S3_ENDPOINT"),
        ("http://user:canary@127.0.0.1:9", SourceUnavailableError, "SOT_S3_ENDPOINT"),
        ("http://nowhere.invalid", SourceUnavailableError, "SOT_S3_ENDPOINT"),
        ("nonsense", SourceError, "SOT_S3_ENDPOINT"),
        ("http://user:canary@127.0.0.1:port", SourceError, "SOT_S3_ENDPOINT"),
        ("http://[::1", SourceError, "SOT_S3_ENDPOINT"),
        ("ftp://127.0.0.1", SourceError, "SOT_S3_ENDPOINT"),
    ],
)
def test_an_endpoint_that_is_not_there(endpoint: str, kind: type[SourceError], hint: str) -> None:
    """Nobody listening passes; what is no URL does not. A password in it is not repeated."""
    source = S3Source("sot", endpoint=endpoint, region="us-east-1", policy=HASTY)
    error = failure(kind, lambda: source.find(KEY))
    assert hint in error.hint
    assert "s3://sot/" in str(error)


def test_tls_on_a_plain_port_is_not_waited_for(bucket: Bucket) -> None:
    """https instead of http in the endpoint is a mistake, not an outage."""
    endpoint = bucket.network.url.replace("http:", "https:")
    source = S3Source(bucket.name, endpoint=endpoint, region="us-east-1", policy=HASTY)
    assert "http or https" in failure(SourceError, lambda: source.find(KEY)).hint


@pytest.mark.parametrize("variable", ["AWS_SESSION_TOKEN", "AWS_ACCESS_KEY_ID"])
def test_a_credential_with_a_newline_is_not_repeated(
    bucket: Bucket, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    """A secret read from a file often ends in one; botocore's error then quotes the whole header."""
    monkeypatch.setenv(variable, "canary\n")
    error = failure(SourceError, lambda: bucket.source().find(KEY))
    assert "newline" in error.hint


def test_no_credentials_at_all(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    """The hint names the setting for public buckets."""
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    assert "SOT_S3_ANONYMOUS" in failure(SourceError, lambda: bucket.source().find(KEY)).hint
    assert bucket.network.asked == []


def test_a_profile_that_does_not_exist(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    """The AWS chain's own settings can be wrong too."""
    monkeypatch.setenv("AWS_PROFILE", "nobody")
    assert "credentials" in failure(SourceError, lambda: bucket.source().find(KEY)).hint


def test_a_bucket_name_that_cannot_be_one(bucket: Bucket) -> None:
    """boto3 refuses it before it sends anything."""
    source = S3Source("not a bucket", endpoint=bucket.network.url, region="us-east-1", policy=HASTY)
    assert "SOT_S3_BUCKET" in failure(SourceError, lambda: source.find(KEY)).hint


# S3, an object that changes


def test_a_file_that_is_replaced_between_two_ranges(bucket: Bucket) -> None:
    """No byte of the new version follows the old one's."""
    bucket.put(KEY, BYTES)
    bucket.network.plan("GET", broken("close", 0.5))
    source = bucket.source()
    pieces = source.read(found(source))
    arrived = next(pieces)
    bucket.put(KEY, BYTES[::-1])

    def read_on() -> None:
        nonlocal arrived
        for piece in pieces:
            arrived += piece

    error = failure(FileError, read_on)
    assert arrived == BYTES[: len(BYTES) // 2]
    assert "412" in str(error)
    assert KEY in str(error)
    assert len(bucket.network.gets()) == 2


def test_a_file_that_is_gone(bucket: Bucket) -> None:
    """Deleted between find and read: an error about the file, not about the source."""
    bucket.put(KEY, b"rows")
    source = bucket.source()
    file = found(source)
    bucket.s3.delete_object(Bucket=bucket.name, Key=KEY)
    assert "gone" in str(failure(FileError, lambda: list(source.read(file))))


OTHER_OBJECTS = {
    "shorter": resized(-1),
    "longer": resized(1),
    "longer than it says": chunked(b"more"),
    "empty": resized(-len(BYTES)),
    "another ETag, If-Match ignored": headers(etag='"other"'),
    "412": refused(412, "PreconditionFailed"),
    "404": refused(404, "NoSuchKey"),
    "a part of something larger": headers(content_range=f"bytes 0-{len(BYTES) - 1}/{len(BYTES) + 1}"),
}


@pytest.mark.parametrize("fault", OTHER_OBJECTS.values(), ids=OTHER_OBJECTS)
def test_an_answer_that_is_not_the_file_is_refused(bucket: Bucket, fault: Fault) -> None:
    """At once: asking again would bring the same."""
    bucket.put(KEY, BYTES)
    bucket.network.plan("GET", fault)
    error = failure(FileError, lambda: read(bucket.source()))
    assert KEY in str(error)
    assert len(bucket.network.gets()) == 1


@pytest.mark.parametrize("difference", [-1, 1])
def test_a_wrong_size_is_seen_before_the_first_byte(bucket: Bucket, difference: int) -> None:
    """Content-Length tells: nothing has to be fetched to be thrown away."""
    bucket.put(KEY, BYTES)
    bucket.network.plan("GET", resized(difference))
    source = bucket.source()
    pieces = source.read(found(source))
    failure(FileError, lambda: next(pieces))


OTHER_RANGES = {
    "another start": headers(content_range=f"bytes 0-{len(BYTES) // 2 - 1}/{len(BYTES)}"),
    "another end": headers(content_range=f"bytes {len(BYTES) // 2}-{len(BYTES) - 2}/{len(BYTES)}"),
    "none": headers(content_range=None),
    "nonsense": headers(content_range="half"),
}


@pytest.mark.parametrize("fault", OTHER_RANGES.values(), ids=OTHER_RANGES)
def test_a_range_that_was_not_asked_for_is_not_used(bucket: Bucket, fault: Fault) -> None:
    """The next try may get the right one; none of the wrong one's bytes is yielded."""
    bucket.put(KEY, BYTES)
    source = bucket.source()
    bucket.network.plan("GET", broken("close", 0.5), fault)
    assert read(source) == BYTES
    bucket.network.plan("GET", broken("close", 0.5), *[fault] * 5)
    assert "asked for" in str(failure(SourceUnavailableError, lambda: read(source)))


def test_a_range_of_another_total_is_another_file(bucket: Bucket) -> None:
    """Content-Range tells the size of the whole object."""
    bucket.put(KEY, BYTES)
    half, size = len(BYTES) // 2, len(BYTES)
    bucket.network.plan("GET", broken("close", 0.5), headers(content_range=f"bytes {half}-{size - 1}/{size + 9}"))
    failure(FileError, lambda: read(bucket.source()))


# A directory


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    """A directory with a file and a manifest."""
    root = Folder(tmp_path / "root")
    root.put(KEY, BYTES)
    root.put(SNAPSHOT.manifest_key, b"{}")
    return root


@pytest.mark.parametrize("change", ["append", "cut", "rewrite", "touch"])
@pytest.mark.parametrize("when", ["before", "during"])
def test_a_file_that_changes_while_it_is_read(folder: Folder, change: str, when: str) -> None:
    """Longer, shorter, other bytes, or only another time: all are another version."""
    source = folder.source()
    path = folder.path / KEY
    pieces = source.read(found(source))
    if when == "during":
        next(pieces)
    before = path.stat()
    if change == "append":
        path.write_bytes(BYTES + b"more")
    elif change == "cut":
        os.truncate(path, PIECE_BYTES)
    elif change == "rewrite":
        path.write_bytes(BYTES[::-1])
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns + 1))
    error = failure(FileError, lambda: next(pieces) if when == "before" else list(pieces))
    assert KEY in str(error)


def test_a_file_that_is_renamed_over_is_still_the_one_that_was_opened(folder: Folder) -> None:
    """A rename does not touch the bytes that are being read; the next find sees the new file."""
    source = folder.source()
    file = found(source)
    pieces = source.read(file)
    first = next(pieces)
    folder.put("new", b"new")
    (folder.path / "new").rename(folder.path / KEY)
    assert first + b"".join(pieces) == BYTES
    failure(FileError, lambda: list(source.read(file)))
    assert read(source) == b"new"


def test_a_file_that_is_gone_from_the_directory(folder: Folder) -> None:
    """Deleted between find and read."""
    source = folder.source()
    file = found(source)
    (folder.path / KEY).unlink()
    assert "gone" in str(failure(FileError, lambda: list(source.read(file))))


def test_a_pipe_in_a_files_place_does_not_hold_the_run(folder: Folder) -> None:
    """Opening one waits for a writer, for ever; it is not the file that was found."""
    source = folder.source()
    file = found(source)
    (folder.path / KEY).unlink()
    os.mkfifo(folder.path / KEY)
    failure(FileError, lambda: list(source.read(file)))
    assert source.find(KEY) is None


def test_a_manifest_that_changes_while_it_is_read(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody is publishing: trying again helps."""
    source = folder.source()
    monkeypatch.setattr(source, "find", lambda key: RemoteFile(key, 2, "1-2-3"))
    assert failure(SourceUnavailableError, lambda: source.read_manifest(SNAPSHOT)).transient


@pytest.mark.parametrize("key", ["../outside", "/etc/hostname", "snapshots/../../outside", "link", "dir/outside"])
def test_nothing_outside_the_root_is_read(folder: Folder, tmp_path: Path, key: str) -> None:
    """Neither by a name nor by a link."""
    (tmp_path / "outside").write_bytes(b"secret")
    (folder.path / "link").symlink_to(tmp_path / "outside")
    (folder.path / "dir").symlink_to(tmp_path)
    source = folder.source()
    assert "SOT_PATH" in failure(SourceError, lambda: source.find(key)).hint
    failure(SourceError, lambda: list(source.read(RemoteFile(key, 6, "1"))))


def test_links_inside_the_root_are_followed(folder: Folder, tmp_path: Path) -> None:
    """So is a root that is a link."""
    (folder.path / "link").symlink_to(folder.path / KEY)
    (tmp_path / "root-link").symlink_to(folder.path)
    source = DirectorySource(tmp_path / "root-link")
    assert read(source, "link") == BYTES
    assert source.uri == folder.path.resolve().as_uri()


@pytest.mark.parametrize("key", ["circle", "nul\0", "a" * 300])
def test_a_name_that_no_file_can_have(folder: Folder, key: str) -> None:
    """A circle of links, a NUL, 300 letters."""
    (folder.path / "circle").symlink_to("circle")
    assert "SOT_PATH" in failure(SourceError, lambda: folder.source().find(key)).hint


@pytest.mark.parametrize("kind", ["missing", "file"])
def test_a_root_that_is_no_directory(tmp_path: Path, kind: str) -> None:
    """Not the same as a snapshot that is not published yet."""
    root = tmp_path / "root"
    if kind == "file":
        root.write_bytes(b"")
    source = DirectorySource(root)
    for action in (lambda: source.find(KEY), lambda: list(source.manifests("torus"))):
        error = failure(SourceError, action)
        assert "SOT_PATH" in error.hint
        assert str(root) in str(error)


@pytest.mark.parametrize(
    ("number", "kind"),
    [
        (errno.EACCES, SourceError),
        (errno.EIO, SourceUnavailableError),
        (errno.ESTALE, SourceUnavailableError),
    ],
)
def test_a_disk_that_fails(
    folder: Folder, monkeypatch: pytest.MonkeyPatch, number: int, kind: type[SourceError]
) -> None:
    """No permission is for the operator; an input/output error or a stale mount may pass."""
    source = folder.source()
    file = found(source)

    def fail(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    pieces = source.read(file)
    next(pieces)
    with monkeypatch.context() as patch:
        patch.setattr(os, "fstat", fail)
        assert os.strerror(number) in str(failure(kind, lambda: list(pieces)))
    with monkeypatch.context() as patch:
        patch.setattr(os, "open", fail)
        failure(kind, lambda: list(source.read(file)))
    with monkeypatch.context() as patch:
        patch.setattr(Path, "stat", fail)
        failure(kind, lambda: source.find(KEY))
    with monkeypatch.context() as patch:
        patch.setattr(Path, "iterdir", fail)
        failure(kind, lambda: list(source.manifests("torus")))


def test_errors_of_the_sources_survive_a_process_boundary(bucket: Bucket) -> None:
    """Luigi sends them from the worker to its parent."""
    bucket.network.plan("HEAD", refused(403, ""))
    error = failure(SourceError, lambda: bucket.source().find(KEY))
    again = pickle.loads(pickle.dumps(error))  # noqa: S301  # our own bytes
    assert (type(again), str(again), again.hint) == (type(error), str(error), error.hint)
