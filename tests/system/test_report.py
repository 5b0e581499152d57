"""``sot-ingest report``: one page that needs nothing else, for every eye, screen and way of reading."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import pytest

from pipeline.operations.report import data, render, words
from pipeline.operations.report.data import Report, ReportDay
from pipeline.operations.status import Status
from pipeline.snapshot import Snapshot
from pipeline.tables import BY_NAME
from pipeline.warehouse.publish import Action, Publication
from pipeline.warehouse.step_log import StepRecord, StepState
from tests.support.deployment import Deployment, EmbeddedReader, in_directory
from tests.support.snapshots import Bucket

LAST = date(2025, 8, 10)
HOSTILE = """"><script>alert(1)</script><img src=x onerror=alert(2)>'&amp; {{ 7 * 7 }} \x1b[31m"""
VOID = {"meta", "link", "br", "img", "input", "hr"}


@dataclass
class Element:
    """An element of a page."""

    tag: str
    attributes: dict[str, str]
    children: list[Element] = field(default_factory=list)
    text: str = ""  #: of it and of what is in it

    def all(self, *tags: str) -> Iterator[Element]:
        """Yield the elements with one of these tags, in the page's order; all without tags."""
        for child in self.children:
            if not tags or child.tag in tags:
                yield child
            yield from child.all(*tags)


class Page(HTMLParser):
    """Parses a page, and refuses one whose elements are not closed in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.root = Element("", {})
        self._open = [self.root]
        self.feed(text)
        self.close()
        assert self._open == [self.root]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Open an element."""
        element = Element(tag, {name: value or "" for name, value in attrs})
        self._open[-1].children.append(element)
        if tag not in VOID:
            self._open.append(element)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Add an element without content."""
        self._open[-1].children.append(Element(tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        """Close the element."""
        assert self._open.pop().tag == tag

    def handle_data(self, data: str) -> None:
        """Add text to all elements that it is in."""
        for element in self._open:
            element.text += data


def publication(snapshot: Snapshot, at: datetime, rows: int, action: Action = "publish") -> Publication:
    """Return a publication with so many rows in each table."""
    return Publication(
        processing_date=snapshot.processing_date,
        window_days=snapshot.window_days,
        publication_id="",
        action=action,
        manifest_sha256="5a" * 32,
        load_ids={},
        row_counts=dict.fromkeys(BY_NAME, rows),
        source="s3://bucket/META.json#1",
        published_at=at,
        published_by="host",
        run_id="run",
    )


def record(snapshot: Snapshot, step: str, state: StepState, at: datetime, error: str = "") -> StepRecord:
    """Return what a step left."""
    return StepRecord(snapshot, step, "", state, at, 1.5, error=error, hint=error and "ask upstream", run_id="run")


def entry(
    day: date, rows: list[int], *, network: str = "torus", failed: str = "", action: Action = "publish"
) -> ReportDay:
    """Return a day that was published once for each count of rows, and after that failed."""
    snapshot = Snapshot(network, day, 195)
    night = datetime(day.year, day.month, day.day, 1, tzinfo=UTC) + timedelta(days=1)
    seen = [publication(snapshot, night + timedelta(hours=after), count) for after, count in enumerate(rows)]
    if seen:
        seen[-1] = publication(snapshot, seen[-1].published_at, rows[-1], action)
    records = [record(snapshot, "PublishSnapshot", "done", each.published_at) for each in seen]
    if failed:
        records.append(record(snapshot, "DownloadFile", "failed", night + timedelta(hours=9), failed))
    status = Status(snapshot, "published" if seen else "missing", None, seen[-1] if seen else None)
    return data.entry_of(status, seen, records)


def report(days: list[ReportDay]) -> Report:
    """Return a report of one network's days and, beside it, of one where nothing ever happened."""
    first = days[0].snapshot.processing_date
    nothing = [entry(day.snapshot.processing_date, [], network="bitcoin") for day in days]
    records = [day.failure for day in days if day.failure]
    by_network = {"torus": data.with_drops(days), "bitcoin": nothing}
    now = datetime(2025, 8, 11, 7, tzinfo=UTC)
    return Report(now, first, days[-1].snapshot.processing_date, 195, by_network, tuple(records))


@pytest.fixture(scope="module")
def usual() -> Report:
    """Ten days with one of everything."""
    days = [LAST - timedelta(days=back) for back in range(9, -1, -1)]
    return report(
        [
            *(entry(day, [100 + place]) for place, day in enumerate(days[:5])),
            entry(days[5], [100, 40]),
            entry(days[6], [100, 90], action="rollback"),
            entry(days[7], []),
            entry(days[8], [99], failed=HOSTILE),
            entry(days[9], [], failed="the server does not answer"),
        ]
    )


@pytest.fixture(scope="module")
def page(usual: Report) -> Page:
    """The page of the usual days."""
    return Page(render(usual))


def test_days_have_the_state_that_a_person_would_give_them(usual: Report) -> None:
    """A failure counts until something was published after it."""
    states = [day.state.name for day in usual.by_network["torus"]]
    assert states == [*["published"] * 5, "superseded", "rolled back", "missing", "failed", "failed"]
    assert {day.state.name for day in usual.by_network["bitcoin"]} == {"missing"}
    repaired = entry(LAST, [], failed="bad file")
    late = publication(repaired.snapshot, datetime(2025, 8, 12, tzinfo=UTC), 5)
    records = [record(repaired.snapshot, "DownloadFile", "failed", datetime(2025, 8, 11, 10, tzinfo=UTC), "bad file")]
    assert data.entry_of(repaired.status, [late], records).state.name == "published"


def test_a_drop_below_half_of_the_usual_is_marked(usual: Report) -> None:
    """The median of up to seven published days before decides, of three at least; the page says the rule."""
    drops = [(day.snapshot.processing_date, len(day.drops)) for day in usual.by_network["torus"] if day.drops]
    assert drops == [(LAST - timedelta(days=4), len(BY_NAME))]
    few = data.with_drops([entry(LAST - timedelta(days=back), [rows]) for back, rows in ((2, 100), (1, 100), (0, 1))])
    assert [day.drops for day in few] == [(), (), ()]
    text = " ".join(Page(render(usual)).root.text.split())
    assert "fewer than 50 % of the rows that are the median of the 7 published days before it (at least 3)" in text


def test_the_page_needs_nothing_else(page: Page) -> None:
    """No address of anything outside it, no script, and a policy that would refuse both."""
    for element in page.root.all():
        assert element.tag not in {"script", "iframe", "object", "embed", "base"}
        assert not [name for name in element.attributes if name.startswith("on")]
        for name in ("src", "href", "action", "data"):
            assert element.attributes.get(name, "#").startswith(("#", "data:,"))
    (style,) = page.root.all("style")
    assert "url(" not in style.text
    assert "@import" not in style.text
    policy = next(meta for meta in page.root.all("meta") if "http-equiv" in meta.attributes)
    assert "default-src 'none'" in policy.attributes["content"]


def test_the_page_can_be_read_without_seeing_it(page: Page) -> None:
    """Headings in order, pictures in words, cells with headings, a label for what is only a sign."""
    (html,) = page.root.all("html")
    assert html.attributes["lang"] == "en"
    levels = [int(heading.tag[1]) for heading in page.root.all("h1", "h2", "h3", "h4")]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))
    pictures = list(page.root.all("svg"))
    assert len(pictures) == len(BY_NAME)  # none for the network without rows, which is said in words
    for picture in pictures:
        labels = {child.attributes.get("id"): child.text for child in picture.all("title", "desc")}
        named = picture.attributes["aria-labelledby"].split()
        assert len(named) == 2
        assert all(labels[name].strip() for name in named)
    for table in page.root.all("table"):
        assert {"scope"} <= set().union(*(heading.attributes for heading in table.all("th")))
        assert all(heading.attributes.get("scope") for heading in table.all("th"))
    days = [
        link
        for cell in page.root.all("table")
        if "calendar" in cell.attributes.get("class", "")
        for link in cell.all("a")
    ]
    assert len(days) == 20
    assert all(": " in link.attributes["aria-label"] for link in days)
    assert {link.text for link in days} == {"✓", "2", "↩", "–", "!"}


def test_the_page_can_be_used_without_a_mouse(page: Page) -> None:
    """The first link skips to the content; every link leads to an element that is there, and anchors are unique."""
    ids = [element.attributes["id"] for element in page.root.all() if "id" in element.attributes]
    assert len(ids) == len(set(ids))
    links = [link.attributes["href"] for link in page.root.all("a")]
    assert links[0] == "#main"
    assert {link.removeprefix("#") for link in links} <= set(ids)
    assert {f"torus-{LAST}", f"bitcoin-{LAST}"} <= set(ids)
    for element in page.root.all():
        for name in element.attributes.get("aria-labelledby", "").split():
            assert name in ids
    (style,) = page.root.all("style")
    assert ":focus-visible" in style.text
    assert "prefers-color-scheme: dark" in style.text


def test_what_an_error_quotes_is_text(page: Page) -> None:
    """Markup of a hostile file name or value is shown and does nothing."""
    assert HOSTILE.replace("\x1b", "") in page.root.text.replace("\x1b", "")
    assert list(page.root.all("script", "img")) == []


def test_an_empty_warehouse_has_a_page(usual: Report) -> None:
    """It says that there is nothing yet."""
    nothing = Report(usual.now, usual.first, usual.last, 195, {"bitcoin": usual.by_network["bitcoin"]}, ())
    text = " ".join(Page(render(nothing)).root.text.split())
    assert "Nothing yet" in text
    assert "No step failed in these days." in text


@pytest.mark.parametrize(
    ("count", "text"),
    [(0.001, "under 0.01 s"), (0.456, "0.46 s"), (12.3, "12 s"), (200, "3 min 20 s"), (7500, "2 h 5 min")],
)
def test_durations_are_spelled_for_people(count: float, text: str) -> None:
    """In the unit that suits them."""
    assert words.seconds(count) == text


def test_ages_are_spelled_for_people() -> None:
    """Minutes, hours, then days."""
    ages = [words.age(timedelta(minutes=minutes)) for minutes in (5, 450, 3_120)]
    assert ages == ["5 min", "7 h 30 min", "2 days 4 h"]


def test_the_command_writes_what_was_done(tmp_path: Path) -> None:
    """A published and a failed day, from real runs; the file is replaced whole, and - is stdout.

    A run writes the page itself where REPORT_PATH says, however it ended.
    """
    bucket = Bucket(tmp_path / "bucket")
    yesterday = datetime.now(UTC).date() - timedelta(days=1)
    good, bad = bucket.snapshot("torus", yesterday), bucket.snapshot("torus", yesterday - timedelta(days=1))
    bad.corrupt("raw_alerts", 100)
    by_run = tmp_path / "www" / "by-run.html"
    networks = {"INGESTION_NETWORKS": "torus", "REPORT_PATH": str(by_run)}
    reader = EmbeddedReader(tmp_path / "warehouse")
    deployment = Deployment(in_directory(bucket.root), reader, tmp_path / "run", networks)
    assert deployment.run(good.snapshot).exit_code == 0
    assert "the manifest says" not in by_run.read_text("utf-8")
    assert deployment.run(bad.snapshot).exit_code == 30
    assert "the manifest says" in by_run.read_text("utf-8")
    path = tmp_path / "report.html"
    path.write_text("before")
    result = deployment.command("sot-ingest", "report", "--html", str(path), "--days", "3")
    assert (result.exit_code, result.stderr) == (0, "")
    page = Page(path.read_text("utf-8"))
    assert path.stat().st_mode & 0o777 == 0o644
    rows = {row.attributes["id"]: " ".join(row.text.split()) for row in page.root.all("tr") if "id" in row.attributes}
    assert list(rows) == [f"torus-{yesterday - timedelta(days=back)}" for back in range(3)]
    found = list(rows.values())
    assert "published" in found[0]
    assert "failed" in found[1]
    assert "the manifest says" in found[1]
    assert "missing" in found[2]
    assert [path.name for path in tmp_path.iterdir() if "report" in path.name] == ["report.html"]
    result = deployment.command("sot-ingest", "report", "--html", "-", "--days", "1")
    assert list(Page(result.stdout).root.all("main"))
    said = json.loads(deployment.command("sot-ingest", "report", "--json", "--days", "2").stdout)
    assert [day["state"] for day in said] == ["published", "failed"]
    other = ("--window-days", "30", "--network", "torus")
    said = json.loads(deployment.command("sot-ingest", "report", "--json", "--days", "2", *other).stdout)
    assert [(day["network"], day["window_days"], day["state"]) for day in said] == [("torus", 30, "missing")] * 2
    assert deployment.command("sot-ingest", "report").exit_code == 2
