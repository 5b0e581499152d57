"""Snapshots in an S3 bucket, or in a store that speaks S3."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import closing
from typing import TYPE_CHECKING

from pipeline import retry
from pipeline.errors import FileError, SourceError, SourceUnavailableError
from pipeline.manifest import MAX_MANIFEST_BYTES
from pipeline.snapshot import Snapshot
from pipeline.sources import PIECE_BYTES, ManifestAtSource, ManifestText, RemoteFile, newest_first, too_large
from pipeline.tables import TABLES, Table

if TYPE_CHECKING:
    from pipeline.sources.s3_client import Client, Facts

_REPLACED_HINT = "upstream published again: run again and the new version is fetched"
_LIST_HINT = "the store, or something before it, does not end lists: check SOT_S3_ENDPOINT and SOT_S3_PREFIX"
_WAIT_HINT = "something between here and the store changes answers: run again, then check SOT_S3_ENDPOINT"

MOST_PAGES = 10_000  #: of a list, 1,000 keys each: a network's snapshots are some 10,000 objects a year


class S3Source(ManifestAtSource):
    """Reads a bucket with the credentials of the standard AWS chain, or with none when ``anonymous``.

    ``endpoint`` and ``region`` are those of the AWS chain when None. ``prefix`` is where the bucket's layout
    starts, with or without slashes at its ends. Nothing is asked of the store before a method is called.
    """

    def __init__(
        self,
        bucket: str,
        *,
        endpoint: str | None,
        region: str | None,
        prefix: str = "",
        anonymous: bool = False,
        tables: Sequence[Table] = TABLES,
        policy: retry.RetryPolicy | None = None,
    ) -> None:
        self.tables = tables
        self._bucket = bucket
        self._endpoint = endpoint
        self._region = region
        self._root = f"{prefix.strip('/')}/".removeprefix("/")
        self._anonymous = anonymous
        self._policy = policy or retry.DEFAULT
        self._opened: tuple[int, Client] | None = None

    @property
    def uri(self) -> str:
        """s3://bucket/prefix, without a slash at the end."""
        return self._uri("").rstrip("/")

    def manifest_uri(self, snapshot: Snapshot) -> str | None:
        """One HeadObject; the fragment is the VersionId, or ETag, modification time (s) and size (bytes)."""
        facts = self._head(snapshot.manifest_key)
        if facts is None:
            return None
        return f"{self._uri(snapshot.manifest_key)}#{facts.version(facts.length)}"

    def read_manifest(self, snapshot: Snapshot) -> ManifestText | None:
        """One GetObject, which gives the bytes and their version; from the start again when it breaks."""
        return self._policy.retrying()(self._read_manifest, snapshot.manifest_key)

    def find(self, key: str) -> RemoteFile | None:
        """One HeadObject; the version is the ETag as S3 spells it, ready for If-Match."""
        facts = self._head(key)
        return None if facts is None else RemoteFile(key, facts.length, facts.etag)

    def read(self, file: RemoteFile) -> Iterator[bytes]:
        """One GetObject, and one more for the rest each time that the connection breaks: see Source.read."""
        offset = 0
        for attempt in self._policy.retrying():
            with attempt:
                for piece in self._read_from(file, offset):
                    offset += len(piece)
                    attempt.retry_state.attempt_number = 0  # only tries without a byte, in a row, count
                    yield piece

    def manifests(self, network: str) -> Iterator[Snapshot]:
        """Pages through ``snapshots/{network}/``; see newest_first for what that holds in memory.

        Raises SourceError when the list has no end.
        """
        return newest_first(self._keys(f"snapshots/{network}/"))

    @property
    def _client(self) -> Client:
        """The client of this process: luigi forks, and two processes on one TLS connection garble it.

        A fork takes over the session: that makes its client in 0.01 s and not in 0.1 s.
        """
        if self._opened is None or self._opened[0] != os.getpid():
            from pipeline.sources.s3_client import Client  # noqa: PLC0415  # boto3 costs 0.3 to 0.6 s to import

            self._opened = (
                os.getpid(),
                Client(
                    self._bucket,
                    endpoint=self._endpoint,
                    region=self._region,
                    anonymous=self._anonymous,
                    policy=self._policy,
                    session=self._opened[1].session if self._opened else None,
                ),
            )
        return self._opened[1]

    def _uri(self, key: str) -> str:
        return f"s3://{self._bucket}/{self._root}{key}"

    def _head(self, key: str) -> Facts | None:
        return self._policy.retrying()(self._client.head, self._root + key)

    def _keys(self, folder: str) -> Iterator[str]:
        token, before, seen = None, [""], set[str]()
        for _ in range(MOST_PAGES):
            keys, following = self._policy.retrying()(self._client.keys, self._root + folder, token)
            yield from (key.removeprefix(self._root) for key in keys)
            if following is None:
                return
            if following in seen or keys == before:
                break
            token, before = following, keys or before  # S3 may send a page without keys
            seen.add(token)
        raise SourceError(f"ListObjectsV2 {self._uri(folder)}: a list without an end", hint=_LIST_HINT)

    def _read_manifest(self, key: str) -> ManifestText | None:
        download = self._client.get(self._root + key)
        if download is None:
            return None
        data = bytearray()
        with closing(download):
            if download.facts.length > MAX_MANIFEST_BYTES:
                raise too_large(self._uri(key))
            for piece in download.pieces(PIECE_BYTES):
                data += piece
        return ManifestText(bytes(data), f"{self._uri(key)}#{download.facts.version(len(data))}")

    def _read_from(self, file: RemoteFile, offset: int) -> Iterator[bytes]:
        uri = self._uri(file.key)
        if offset and offset == file.size:  # it broke after the last byte; S3 refuses an empty range
            return
        download = self._client.get(self._root + file.key, etag=file.version, offset=offset)
        if download is None:
            raise FileError(f"{uri} is gone since it was found", hint=_REPLACED_HINT)
        with closing(download):
            _check_answer(download.facts, file, offset, uri)
            for piece in download.pieces(PIECE_BYTES):
                offset += len(piece)
                if offset > file.size:
                    raise FileError(f"{uri} goes on after {file.size} bytes", hint=_REPLACED_HINT)
                yield piece
        if offset < file.size:
            raise FileError(f"{uri} ends after {offset} of {file.size} bytes", hint=_REPLACED_HINT)


def _check_answer(facts: Facts, file: RemoteFile, offset: int, uri: str) -> None:
    """Raise unless the answer is the rest of ``file`` from ``offset``.

    FileError for another object; SourceUnavailableError for another part of the right one, which S3 never
    sends: a proxy that ignores ranges does, and a try that does not break never asks it for one.
    """
    if facts.etag != file.version:  # some S3-compatible stores ignore If-Match
        raise FileError(f"{uri} is {facts.etag}, was {file.version} when found", hint=_REPLACED_HINT)
    wanted = f"bytes {offset}-{file.size - 1}/{file.size}" if offset else None
    total = (facts.content_range or "").rpartition("/")[2]
    if total.isdecimal() and int(total) != file.size:
        raise FileError(f"{uri} has {total} bytes, had {file.size} when found", hint=_REPLACED_HINT)
    if facts.content_range != wanted:
        raise SourceUnavailableError(
            f"GetObject {uri}: asked for the bytes from {offset}, was sent {facts.content_range or 'all'}",
            hint=_WAIT_HINT,
        )
    if facts.length != file.size - offset:
        raise FileError(
            f"{uri} has {facts.length} bytes from byte {offset}, had {file.size} in all when found",
            hint=_REPLACED_HINT,
        )
