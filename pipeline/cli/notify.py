"""``sot-ingest notify``: a message to the services of NOTIFY_URLS, to try them and for what watches the runs."""

from __future__ import annotations

import sys

import click

from pipeline import environment, exit_codes
from pipeline.errors import ConfigError

_URLS = "NOTIFY_URLS"


@click.command(epilog="\b\nExample:\n  sot-ingest notify 'sot-ingest-run@torus.service failed'")
@click.argument("title")
def command(title: str) -> None:
    """Send a message to the services that NOTIFY_URLS names, whatever else is wrong with the configuration.

    Exits with 2 when it is not set, and with 30 when a service does not take the message.
    """
    from pipeline.runs.notify import Message, send_message  # noqa: PLC0415  # luigi, drivers and all: not for --help
    from pipeline.warehouse.ledger import HOST  # noqa: PLC0415

    found = environment.read([_URLS], [_URLS])
    if found.mistakes or _URLS not in found.values:
        raise ConfigError("\n".join(found.mistakes) or f"{_URLS}: not set", hint="see docs/monitoring.md")
    failed = send_message(found.values[_URLS], Message("failure", title, f"host {HOST}"))
    sys.exit(exit_codes.TASK_FAILED if failed else 0)
