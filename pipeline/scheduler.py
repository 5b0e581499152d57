"""luigid: where it is, and whether it answers."""

from __future__ import annotations

import urllib.error
import urllib.request

import luigi.configuration


def url() -> str:
    """Return luigid's URL, as luigi.cfg or luigi's defaults say."""
    config = luigi.configuration.get_config()
    host = config.get("core", "default_scheduler_host", config.get("core", "scheduler_host", "localhost"))
    port = config.get("core", "default_scheduler_port", config.get("core", "scheduler_port", "8082"))
    given = config.get("core", "default_scheduler_url", config.get("core", "scheduler_url", ""))
    return str(given or f"http://{host}:{port}")


def problem() -> str | None:
    """Return why luigid cannot be used, or None: luigi itself would try for minutes and say less."""
    try:
        urllib.request.urlopen(urllib.request.Request(url(), method="HEAD"), timeout=10)  # noqa: S310  # our own setting
    except urllib.error.HTTPError:
        return None
    except OSError as error:
        return f"luigid at {url()} does not answer: {error}"
    return None
