"""``sot-ingest serve``: what the warehouse knows, over HTTP."""

from __future__ import annotations

import importlib.util

import click

from pipeline.cli import options
from pipeline.errors import ConfigError


@click.command(epilog="\b\nExample:\n  sot-ingest serve --port 8080")
@click.option(
    "--host", default="127.0.0.1", show_default=True, help="Address to listen on; a wider one needs API_TOKEN."
)
@click.option(
    "--port", type=click.IntRange(0, 65_535), default=8080, show_default=True, help="Port; 0 for any free one."
)
def command(host: str, port: int) -> None:
    """Serve the report, what is published, how fresh it is, and metrics; /openapi.json describes it all.

    It only reads. Ends with 0 at SIGINT or SIGTERM.
    """
    chosen = options.load_settings()
    if missing := [name for name in ("fastapi", "uvicorn") if importlib.util.find_spec(name) is None]:
        raise ConfigError(f"serve needs {' and '.join(missing)}", hint="pip install 'sot-ingest[serve]'")
    if chosen.warehouse_path is not None:
        raise ConfigError(
            f"WAREHOUSE_PATH={chosen.warehouse_path}: serve would keep runs out of an embedded ClickHouse",
            hint="configure CLICKHOUSE_HOST, or write the page with sot-ingest report",
        )
    from pipeline.graph.context import get_context  # noqa: PLC0415  # drivers and all: not for --help
    from pipeline.service.access import listen  # noqa: PLC0415
    from pipeline.service.app import serve  # noqa: PLC0415
    from pipeline.service.questions import Service  # noqa: PLC0415

    with listen(host, port, chosen.api_token) as listening:
        serve(Service.of(get_context()), chosen.api_token, listening)
