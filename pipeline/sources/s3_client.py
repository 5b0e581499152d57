"""The S3 API as the source needs it: answers as facts, failures as our errors, nothing tried twice.

Imports boto3, which costs 0.3 to 0.6 s: only s3.py imports this, when it first needs it.

botocore's own texts are never quoted. Measured: a session token with a stray newline (a secret that was read from a
file) comes back as ``Invalid header value b'<token>\\n'``, an endpoint with a password in it as the URL that could not
be reached. Nor is the original chained: a traceback would print it.
"""

from __future__ import annotations

import re
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from boto3.session import Session
from botocore import UNSIGNED
from botocore import exceptions as boto
from botocore.config import Config
from botocore.parsers import ResponseParserError
from botocore.response import StreamingBody
from urllib3.exceptions import HTTPError

from pipeline.errors import FileError, PipelineError, SourceError, SourceUnavailableError
from pipeline.retry import RetryPolicy

if TYPE_CHECKING:
    from botocore.awsrequest import AWSResponse
    from botocore.exceptions import _ClientErrorResponseTypeDef as ClientErrorResponseTypeDef
    from botocore.model import OperationModel
    from mypy_boto3_s3.type_defs import (
        GetObjectOutputTypeDef,
        GetObjectRequestTypeDef,
        HeadObjectOutputTypeDef,
        ListObjectsV2OutputTypeDef,
    )

_NOT_S3_HINT = "SOT_S3_ENDPOINT must speak S3, and nothing on the way may change headers"
_BUCKET_HINT = "check SOT_S3_BUCKET and SOT_S3_ENDPOINT"
_WAIT_HINT = "the store may be down or busy: run again later; if it lasts, check SOT_S3_ENDPOINT and the network"
_CREDENTIALS_HINT = "check the AWS credentials (AWS_ACCESS_KEY_ID, …), or set SOT_S3_ANONYMOUS=true for a public bucket"
_DENIED_HINT = f"{_CREDENTIALS_HINT}; without s3:ListBucket, S3 also answers 403 for an object that is not there (yet)"
_REGION_HINT = "the bucket is elsewhere: check SOT_S3_REGION and SOT_S3_ENDPOINT"
_HEAD_400_HINT = (
    "an answer without a reason, mostly expired credentials or another region: "
    "check the AWS credentials, SOT_S3_REGION and SOT_S3_ENDPOINT"
)
_CLIENT_HINT = (
    "check SOT_S3_ENDPOINT (scheme, host, port), SOT_S3_REGION and SOT_S3_BUCKET, and that no credential or "
    "AWS_CA_BUNDLE has a stray newline or names a file that is not there"
)
_TLS_HINT = "check SOT_S3_ENDPOINT (http or https), the store's certificate and AWS_CA_BUNDLE"

#: By S3's error code, or by the HTTP status of an answer without one.
_HINTS = {
    code: hint
    for hint, codes in {
        _CREDENTIALS_HINT: "InvalidAccessKeyId SignatureDoesNotMatch ExpiredToken InvalidToken 401",
        _DENIED_HINT: "AccessDenied AllAccessDisabled 403",
        _REGION_HINT: "PermanentRedirect TemporaryRedirect AuthorizationHeaderMalformed 301 307",
        _BUCKET_HINT: "NoSuchBucket InvalidBucketName 404",
        _HEAD_400_HINT: "400",
        "set this host's clock: S3 refuses signatures that are 15 minutes off": "RequestTimeTooSkewed",
        "the object is in an archive: ask upstream to restore it": "InvalidObjectState",
    }.items()
    for code in codes.split()
}
_BUSY = {"InternalError", "RequestTimeout", "ServiceUnavailable", "SlowDown", "Throttling", "ThrottlingException"}
_BUSY_STATUSES = {408, 429, 500, 502, 503, 504}
_UNAVAILABLE = (
    boto.ConnectionError,
    boto.ConnectionClosedError,
    boto.ReadTimeoutError,
    boto.ResponseStreamingError,
    boto.IncompleteReadError,
    boto.ChecksumError,
    boto.FlexibleChecksumError,
    ResponseParserError,  # half an XML document: the connection was cut
    HTTPError,
    OSError,
)
_CREDENTIALS = (
    boto.NoCredentialsError,
    boto.PartialCredentialsError,
    boto.CredentialRetrievalError,
    boto.MetadataRetrievalError,
    boto.ProfileNotFound,
    boto.SSOError,
    boto.LoginError,
)


class _AbsentError(SourceError):
    """What was asked for is not there; to HEAD, S3 says so of an object and of a bucket alike."""


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


@dataclass(frozen=True)
class Download:
    """A body on its way."""

    facts: Facts
    _body: StreamingBody
    _what: str

    def close(self) -> None:
        """Give the connection back."""
        self._body.close()

    def pieces(self, size: int) -> Iterator[bytes]:
        """Yield pieces of at most ``size`` bytes. Raises SourceUnavailableError when the body breaks."""
        while True:
            # read(n) until it is empty, never ``with body``: that is the raw stream, which takes a body that
            # ends early for a whole one.
            with _explained(self._what):
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
        policy: RetryPolicy,
        session: Session | None = None,
    ) -> None:
        self._bucket = bucket
        self._at = f" at {_host(endpoint)}" if endpoint else ""
        config = Config(
            connect_timeout=policy.connect_timeout,
            read_timeout=policy.read_timeout,
            retries={"mode": "standard", "total_max_attempts": 1},  # ours is the only layer: layers multiply
            request_checksum_calculation="when_required",  # S3-compatible stores refuse what they do not know
            response_checksum_validation="when_required",
            tcp_keepalive=True,
            signature_version=UNSIGNED if anonymous else None,
        )
        with _explained(self._what("connect")):
            self.session = session or Session()
            self._s3 = self.session.client("s3", endpoint_url=endpoint, region_name=region, config=config)
        self._s3.meta.events.register_first("needs-retry.s3", _stop_at_redirect)

    def head(self, key: str) -> Facts | None:
        """Return the facts about an object, or None without one. Raises SourceError without a bucket."""
        what = self._what("HeadObject", key)
        try:
            with _explained(what):
                return _facts(self._s3.head_object(Bucket=self._bucket, Key=key), what)
        except _AbsentError:
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
            with _explained(what):
                answer = self._s3.get_object(**asked)
                return Download(_facts(answer, what), answer["Body"], what)
        except _AbsentError:
            self._require_bucket()
            return None

    def keys(self, prefix: str, token: str | None) -> tuple[list[str], str | None]:
        """Return at most 1,000 keys in order, and the token of the next page; None says that the list ends here.

        Raises SourceError for an answer that does not say that it is whole.
        """
        what = self._what("ListObjectsV2", prefix)
        with _explained(what):
            if token is None:
                answer = self._s3.list_objects_v2(Bucket=self._bucket, Prefix=prefix)
            else:
                answer = self._s3.list_objects_v2(Bucket=self._bucket, Prefix=prefix, ContinuationToken=token)
        keys = [item.get("Key", "") for item in answer.get("Contents", [])]
        if problem := _list_problem(answer, keys, prefix):
            raise SourceError(f"{what}: {problem}: not a whole list", hint=_NOT_S3_HINT)
        return keys, answer.get("NextContinuationToken") or None

    def _what(self, operation: str, key: str = "") -> str:
        return f"{operation} s3://{self._bucket}/{key}{self._at}"

    def _require_bucket(self) -> None:
        """Raise SourceError when the bucket is missing: S3 answers HEAD with a bare 404 for that too."""
        what = self._what("HeadBucket")
        try:
            with _explained(what):
                self._s3.head_bucket(Bucket=self._bucket)
        except _AbsentError:
            raise SourceError(f"{what}: there is no such bucket", hint=_BUCKET_HINT) from None
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
        raise boto.ClientError(parsed, operation.name)


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


def _list_problem(answer: ListObjectsV2OutputTypeDef, keys: list[str], prefix: str) -> str | None:
    """Say what a list lacks that S3 always sends: a list that was cut must not pass for one that ends."""
    if "IsTruncated" not in answer:
        return "no IsTruncated in the answer"
    if answer["IsTruncated"] and not answer.get("NextContinuationToken"):
        return "IsTruncated, but no NextContinuationToken"
    if answer.get("KeyCount", len(keys)) != len(keys):
        return f"{len(keys)} of {answer['KeyCount']} keys"
    if "" in keys:
        return "an entry without its Key"
    strange = [key for key in keys if not key.startswith(prefix)]
    return f"{strange[0]} was not asked for" if strange else None


def _host(endpoint: str) -> str:
    """Return host, port and path only: an endpoint can carry a user and a password."""
    try:
        parts = urlsplit(endpoint)
        return parts.netloc.rpartition("@")[2] + parts.path.rstrip("/")
    except ValueError:  # half an IPv6 address; boto3 refuses it in a moment
        return "an endpoint that is no URL"


@contextmanager
def _explained(what: str) -> Iterator[None]:
    """Raise botocore's errors as ours; ``what`` names the operation and the object."""
    try:
        yield
    except (boto.BotoCoreError, boto.ClientError, ResponseParserError, HTTPError, OSError, ValueError) as error:
        raise _translate(error, what) from None


def _translate(error: Exception, what: str) -> PipelineError:
    if isinstance(error, boto.ClientError):
        return _translate_answer(error, what)
    text = f"{what}: {_reason(error)}"
    if isinstance(error, _CREDENTIALS):
        return SourceError(text, hint=_CREDENTIALS_HINT)
    if any(_is_tls_mismatch(cause) for cause in _causes(error)):
        return SourceError(text, hint=_TLS_HINT)
    if isinstance(error, _UNAVAILABLE):
        return SourceUnavailableError(text, hint=_WAIT_HINT)
    return SourceError(text, hint=_CLIENT_HINT)


def _translate_answer(error: boto.ClientError, what: str) -> PipelineError:
    status = int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
    code = error.response.get("Error", {}).get("Code", "")
    if not re.fullmatch(r"[A-Za-z0-9.]{1,64}", code):  # not S3's own words: a proxy, or no body
        code = str(status)
    text = f"{what}: {code}" if code == str(status) else f"{what}: {code} (HTTP {status})"
    if code in _BUSY or status in _BUSY_STATUSES:
        return SourceUnavailableError(text, hint=_WAIT_HINT)
    if code in {"NoSuchKey", "NoSuchVersion", "404"}:
        return _AbsentError(text, hint=_BUCKET_HINT)
    if status in {412, 416}:
        change = "replaced since it was found" if status == 412 else "shorter than it was when found"
        return FileError(f"{text}: {change}", hint="run again: the new version is fetched")
    return SourceError(text, hint=_HINTS.get(code, _HINTS.get(str(status), _CLIENT_HINT)))


def _is_tls_mismatch(error: BaseException) -> bool:
    """Tell a certificate that is not trusted, or plain HTTP on a TLS port, from a handshake that was cut."""
    return isinstance(error, ssl.SSLError) and error.reason in {"CERTIFICATE_VERIFY_FAILED", "WRONG_VERSION_NUMBER"}


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    for _ in range(10):
        if error is None:
            return
        yield error
        error = error.__cause__ or error.__context__


def _reason(error: Exception) -> str:
    """Return the error's type and, when the operating system said it, why; neither can hold a secret."""
    for cause in _causes(error):
        if isinstance(cause, OSError) and cause.errno is not None and cause.strerror:
            return f"{type(error).__name__}: {cause.strerror}"
    return type(error).__name__
