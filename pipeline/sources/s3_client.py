"""The S3 API as the source needs it: answers as facts, failures as our errors, nothing tried twice.

Imports boto3, which costs 0.3 to 0.6 s: only s3.py imports this, when it first needs it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from boto3.session import Session
from botocore import UNSIGNED
from botocore.config import Config
from botocore.exceptions import ClientError
from botocore.response import StreamingBody

from pipeline.errors import SourceError
from pipeline.sources.retry import RetryPolicy
from pipeline.sources.s3_errors import BUCKET_HINT, AbsentError, explained

if TYPE_CHECKING:
    from botocore.awsrequest import AWSResponse
    from botocore.exceptions import _ClientErrorResponseTypeDef as ClientErrorResponseTypeDef
    from botocore.model import OperationModel
    from mypy_boto3_s3.type_defs import (
        GetObjectOutputTypeDef,
        GetObjectRequestTypeDef,
        HeadObjectOutputTypeDef,
    )

_NOT_S3_HINT = "SOT_S3_ENDPOINT must speak S3, and nothing on the way may change headers"


@dataclass(frozen=True)
class Facts:
    """What the headers of an answer say about the object."""

    etag: str  #: as sent, with its quotes
    length: int  #: bytes of this answer, which for a range is not the object's size
    content_range: str | None
    modified: int  #: seconds since 1970
    version_id: str | None

    def version(self, size: int) -> str:
        """Return what changes with the object of ``size`` bytes."""
        if self.version_id and self.version_id != "null":  # null: put without versioning, and put again so
            return self.version_id
        etag = self.etag.replace('"', "")
        return f"{etag}-{self.modified}-{size}"


class Download:
    """A body on its way; leaving the context gives its connection back."""

    def __init__(self, facts: Facts, body: StreamingBody, what: str) -> None:
        self.facts = facts
        self._body = body
        self._what = what

    def __enter__(self) -> Download:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self._body.close()

    def pieces(self, size: int) -> Iterator[bytes]:
        """Yield pieces of at most ``size`` bytes. Raises SourceUnavailableError when the body breaks."""
        while True:
            # read(n) until it is empty, never ``with body``: that is the raw stream, which takes a body that
            # ends early for a whole one.
            with explained(self._what):
                piece = self._body.read(size)
            if not piece:
                return
            yield piece


class Client:
    """One process's connection to one bucket.

    ``session`` is that of an earlier client: it connects to nothing, and has read what AWS's files say of S3.
    """

    def __init__(
        self,
        bucket: str,
        *,
        endpoint: str | None,
        region: str | None,
        anonymous: bool,
        patience: RetryPolicy,
        session: Session | None = None,
    ) -> None:
        self._bucket = bucket
        self._at = f" at {_host(endpoint)}" if endpoint else ""
        config = Config(
            connect_timeout=patience.connect_timeout,
            read_timeout=patience.read_timeout,
            retries={"mode": "standard", "total_max_attempts": 1},  # ours is the only layer: layers multiply
            request_checksum_calculation="when_required",  # S3-compatible stores refuse what they do not know
            response_checksum_validation="when_required",
            tcp_keepalive=True,
            signature_version=UNSIGNED if anonymous else None,
        )
        with explained(self._what("connect")):
            self.session = session or Session()
            self._s3 = self.session.client("s3", endpoint_url=endpoint, region_name=region, config=config)
        self._s3.meta.events.register_first("needs-retry.s3", _stop_at_redirect)

    def head(self, key: str) -> Facts | None:
        """Return the facts about an object, or None without one. Raises SourceError without a bucket."""
        what = self._what("HeadObject", key)
        try:
            with explained(what):
                return _facts(self._s3.head_object(Bucket=self._bucket, Key=key), what)
        except AbsentError:
            self._require_bucket()
            return None

    def get(self, key: str, *, etag: str | None = None, offset: int = 0) -> Download | None:
        """Start to read an object from ``offset``, or return None when there is none.

        Raises FileError when the object's ETag is not ``etag``, SourceError without a bucket.
        """
        what = self._what("GetObject", key)
        asked: GetObjectRequestTypeDef = {"Bucket": self._bucket, "Key": key}
        if etag is not None:
            asked["IfMatch"] = etag
        if offset:
            asked["Range"] = f"bytes={offset}-"
        try:
            with explained(what):
                answer = self._s3.get_object(**asked)
                return Download(_facts(answer, what), answer["Body"], what)
        except AbsentError:
            self._require_bucket()
            return None

    def keys(self, prefix: str, token: str | None) -> tuple[list[str], str | None]:
        """Return at most 1,000 keys in order, and the token of the next page."""
        with explained(self._what("ListObjectsV2", prefix)):
            if token is None:
                answer = self._s3.list_objects_v2(Bucket=self._bucket, Prefix=prefix)
            else:
                answer = self._s3.list_objects_v2(Bucket=self._bucket, Prefix=prefix, ContinuationToken=token)
            return [item["Key"] for item in answer.get("Contents", [])], answer.get("NextContinuationToken")

    def _what(self, operation: str, key: str = "") -> str:
        return f"{operation} s3://{self._bucket}/{key}{self._at}"

    def _require_bucket(self) -> None:
        """Raise SourceError when the bucket is missing: S3 answers HEAD with a bare 404 for that too."""
        what = self._what("HeadBucket")
        try:
            with explained(what):
                self._s3.head_bucket(Bucket=self._bucket)
        except AbsentError:
            raise SourceError(f"{what}: there is no such bucket", hint=BUCKET_HINT) from None
        except SourceError as error:
            if error.transient:
                raise
            # 403: who may read objects may not always list the bucket; it exists, and that was the question.


def _stop_at_redirect(
    response: tuple[AWSResponse, ClientErrorResponseTypeDef] | None, operation: OperationModel, **_: object
) -> None:
    """Refuse a redirect that does not say which region the bucket is in.

    To find out, botocore asks HeadBucket, and when that is redirected too asks again: an endpoint that sends
    http to https was measured to end in RecursionError after 81 requests.
    """
    if response is None:
        return
    http, parsed = response
    if 300 <= http.status_code < 400 and "x-amz-bucket-region" not in http.headers:
        raise ClientError(parsed, operation.name)


def _facts(answer: HeadObjectOutputTypeDef | GetObjectOutputTypeDef, what: str) -> Facts:
    missing = {"ETag", "LastModified", "ContentLength"} - answer.keys()
    if missing:
        raise SourceError(f"{what}: no {', '.join(sorted(missing))} in the answer", hint=_NOT_S3_HINT)
    return Facts(
        etag=answer["ETag"],
        length=answer["ContentLength"],
        content_range=answer.get("ContentRange"),
        modified=int(answer["LastModified"].timestamp()),
        version_id=answer.get("VersionId"),
    )


def _host(endpoint: str) -> str:
    """Return host and port only: an endpoint can carry a user and a password."""
    try:
        return urlsplit(endpoint).netloc.rpartition("@")[2]
    except ValueError:  # half an IPv6 address; boto3 refuses it in a moment
        return "an endpoint that is no URL"
