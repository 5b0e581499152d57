"""What hostile strings must not do: end a line, steer a terminal, become an element, or lead out of a directory."""

from __future__ import annotations

import json
from html.parser import HTMLParser
from importlib import resources
from pathlib import Path

from tests.torture.commands import Ended
from tests.torture.hostile import MARK
from tests.torture.site import Site

_ELEMENTS_OF_OTHERS = {"img", "iframe", "object", "embed", "form", "base", MARK}
_SCRIPT = (resources.files("pipeline.operations.report") / "page.js").read_text("utf-8")
_SEPARATORS = "\u2028\u2029"


def outside(site: Site) -> set[Path]:
    """Return the files that are neither in the work directory nor what commands wrote to their streams."""
    places = [path for path in site.directory.rglob("*") if path.suffix not in {".stdout", ".stderr"}]
    return {path for path in places if site.work not in path.parents and path != site.work}


def check_outside(site: Site, before: set[Path]) -> None:
    """Check that nothing was written outside the work directory, and nothing there that upstream named."""
    if more := outside(site) - before:
        site.violated(0, f"written outside the work directory: {sorted(more)[:3]}")
    if named := [path for path in site.work.rglob("*") if MARK in path.name]:
        site.violated(0, f"upstream named {named[:3]}")


def check_logs(site: Site) -> None:
    """Check what all commands wrote: one event a line in the log, and nothing that steers a terminal."""
    for ended in site.ended:
        for line in ended.stderr.split("\n"):
            if line.startswith("{"):
                _check_json(site, line)
        check_printable(site, ended)


def _check_json(site: Site, line: str) -> None:
    try:
        event = json.loads(line)
    except ValueError:
        site.violated(5, f"not a line of JSON: {line[:300]}")
        return
    if event["message"] == "forged":
        site.violated(5, f"a forged event: {line[:300]}")


def check_printable(site: Site, ended: Ended) -> None:
    """Check that a command's output has no control characters, and no line that it did not write."""
    for stream, text in (("log", ended.stderr), ("output", ended.stdout)):
        shown = text.replace("\n", "")
        steering = {c for c in shown if not c.isprintable() and c != "\t"}
        if steering:
            site.violated(5, f"{ended.command[1]}: the {stream} has {sorted(map(ascii, steering))[:10]}")
        if any("forged" in line and line.startswith("2025-08-01T00:00:00") for line in text.split("\n")):
            site.violated(5, f"{ended.command[1]}: the {stream} has a forged line")


class _Page(HTMLParser):
    """Notes elements and attributes that come from a string; holds what a person sees and what a browser runs."""

    def __init__(self) -> None:
        super().__init__()
        self.wrong: list[str] = []
        self.text = ""
        self.scripts: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note what our page has not."""
        handlers = [name for name, _ in attrs if name.startswith("on") or MARK in name]
        links = [value for name, value in attrs if name in {"href", "src"} and MARK in str(value)]
        if tag in _ELEMENTS_OF_OTHERS or MARK in tag or handlers or links:
            self.wrong.append(f"<{tag} {attrs}>"[:200])
        if tag == "script":
            self.scripts.append("")

    def handle_data(self, data: str) -> None:
        """Collect the text, and apart from it that of scripts."""
        if self.cdata_elem == "script":
            self.scripts[-1] += data
        else:
            self.text += data

    def handle_comment(self, data: str) -> None:
        """Note a comment: the page has none."""
        self.wrong.append(f"<!--{data[:200]}")


def check_page(site: Site, page: Path, shown: str) -> None:
    """Parse a page: no string became markup, and what must be seen is there as text."""
    parser = _Page()
    parser.feed(page.read_text("utf-8"))
    parser.close()
    for found in parser.wrong:
        site.violated(5, f"{page.name}: {found}")
    if parser.scripts != [_SCRIPT]:
        site.violated(5, f"{page.name} has other scripts than its own: {parser.scripts}"[:500])
    if shown not in parser.text:
        site.violated(5, f"{page.name} does not show {shown!r}")
