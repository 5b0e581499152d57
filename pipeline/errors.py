"""What can go wrong, as types.

An error's text says what was found, where, and what was expected. ``hint`` says what the operator can do, and
``transient`` whether trying again can help without anybody doing anything. Network, date and step are added
by whoever reports the error (``pipeline.graph.base``).
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable

ASK_UPSTREAM = "ask upstream to publish the snapshot again; what readers see has not changed"


class PipelineError(Exception):
    """Base of every error that the pipeline raises on purpose."""

    transient = False
    tries = 1  #: how often the call was made that this is about: see pipeline.retry

    def __init__(self, message: str, *, hint: str) -> None:
        super().__init__(message)
        self.hint = hint

    @property
    def lines(self) -> list[str]:
        """What it says, a line of the log each."""
        return [str(self)]

    def __reduce__(self) -> tuple[object, ...]:
        """Keep the hint when luigi sends the error from a worker process to its parent."""
        return _rebuild, (type(self), str(self), self.hint)


def _rebuild(kind: type[PipelineError], message: str, hint: str) -> PipelineError:
    return kind(message, hint=hint)


class ConfigError(PipelineError):
    """The environment does not describe a usable configuration; lists every mistake, one per line."""

    @property
    def lines(self) -> list[str]:
        """Every mistake."""
        return str(self).splitlines()


class HeldError(PipelineError):
    """Audits hold the snapshot: it is loaded, and not published."""

    def __init__(self, *found: str, hint: str) -> None:
        super().__init__("; ".join(found), hint=hint)
        self._found = found

    @property
    def lines(self) -> list[str]:
        """What each audit found."""
        return list(self._found)


class RequestError(PipelineError):
    """What was asked for does not exist; nothing was done."""


class DataError(PipelineError):
    """What upstream published is not what it claims to be, or not what the tables can hold."""


class ManifestError(DataError):
    """META.json is missing a fact, malformed, or describes another snapshot."""


class FileError(DataError):
    """A file is missing, of the wrong size or digest, or not Parquet."""


class SchemaError(DataError):
    """A file's columns are not those of its table."""


class RefusedValueError(DataError):
    """A value would have to change to be stored, or a row belongs to another snapshot."""


class RowCountError(DataError):
    """The rows that arrived are not as many as the file or the manifest says."""


class RowDigestError(DataError):
    """The rows that arrived are not those that the source computed a digest over."""


class DuplicateKeyError(DataError):
    """Two rows of one file have the same key."""


class SourceError(PipelineError):
    """The source refuses us: credentials, permissions, a bucket that does not exist."""


class SourceUnavailableError(SourceError):
    """The source does not answer, or not in full, right now."""

    transient = True


class SourceChangedError(SourceError):
    """What the manifest describes is no longer what the source holds."""


class WarehouseError(PipelineError):
    """The warehouse refuses a statement: login, grants, a table in another shape."""


class WarehouseUnavailableError(WarehouseError):
    """The warehouse does not answer right now, or is out of a resource that comes back."""

    transient = True


class SchedulerError(PipelineError):
    """luigid does not answer."""


class ClaimedError(PipelineError):
    """Another deployment is at work on the snapshot."""


class WorkDirectoryError(PipelineError):
    """The work directory cannot be read or written."""


def nearest(word: str, known: Iterable[str], similarity: float = 0.6) -> str | None:
    """Return the known word that a misspelt one is most like (1 is equal), or None when none is like it."""
    return next(iter(difflib.get_close_matches(word, list(known), 1, similarity)), None)


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return what a message says after a word that is none of the known ones: the nearest of them, else all."""
    names = list(known)
    near = nearest(word, names) or nearest(word.lower(), names)
    return f"(did you mean {near}?)" if near else f"({', '.join(names)})"
