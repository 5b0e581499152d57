"""The report's page: it needs nothing else, and is for every eye, screen and way of reading."""

from __future__ import annotations

import base64
import hashlib
from dataclasses import replace
from datetime import timedelta
from itertools import pairwise

import pytest

from pipeline.dates import day_end
from pipeline.operations.freshness import USUAL_MAX_AGE
from pipeline.operations.report import render
from pipeline.operations.report.data import Report
from pipeline.operations.report.days import STATES
from pipeline.tables import BY_NAME
from tests.support.html_page import Page
from tests.support.reports import LAST, entry, network, report, sample

HOSTILE = """"><script>alert(1)</script><img src=x onerror=alert(2)>'&amp; {{ 7 * 7 }} \x1b[31m"""


@pytest.fixture(scope="module")
def usual() -> Report:
    """Ten days with one of everything."""
    days = [LAST - timedelta(days=back) for back in range(9, -1, -1)]
    busy = [
        *(entry(day, [100 + place]) for place, day in enumerate(days[:5])),
        entry(days[5], [100, 40]),
        entry(days[6], [100, 90], action="rollback"),
        entry(days[7], []),
        entry(days[8], [99], failed=HOSTILE),
        entry(days[9], [], failed="the server does not answer"),
    ]
    return report(network(busy), network([entry(day, [], network="bitcoin") for day in days]))


@pytest.fixture(scope="module")
def page(usual: Report) -> Page:
    """The page of the usual days."""
    return Page(render(usual))


def text_of(page: Page) -> str:
    """Return what is to be read on a page, on one line."""
    return " ".join(page.root.text.split())


def test_the_page_says_its_rules(page: Page) -> None:
    """What an unusual drop is, and what each sign that is on it means."""
    text = text_of(page)
    assert "fewer than 50 % of the rows that are the median of the 7 published days before it (at least 3)" in text
    shown = {name for name in STATES if STATES[name].meaning in text}
    assert shown == {"published", "rolled back", "missing", "failed"}


def test_the_page_names_a_replica_that_is_behind() -> None:
    """A network whose days are all published needs a look then, for readers of that replica see another thing."""
    days = [LAST - timedelta(days=back) for back in range(9, -1, -1)]
    calm = network([entry(day, [100]) for day in days])
    behind = replace(calm, network="bitcoin", behind=("ch2 shows nothing", "<b>"))
    shown = report(calm, behind, now=day_end(LAST) + timedelta(hours=1))
    assert [health.name for health in shown.healths] == ["replica behind", "up to date"]
    assert "replica behind ch2 shows nothing" in text_of(Page(render(shown)))
    assert "&lt;b&gt;" in render(shown)


def test_the_page_says_when_it_was_written(page: Page) -> None:
    """Also where no script runs: every age has the moment as its text, and the mark of an old page is not shown."""
    ages = [element for element in page.root.all("time") if element.attributes.get("class") == "age"]
    assert [element.text for element in ages] == ["2025-08-11 07:00", "2025-08-10 01:00"]
    (mark,) = [element for element in page.root.all("p") if element.attributes.get("id") == "old"]
    assert "hidden" in mark.attributes
    (script,) = page.root.all("script")
    assert f"const OLD_HOURS = {USUAL_MAX_AGE // timedelta(hours=1)};" in script.text


def test_the_page_needs_nothing_else(page: Page) -> None:
    """No address of anything outside it, one script, of the package, and a policy that refuses any other."""
    (script,) = page.root.all("script")
    for element in page.root.all():
        assert element.tag not in {"iframe", "object", "embed", "base"}
        assert not [name for name in element.attributes if name.startswith("on")]
        for name in ("src", "href", "action", "data"):
            assert element.attributes.get(name, "#").startswith(("#", "data:,"))
    (style,) = page.root.all("style")
    assert "url(" not in style.text
    assert "@import" not in style.text
    policy = next(meta for meta in page.root.all("meta") if "http-equiv" in meta.attributes)
    digest = base64.b64encode(hashlib.sha256(script.text.encode()).digest()).decode()
    assert policy.attributes["content"].startswith("default-src 'none'; ")
    assert f"script-src 'sha256-{digest}';" in policy.attributes["content"]
    assert script.attributes == {}


@pytest.mark.parametrize(("networks", "days"), [(1, 1), (3, 195), (40, 195)])
def test_the_page_stays_small(networks: int, days: int) -> None:
    """Less than 1 MB for forty networks and half a year, and every link leads somewhere."""
    text = render(sample(networks, days))
    assert len(text.encode()) < 1_000_000
    page = Page(text)
    ids = {element.attributes["id"] for element in page.root.all() if "id" in element.attributes}
    assert {link.attributes["href"].removeprefix("#") for link in page.root.all("a")} <= ids
    details = list(page.root.all("details"))
    assert len(details) == networks
    assert [part for part in details if "open" in part.attributes] == details[: 1 if networks > 3 else networks]


def test_equal_failures_are_one() -> None:
    """With a count, however many days they are about."""
    days = [LAST - timedelta(days=back) for back in range(9, -1, -1)]
    found = Page(render(report(network([entry(day, [], failed=f"no answer on {day}") for day in days]))))
    (table,) = (each for each in found.root.all("table") if each.attributes.get("aria-labelledby") == "failures")
    assert len(list(table.all("tr"))) == 2
    assert "10 open" in table.text
    assert "and 7 more" in table.text


def test_the_page_can_be_read_without_seeing_it(page: Page) -> None:
    """Headings in order, pictures in words, cells with headings, a label for what is only a sign."""
    (html,) = page.root.all("html")
    assert html.attributes["lang"] == "en"
    levels = [int(heading.tag[1]) for heading in page.root.all("h1", "h2", "h3", "h4")]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))
    pictures = list(page.root.all("svg"))
    assert len(pictures) == len(BY_NAME) + 1  # when days were ready; none for the network without rows
    for picture in pictures:
        (title,) = picture.all("title")
        assert picture.attributes["aria-labelledby"] == title.attributes["id"]
        assert title.text.strip()
    for table in page.root.all("table"):
        assert {"scope"} <= set().union(*(heading.attributes for heading in table.all("th")))
        assert all(heading.attributes.get("scope") for heading in table.all("th"))
    (calendar,) = (table for table in page.root.all("table") if table.attributes.get("class") == "calendar")
    signs = [[cell.text for cell in row.all("td")] for row in calendar.all("tr")][2:]
    assert signs == [list("!!–↩✓✓✓✓✓✓"), list("––––––––––")]
    columns = [name.attributes["title"] for name in calendar.all("abbr")]
    assert columns == [str(LAST - timedelta(days=back)) for back in range(10)]


def test_the_page_can_be_used_without_a_mouse(page: Page) -> None:
    """The first link skips to the content; every link leads to an element that is there, and anchors are unique."""
    ids = [element.attributes["id"] for element in page.root.all() if "id" in element.attributes]
    assert len(ids) == len(set(ids))
    links = [link.attributes["href"] for link in page.root.all("a")]
    assert links[0] == "#main"
    assert {link.removeprefix("#") for link in links} <= set(ids)
    assert {f"torus-{LAST}", "network-torus", "network-bitcoin"} <= set(ids)
    for element in page.root.all():
        for name in element.attributes.get("aria-labelledby", "").split():
            assert name in ids
    (style,) = page.root.all("style")
    assert ":focus-visible" in style.text
    assert "prefers-color-scheme: dark" in style.text


def test_what_an_error_quotes_is_text(page: Page) -> None:
    """Markup of a hostile file name or value is shown and does nothing."""
    assert HOSTILE.replace("\x1b", "") in page.root.text.replace("\x1b", "")
    assert list(page.root.all("img")) == []
    assert len(list(page.root.all("script"))) == 1


def test_an_empty_warehouse_has_a_page() -> None:
    """It says that there is nothing yet, and no day is missing."""
    text = text_of(Page(render(report(network([entry(LAST, [], missing="before the first")])))))
    assert "nothing is published" in text
    assert "No step failed in these days." in text
    assert STATES["missing"].meaning not in text
