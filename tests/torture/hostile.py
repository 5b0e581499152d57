"""Strings that mean something to SQL, a shell, a path, a format, a page, or a terminal; drawn by chance."""

from __future__ import annotations

import random

#: What each of them would do is visible: an element or a file with this word in its name.
MARK = "zqx"

_FRAGMENTS = (
    "'; DROP TABLE raw_alerts; --",
    '" OR 1=1 --',
    "\\'",
    "\\",
    "`",
    "``",
    "') UNION ALL SELECT 1 --",
    "{database}",
    "{load_id:UUID}",
    "{0}",
    "{}",
    "{{7*7}}",
    "{% raw %}",
    "%s%n",
    "%(a)s",
    "$(touch zqx)",
    "`touch zqx`",
    "; touch zqx;",
    "| tee zqx",
    "../",
    "../../zqx",
    "/etc/zqx",
    "file:///etc/passwd",
    "~",
    "*?[a-z]",
    "<script>zqx()</script>",
    "<img src=zqx onerror=zqx()>",
    '"><svg onload=zqx()>',
    "</td></tr></table><zqx>",
    "' onmouseover='zqx()",
    "javascript:zqx()",
    "&lt;b&gt;&#0;",
    "<!--",
    "]]>",
    "<red>",
    "[bold]",
    "\n",
    "\r\n",
    "\n2025-08-01T00:00:00.000Z ERROR   forged",
    '\n{"level": "ERROR", "message": "forged"}',
    "\t",
    "\x1b[2J\x1b[31m",
    "\x1b]0;zqx\x07",
    "\b\b\b",
    "\x7f",
    "\x85",
    "\u2028",
    "\u2029",
    "\u202e",
    "\u200b",
    "\ufeff",
    "e\u0301",
    "\U0001f600",
    "\U0010ffff",
    "\ufffe",
    "\u0430lerts",
    "NULL",
    "\\N",
    "nan",
    "-1",
    "=1+1",
    " ",
    "x" * 300,
)


def strings(chance: random.Random, count: int, *, nul: bool = True) -> list[str]:
    """Return so many strings, no two the same: fragments as they are, then joined, with any characters between."""
    found = dict.fromkeys([*_FRAGMENTS, *(["\0", "a\0b"] if nul else [])])
    while len(found) < count:
        parts = [chance.choice([chance.choice(_FRAGMENTS), _any(chance)]) for _ in range(chance.randint(1, 4))]
        found["".join(parts)] = None
    drawn = list(found)
    chance.shuffle(drawn)
    return drawn[:count]


def _any(chance: random.Random) -> str:
    """Return a few characters of any kind that UTF-8 has, but no NUL."""
    planes = [(1, 0x1F), (0x20, 0x7E), (0x80, 0x7FF), (0x800, 0xD7FF), (0xE000, 0xFFFF), (0x10000, 0x10FFFF)]
    return "".join(chr(chance.randint(*chance.choice(planes))) for _ in range(chance.randint(1, 5)))
