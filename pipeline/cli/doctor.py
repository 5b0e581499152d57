"""``sot-ingest doctor``: whether everything is there that a run needs."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

from pipeline.cli import options, output

if TYPE_CHECKING:
    from pipeline.operations.doctor import CheckResult


@click.command(epilog="\b\nExample:\n  sot-ingest doctor")
@click.option("--offline", is_flag=True, help="Ask no service: look at this host only.")
@click.option("--settings", "with_settings", is_flag=True, help="Show all settings, too.")
@click.option("--notify", "with_trial", is_flag=True, help="Try NOTIFY_URLS with a message, and PING_URL.")
@options.as_json
def command(*, offline: bool, with_settings: bool, with_trial: bool, as_json: bool) -> None:
    """Look at the source, the warehouse, luigid, clocks, the work directory, luigi.cfg and the names of variables.

    Ends with a verdict, and exits with 0, with 2 when something has to be set right, or with 35 when something does
    not answer. Changes nothing, and shows no secret.
    """
    from pipeline.graph.context import get_context  # noqa: PLC0415
    from pipeline.operations import doctor  # noqa: PLC0415  # luigi, drivers and all: not for --help
    from pipeline.operations.doctor import local, replicas, services  # noqa: PLC0415
    from pipeline.runs import trial  # noqa: PLC0415

    chosen = options.load_settings()
    here = {
        "environment": local.check_environment,
        "audits": local.check_audits if offline else services.check_audits,
        "luigi.cfg": local.check_luigi_cfg,
        "work directory": local.check_work_directory,
        "disk space": local.check_disk_space,
    }
    asked = {
        "source": services.check_source,
        "warehouse": services.check_warehouse,
        "replicas": replicas.check_replicas,
        "luigid": services.check_luigid,
        "clock": services.check_clock,
    }
    tried = {"messages": trial.check_messages, "pings": trial.check_pings} if with_trial else {}
    findings = doctor.examine(get_context(), {**({} if offline else asked), **here, **tried})
    shown = doctor.shown_settings(chosen)
    if as_json:
        output.print_json(
            {
                "verdict": doctor.verdict(findings),
                "findings": [finding.as_dict() for finding in findings],
                "settings": shown,
            }
        )
    else:
        if with_settings:
            output.print_table(["setting", "value"], [[name, value or "–"] for name, value in shown.items()])
            click.echo()
        output.print_table(["check", "state", "found"], [row for finding in findings for row in _rows(finding)])
        click.echo()
        output.print_sentence(doctor.verdict(findings))
    sys.exit(doctor.exit_code(findings))


def _rows(finding: CheckResult) -> Iterator[list[str]]:
    """Yield what was found and what to do about it, each line of them in a row."""
    lines = [*finding.text.strip().splitlines(), *(f"→ {line}" for line in finding.hint.strip().splitlines())]
    for number, line in enumerate(lines):
        yield ["", "", line] if number else [finding.check, finding.state, line]
