"""Progress on a terminal: one bar a step that moves bytes, the log above them."""

from __future__ import annotations

import json
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from pipeline import logs
from pipeline.graph import progress
from pipeline.settings import Settings

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID


@contextmanager
def bars(settings: Settings) -> Iterator[None]:
    """Show progress on standard error while the block runs, where that is a terminal; else do nothing."""
    if not sys.stderr.isatty():
        yield
        return
    from rich.console import Console  # noqa: PLC0415  # 0.1 s, for which a run with nothing to do would wait
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeElapsedColumn  # noqa: PLC0415

    columns = (
        TextColumn("{task.fields[snapshot]}"),
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TextColumn("{task.fields[note]}"),
        TimeElapsedColumn(),
    )
    with progress.channel() as reader, Progress(*columns, console=Console(stderr=True)) as shown:
        logs.configure(settings.log_format, settings.log_level, sink=progress.send)
        thread = threading.Thread(target=_show, args=(reader, shown), daemon=True)
        thread.start()
        try:
            yield
        finally:
            logs.configure(settings.log_format, settings.log_level)
            progress.close_writer()
            thread.join(timeout=5)  # a child that outlives us keeps the pipe open


def _show(reader: int, shown: Progress) -> None:
    tasks: dict[tuple[str, str], TaskID] = {}
    with os.fdopen(reader, encoding="utf-8") as lines:
        for line in lines:
            event = json.loads(line)
            if isinstance(event, str):
                shown.console.print(event, markup=False, highlight=False, soft_wrap=True)
            else:
                _advance(shown, tasks, event)


def _advance(shown: Progress, tasks: dict[tuple[str, str], TaskID], event: dict[str, Any]) -> None:
    key = (event["snapshot"], event["step"])
    if key not in tasks:
        tasks[key] = shown.add_task(event["step"], total=event["total"], snapshot=event["snapshot"], note="")
    shown.update(tasks[key], completed=event["done"], total=event["total"], note=event["note"])
