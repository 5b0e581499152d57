"""What a server that misbehaves does to one object: a kind is what it answers, and how the run ought to end."""

from __future__ import annotations

import gzip
from collections.abc import Sequence
from dataclasses import dataclass, replace

from tests.support.misbehaving import Answer, Fault, broken, chunked, headers, page, refused, resized


@dataclass(frozen=True)
class Kind:
    """One kind of fault."""

    name: str
    faults: Sequence[Fault]  #: one each for the next requests
    survives: bool = False  #: the run gets over it by itself; else the last fault is for ever, and the run fails
    method: str = "GET"
    resumes: bool = False  #: the file was asked for from the middle on
    at_once: bool = False  #: the run ends before it fetches any file


def flipped(answer: Answer) -> Answer:
    """Change one byte in the middle of the body."""
    middle = len(answer.body) // 2
    changed = bytes([answer.body[middle] ^ 0x01])
    return replace(answer, body=answer.body[:middle] + changed + answer.body[middle + 1 :])


def other_bytes(answer: Answer) -> Answer:
    """Send as many other bytes under the same headers."""
    return replace(answer, body=bytes(reversed(answer.body)))


def zipped(answer: Answer) -> Answer:
    """Compress the body, and say so."""
    body = gzip.compress(answer.body)
    return replace(answer, body=body).with_headers(content_encoding="gzip", content_length=str(len(body)))


def unsized(answer: Answer) -> Answer:
    """Leave out the length; the end of the connection is that of the body."""
    return replace(answer, then="close").with_headers(content_length=None)


def misstated(difference: int) -> Fault:
    """State another length than that of the body, and hang up after it."""
    return lambda answer: replace(answer, then="close").with_headers(
        content_length=str(int(answer.headers["content-length"]) + difference)
    )


def part(status: int, content_range: str | None) -> Fault:
    """Answer with another status and Content-Range."""
    return lambda answer: replace(answer, status=status).with_headers(content_range=content_range)


def emptied(answer: Answer) -> Answer:
    """Send nothing, and say so."""
    return replace(answer, body=b"").with_headers(content_length="0")


def document(text: bytes) -> Fault:
    """Send this under the object's own headers."""
    return lambda answer: replace(answer, body=text).with_headers(content_length=str(len(text)))


def status(number: int) -> Fault:
    """Send everything under another status."""
    return lambda answer: replace(answer, status=number)


def once(name: str, *faults: Fault, method: str = "GET", resumes: bool = False) -> Kind:
    """Return a kind that a run gets over by itself."""
    return Kind(name, faults, survives=True, method=method, resumes=resumes)


def lasting(name: str, *faults: Fault, method: str = "GET", resumes: bool = False, at_once: bool = False) -> Kind:
    """Return a kind that fails a run; the next one, which meets no fault, brings everything."""
    return Kind(name, faults, method=method, resumes=resumes, at_once=at_once)


_HALF = broken("reset", 0.5)
_HTML = "<html><body><h1>Welcome to the guest network</h1></body></html>"
_REDIRECT = b"<Error><Code>TemporaryRedirect</Code><Message>no</Message></Error>"


def redirect(number: int, **more: str) -> Fault:
    """Send the client elsewhere."""
    fields = {name.replace("_", "-"): value for name, value in more.items()}
    return lambda _: Answer(number, {"content-length": str(len(_REDIRECT)), **fields}, _REDIRECT)


KINDS: tuple[Kind, ...] = (
    lasting("403", refused(403, "AccessDenied")),
    lasting("403 to HEAD", refused(403, ""), method="HEAD"),
    lasting("404 after it was found", refused(404, "NoSuchKey")),
    lasting("404 to HEAD", refused(404, ""), method="HEAD", at_once=True),
    once("500 once", refused(500, "InternalError")),
    lasting("500 for ever", refused(500, "InternalError")),
    once("503 SlowDown, twice", *[refused(503, "SlowDown")] * 2),
    lasting("503 SlowDown for ever", refused(503, "SlowDown")),
    lasting("503 to HEAD for ever", refused(503, ""), method="HEAD", at_once=True),
    once("time-out before the answer", broken("stall", 0)),
    lasting("time-out before the answer, for ever", broken("stall", 0)),
    once("time-out within the body", broken("stall", 0.5), resumes=True),
    once("reset before the answer", broken("reset", 0)),
    lasting("reset before the answer, for ever", broken("reset", 0)),
    once("reset at half of the body", _HALF, resumes=True),
    once("reset at half, and of the rest again", _HALF, _HALF, resumes=True),
    once("reset at 99.9 % of the body", broken("reset", 0.999), resumes=True),
    once("closed within the body", broken("close", 0.5), resumes=True),
    lasting("a shorter body", resized(-100)),
    lasting("a longer body", resized(100)),
    lasting("an empty body", emptied),
    once("another range than was asked for", _HALF, headers(content_range="bytes 1-2/*"), resumes=True),
    lasting("the range of a file of another size", _HALF, headers(content_range="bytes 10-19/20"), resumes=True),
    lasting("all where a range was asked for", _HALF, part(200, None), resumes=True),
    lasting("206 where all was asked for", part(206, "bytes 0-9/10")),
    lasting("416 to the rest", _HALF, refused(416, "InvalidRange"), resumes=True),
    lasting("expired token within the file", _HALF, refused(400, "ExpiredToken"), resumes=True),
    lasting("other bytes under the same ETag", other_bytes),
    lasting("other bytes under the same ETag from the middle on", _HALF, other_bytes, resumes=True),
    lasting("a flipped byte", flipped),
    lasting("another ETag", headers(etag='"0123456789abcdef0123456789abcdef"')),
    lasting("301", redirect(301)),
    lasting("301 to a region", redirect(301, x_amz_bucket_region="eu-west-1")),
    lasting("307", redirect(307, location="http://127.0.0.1:9/elsewhere")),
    once("a wrong checksum header", headers(x_amz_checksum_crc32="AAAAAA==", x_amz_checksum_sha256="AAAA")),
    lasting("no ETag", headers(etag=None)),
    lasting("no time", headers(last_modified=None)),
    lasting("a time that is none", headers(last_modified="yesterday")),
    lasting("no length", unsized),
    lasting("a length that is no number", headers(content_length="many")),
    lasting("a length that is too large", misstated(100)),
    lasting("a length that is too small", misstated(-100)),
    lasting("HEAD states another size", headers(content_length="17"), method="HEAD"),
    lasting("a proxy's page with 200", page(200, _HTML)),
    once("a proxy's page with 502", page(502, _HTML)),
    lasting("a proxy's page under the object's headers", document(_HTML.encode())),
    lasting("XML that is none, with 400", lambda _: Answer(400, {"content-length": "3"}, b"<<<")),
    once("XML that is none, with 500", lambda _: Answer(500, {"content-length": "3"}, b"<<<")),
    once("Content-Encoding of what is not encoded", headers(content_encoding="gzip")),
    lasting("Content-Encoding: gzip, and so it is", zipped),
    once("chunks without an end", chunked(then="close")),
    lasting("chunks that go on", chunked(extra=b"more")),
    lasting("a header of 100 KB", headers(x_filler="x" * 100_000)),
    lasting("status 299 and no headers", lambda _: Answer(299, {"content-length": "0"}, b"")),
    lasting("status 999", status(999)),
)
