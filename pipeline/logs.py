"""One stream of events, through loguru: our own, and what luigi, boto and the ClickHouse driver log.

An event is a past-tense sentence with its facts as fields (``logger.bind``), written to stderr as text or as one JSON
object a line (docs/json/log.json). On a terminal text is short: digests and addresses are in the other forms.
"""

from __future__ import annotations

import errno
import io
import json
import logging
import os
import re
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, Literal
from uuid import uuid4

from loguru import logger

from pipeline import environment
from pipeline.errors import PipelineError

if TYPE_CHECKING:
    from loguru import Record

VERSION = version("sot-ingest")

#: luigi tells every decision of its scheduler at INFO, and a summary of many lines; our own events say it shorter.
_LUIGI = ("luigi", "luigi-interface", "luigi.scheduler")

#: In messages of luigi's about what an event of our own has reported: a traceback of our errors, a missing snapshot.
_TOLD = ("\npipeline.", "The task is an external data dependency", "Failed pinging scheduler")

#: Fields that are for programs: the text forms leave them out.
_PROGRAMS = frozenset({"run_id", "version", "host", "dates", "publication_ids", "manifest_sha256s", "failed_step"})

#: Fields that a person at a terminal knows from the sentence, or does not need.
_UNSEEN = frozenset({"window", "file", "logger"})

#: A digest or an id, an address, a moment: a person at a terminal needs none of them.
_MACHINES = re.compile(r"[0-9a-f]{32,}|[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}|[a-z0-9+]+://.*|\d{4}-\d\d-\d\dT.*")

#: Lists of which the text forms show the first, and how many more there are.
_MOST, _MOST_ON_TERMINAL = 10, 3

_SHORT = 24  #: characters of a figure that is not broken at the end of a line


@cache
def run_id() -> str:
    """Return what events, records of steps and publications of this process, and of those it forks, are known by."""
    return uuid4().hex


class _Stream(io.FileIO):
    """A standard stream that never fails: what cannot be written is lost, and the work goes on."""

    lost: OSError | None = None  #: why something was not written

    def write(self, data: Any) -> int:
        """Write, or do as if; a stream that would block takes nothing either."""
        try:
            return super().write(data) or memoryview(data).nbytes
        except OSError as error:
            self.lost = error
            return memoryview(data).nbytes


def protect_streams() -> None:
    """Let no fault of standard output or error decide how this process ends, nor a character that they cannot encode.

    One that is closed is opened on /dev/null: the next file that is opened would take its place.
    """
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(descriptor, True)
    os.close(descriptor)
    sys.stdin = sys.stdin or open(0, encoding="utf-8", closefd=False)  # noqa: SIM115  # for as long as the process
    for name, number in (("stdout", 1), ("stderr", 2)):
        stream = getattr(sys, name)
        if stream is getattr(sys, f"__{name}__"):  # not one that a test put there
            encoding, at_once = (stream.encoding, stream.line_buffering) if stream else ("utf-8", True)
            raw = io.BufferedWriter(_Stream(number, "w", closefd=False))
            setattr(sys, name, io.TextIOWrapper(raw, encoding, "backslashreplace", line_buffering=at_once))


def report_lost_output() -> None:
    """Say that standard output could not be written, unless its reader had seen enough."""
    sys.stdout.flush()
    lost = getattr(getattr(getattr(sys.stdout, "buffer", None), "raw", None), "lost", None)
    if lost is not None and lost.errno != errno.EPIPE:
        logger.warning("Standard output could not be written: {}", lost.strerror)


class InterceptHandler(logging.Handler):
    """Hands the records of the standard library's logging to loguru."""

    def emit(self, record: logging.LogRecord) -> None:
        """Log the record's message under its level, luigi's chatter under DEBUG."""
        error = record.exc_info[1] if record.exc_info else None
        level: str | int = record.levelname if record.levelname in _LEVELS else record.levelno
        message = record.getMessage()
        is_reported = isinstance(error, PipelineError | KeyboardInterrupt) or any(sign in message for sign in _TOLD)
        if record.name in _LUIGI and (record.levelno <= logging.INFO or is_reported):
            level = "DEBUG"  # our own event has reported it, on one line
        elif str(error).startswith("Unfulfilled "):  # luigi's text holds its targets, and a traceback
            level, is_reported = "WARNING", True
            message = f"Step was not run, for a proof that it needs was taken back:{message.partition(' failed ')[2]}"
        elif type(error).__name__ == "RPCError":  # at the end of dozens of lines about sockets
            level, is_reported, message = "WARNING", True, f"luigid cannot be used any longer: {error}"
        exception = None if is_reported or error is None else record.exc_info
        logger.bind(logger=record.name).opt(exception=exception).log(level, "{}", message)


_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")


def _facts(record: Record) -> dict[str, Any]:
    """Return the event's fields that are set, without those that loguru's own machinery put there."""
    return {name: value for name, value in record["extra"].items() if value is not None and name != "line"}


def _as_text(record: Record) -> str:
    shown = {name: value for name, value in _facts(record).items() if name not in _PROGRAMS}
    facts = " ".join(f"{name}={_text(value)}" for name, value in shown.items() if not isinstance(value, dict))
    record["extra"]["line"] = f"{record['level'].name:<7} {_message(record)}" + (f"  {facts}" if facts else "")
    return "{time:YYYY-MM-DDTHH:mm:ss.SSS!UTC}Z {extra[line]}\n{exception}"


def _message(record: Record) -> str:
    return printable(" ".join(record["message"].split("\n")))


def _text(value: object) -> str:
    if isinstance(value, list):
        value = _listed(value, _MOST)
    text = f"{value:.3f}" if isinstance(value, float) else str(value)
    quoted = not text or any(c in ' "=' or not c.isprintable() for c in text)
    return printable(json.dumps(text, ensure_ascii=False) if quoted else text)


def _listed(values: list[object], most: int) -> str:
    more = len(values) - most
    return ", ".join([*map(str, values[:most]), *([f"and {more} more"] if more > 0 else [])]) or "none"


def _on_terminal(record: Record) -> str:
    """Lay an event out for a person: when, what, where, figures, and below it what to do."""
    facts, level = _facts(record), record["level"].name
    hint, label = facts.pop("hint", None), "" if level == "INFO" else level
    names = ("network", "date", "table") if level == "INFO" else ("network", "date", "step", "table")
    where = [printable(str(facts[name]).removeprefix("raw_")) for name in names if name in facts]
    message = f"{_message(record):<19}" if where and level == "INFO" else _message(record)
    unseen = {*_PROGRAMS, *_UNSEEN, "network", "date", "step", "table"}
    figures = [
        printable(text) for name, value in facts.items() if name not in unseen and (text := _figure(name, value))
    ]
    words = [*message.split(" "), *(["", *where] if where else []), *(["", *_separated(figures)] if figures else [])]
    indent = " " * 9  # as long as the time
    width = environment.terminal_columns(2) - len(indent)
    lines = in_lines([label, *words] if label else words, width)
    below = in_lines(f"→ {printable(str(hint))}".split(" "), width) if hint else []
    record["extra"]["line"] = f"\n{indent}".join([*lines, *below]).removeprefix(label)
    colour = {"WARNING": "yellow", "ERROR": "red", "CRITICAL": "red"}.get(level, "normal")
    return f"<dim>{{time:HH:mm:ss!UTC}}</dim> <{colour}>{label}</{colour}>{{extra[line]}}\n{{exception}}"


def _figure(name: str, value: Any) -> str:
    """Return what a person reads of a field; '' when that is nothing."""
    words = name.removeprefix("raw_").replace("_", " ")
    match name, value:
        case "bytes", int():
            return megabytes(value)
        case "rows", int():
            return f"{value:,} rows"
        case "seconds", float():
            return f"{value:,.1f} s"
        case _, list():
            return f"{words} {_listed(value, _MOST_ON_TERMINAL)}" if value else ""
        case _, dict() | datetime():
            return ""
        case _:
            text = f"{value:,}" if isinstance(value, int | float) and not isinstance(value, bool) else str(value)
            return f"{words} {text}" if text and not _MACHINES.fullmatch(text) else ""


def _separated(figures: list[str]) -> Iterator[str]:
    """Yield figures with commas between them, short ones as one word."""
    for number, figure in enumerate(figures, start=1):
        text = figure + ("," if number < len(figures) else "")
        yield from [text] if len(text) <= _SHORT else text.split(" ")


def megabytes(count: int) -> str:
    """Return a size as people say it."""
    return f"{count / 1e6:,.1f} MB" if count >= 100_000 else f"{count / 1e3:,.1f} kB"


def wrapped(text: str, width: int) -> list[str]:
    """Return a text in lines of at most ``width`` characters."""
    return in_lines(text.split(" "), width)


def in_lines(words: Iterable[str], width: int) -> list[str]:
    """Return words in lines; one that is longer than a line goes on after a comma or a slash, if it has one."""
    lines = [""]
    for number, word in enumerate(words):
        parts = [word] if len(word) <= width else re.findall(rf".{{1,{width - 1}}}[,/]|.{{1,{width}}}", word)
        joints = [" " if number else "", *[""] * len(parts)]
        for joint, part in zip(joints, parts, strict=False):
            if len(lines[-1] + joint + part) <= width:
                lines[-1] += joint + part
            else:
                lines.append(part)
    return [line.rstrip() for line in lines]


def printable(text: str) -> str:
    """Escape what cannot be seen: what an error quotes must neither end the line nor steer the terminal."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def _as_json(record: Record) -> str:
    event = {
        "time": record["time"].astimezone(UTC).isoformat(),
        "level": record["level"].name,
        "message": record["message"],
        "run_id": run_id(),
        "version": VERSION,
        **_facts(record),
    }
    if record["exception"]:
        event["exception"] = "".join(traceback.format_exception(*record["exception"]))
    record["extra"]["line"] = json.dumps(event, default=str)  # ASCII, so that no reader finds a line's end inside
    return "{extra[line]}\n"


def configure(log_format: Literal["text", "json"], level: str, sink: Callable[[str], None] | None = None) -> None:
    """Send every event of this process, and of those it forks, to stderr, or to ``sink`` as lines of text."""
    run_id()  # before anything is forked
    logger.remove()
    is_terminal = log_format == "text" and sys.stderr.isatty()
    logger.add(
        sink or sys.stderr,
        level=level,
        format=_as_json if log_format == "json" else _on_terminal if is_terminal else _as_text,
        colorize=is_terminal and environment.wants_colour(),
        backtrace=False,
        diagnose=False,  # shows the values of variables, secrets among them
    )
    logging.basicConfig(handlers=[InterceptHandler()], level=logging.INFO, force=True)
    logging.captureWarnings(capture=True)
    logging.getLogger("py.warnings").setLevel(logging.ERROR)  # for developers, who see them in the tests
    for name in _LUIGI:
        logging.getLogger(name).handlers.clear()
        logging.getLogger(name).propagate = True
    logging.getLogger("botocore.credentials").setLevel(logging.WARNING)  # says in every process where they are from
    logging.getLogger("urllib3").setLevel(logging.ERROR)  # our own errors report its retries
    logging.getLogger("clickhouse_driver").setLevel(logging.CRITICAL)  # logs a traceback, then raises the same
