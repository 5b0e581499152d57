"""What botocore raises, in our words. Imports botocore, so only s3_client imports this.

botocore's own texts are never quoted. Measured: a session token with a stray newline (a secret that was read
from a file) comes back as ``Invalid header value b'<token>\\n'``, an endpoint with a password in it as the
URL that could not be reached. Nor is the original chained: a traceback would print it.
"""

from __future__ import annotations

import re
import ssl
from collections.abc import Iterator
from contextlib import contextmanager

from botocore import exceptions as boto
from botocore.parsers import ResponseParserError
from urllib3.exceptions import HTTPError

from pipeline.errors import FileError, PipelineError, SourceError, SourceUnavailableError

BUCKET_HINT = "check SOT_S3_BUCKET and SOT_S3_ENDPOINT"
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

_HINTS = {
    **dict.fromkeys(
        ("InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken", "InvalidToken", "401"),
        _CREDENTIALS_HINT,
    ),
    **dict.fromkeys(("403", "AccessDenied", "AllAccessDisabled"), _DENIED_HINT),
    **dict.fromkeys(
        ("301", "307", "PermanentRedirect", "TemporaryRedirect", "AuthorizationHeaderMalformed"), _REGION_HINT
    ),
    **dict.fromkeys(("NoSuchBucket", "InvalidBucketName", "404"), BUCKET_HINT),
    "400": _HEAD_400_HINT,
    "RequestTimeTooSkewed": "set this host's clock: S3 refuses signatures that are 15 minutes off",
    "InvalidObjectState": "the object is in an archive: ask upstream to restore it",
}
_BUSY_STATUSES = frozenset({408, 429, 500, 502, 503, 504})
_BUSY_CODES = frozenset(
    {"InternalError", "RequestTimeout", "ServiceUnavailable", "SlowDown", "Throttling", "ThrottlingException"}
)
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


class AbsentError(SourceError):
    """What was asked for is not there; to HEAD, S3 says so of an object and of a bucket alike."""


@contextmanager
def explained(what: str) -> Iterator[None]:
    """Raise botocore's errors as ours; ``what`` names the operation and the object."""
    try:
        yield
    except (
        boto.BotoCoreError,
        boto.ClientError,
        ResponseParserError,
        HTTPError,
        OSError,
        ValueError,
    ) as error:
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
    if code in _BUSY_CODES or status in _BUSY_STATUSES:
        return SourceUnavailableError(text, hint=_WAIT_HINT)
    if code in {"NoSuchKey", "NoSuchVersion", "404"}:
        return AbsentError(text, hint=BUCKET_HINT)
    if status == 412:
        return FileError(f"{text}: replaced since it was found", hint="run again: the new version is fetched")
    if status == 416:
        return FileError(f"{text}: shorter than it was when found", hint="run again: the new version is fetched")
    return SourceError(text, hint=_HINTS.get(code, _HINTS.get(str(status), _CLIENT_HINT)))


def _is_tls_mismatch(error: BaseException) -> bool:
    """Tell a certificate that is not trusted, or plain HTTP on a TLS port, from a handshake that was cut."""
    return isinstance(error, ssl.SSLError) and error.reason in {
        "CERTIFICATE_VERIFY_FAILED",
        "WRONG_VERSION_NUMBER",
    }


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
