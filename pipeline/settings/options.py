"""What can be set: every option with its variable, its type, its default, and the words of its line in the docs.

Secrets are :class:`pydantic.SecretStr`, so that no representation shows them; they are never luigi parameters.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, SecretStr, field_validator

from pipeline import dates
from pipeline.environment import Host, in_brackets, parse_hosts
from pipeline.errors import did_you_mean
from pipeline.snapshot import NETWORK_PATTERN
from pipeline.tables import BY_NAME, TABLES, Table

if TYPE_CHECKING:
    from dateutil.relativedelta import relativedelta

LogLevel = Literal["DEBUG", "INFO", "WARNING", "ERROR"]
Port = Annotated[int, Field(ge=1, le=65_535)]

DATABASE_PATTERN = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}")
TOKEN_LENGTH = 16  #: characters, at least

HostSetting = Annotated[Host, BeforeValidator(Host.parse)]
HostsSetting = Annotated[tuple[Host, ...], BeforeValidator(parse_hosts)]
#: Seconds, as ``--wait`` takes them.
Duration = Annotated[float, BeforeValidator(lambda given: dates.parse_duration(str(given)))]


class Override(BaseModel):
    """What one network does differently: ``<NETWORK>_CLICKHOUSE_HOST|PORT|HTTP_PORT|DATABASE``."""

    host: HostsSetting = ()
    port: Port | None = None
    http_port: Port | None = None
    database: str | None = None


@dataclass(frozen=True)
class ServerAddress:
    """Where a ClickHouse server listens."""

    host: str
    port: int
    http_port: int

    @property
    def native(self) -> str:
        """Host and native port, as in a URL."""
        return f"{in_brackets(self.host)}:{self.port}"

    @property
    def http(self) -> str:
        """Host and HTTP port, as in a URL."""
        return f"{in_brackets(self.host)}:{self.http_port}"


class Settings(BaseModel):
    """Everything that the environment decides; field descriptions are what the README's table says."""

    model_config = ConfigDict(frozen=True)

    networks: tuple[str, ...] = Field(
        ("ethereum", "bitcoin", "torus"),
        alias="INGESTION_NETWORKS",
        min_length=1,
        description="networks that `IngestDaily` and `run` ingest, comma-separated; no other name is accepted",
    )
    table_names: tuple[str, ...] = Field(
        tuple(BY_NAME),
        alias="INGESTION_TABLES",
        min_length=1,
        description="tables that a snapshot must have, comma-separated; a publication shows these and no other",
    )
    window_days: int = Field(
        195, alias="INGESTION_WINDOW_DAYS", ge=1, le=65_535, description="days of history in a snapshot"
    )
    retry_attempts: int = Field(
        3, alias="INGESTION_RETRY_ATTEMPTS", ge=1, description="tries of a step whose service is unavailable"
    )
    retry_delay: Duration = Field(
        300, alias="INGESTION_RETRY_DELAY", description="time between two tries of a step: seconds, or like 90s or 5m"
    )
    keep: str = Field(
        "forever",
        alias="INGESTION_KEEP",
        description="days that `gc` keeps for readers, like `400d` or `13months`; `forever` retires none",
    )
    allow_md5: bool = Field(
        False, alias="INGESTION_ALLOW_MD5", description="accept manifests that prove files by MD5 only"
    )
    ignore_extra_columns: bool = Field(
        False, alias="INGESTION_IGNORE_EXTRA_COLUMNS", description="load files without their unknown columns"
    )
    audits_path: Path | None = Field(
        None,
        alias="INGESTION_AUDITS_PATH",
        description="directory with your own audits, `….sql`, and `audits.toml`, which changes levels and thresholds",
    )
    work_path: Path = Field(
        Path("work"), alias="WORK_PATH", description="directory for downloads and proofs; one a deployment"
    )

    sot_path: Path | None = Field(
        None, alias="SOT_PATH", description="source: a local directory with the bucket's layout"
    )
    s3_bucket: str | None = Field(None, alias="SOT_S3_BUCKET", description="source: an S3 bucket")
    s3_endpoint: str | None = Field(
        None, alias="SOT_S3_ENDPOINT", description="URL of an S3-compatible store; unset for AWS"
    )
    s3_region: str | None = Field(None, alias="SOT_S3_REGION", description="region of the bucket")
    s3_prefix: str = Field("", alias="SOT_S3_PREFIX", description="folder in the bucket that holds snapshots/")
    s3_anonymous: bool = Field(
        False, alias="SOT_S3_ANONYMOUS", description="send unsigned requests (public-read buckets)"
    )

    sot_host: HostSetting | None = Field(
        None, alias="SOT_HOST", description="source: the SOT ClickHouse; `host`, `host:port` or `host:port:http_port`"
    )
    sot_port: Port = Field(9000, alias="SOT_PORT", description="its native port")
    sot_http_port: Port = Field(8123, alias="SOT_HTTP_PORT", description="its HTTP port")
    sot_database: str = Field(
        "sot_production", alias="SOT_DATABASE", description="its database; `{network}` stands for the network"
    )
    sot_user: str | None = Field(None, alias="SOT_USER", description="user who may read its tables; no default")
    sot_password: SecretStr = Field(SecretStr(""), alias="SOT_PASSWORD", description="password")
    sot_secure: bool = Field(False, alias="SOT_SECURE", description="TLS on both ports, certificates verified")
    sot_settle_seconds: Duration = Field(
        60, alias="SOT_SETTLE_SECONDS", description="seconds without a change before a date counts as written"
    )
    sot_may_be_empty: tuple[str, ...] = Field(
        (), alias="SOT_MAY_BE_EMPTY", description="tables that a date may have no rows in, comma-separated"
    )

    warehouse_path: Path | None = Field(
        None, alias="WAREHOUSE_PATH", description="warehouse: directory of an embedded ClickHouse"
    )
    clickhouse_host: HostsSetting = Field(
        (),
        alias="CLICKHOUSE_HOST",
        description="warehouse: a ClickHouse server; `host`, `host:port` or `host:port:http_port`; or several, "
        "comma-separated: the replicas of one shard, in the order to ask (docs/cluster.md)",
    )
    clickhouse_port: Port = Field(9000, alias="CLICKHOUSE_PORT", description="its native port")
    clickhouse_http_port: Port = Field(8123, alias="CLICKHOUSE_HTTP_PORT", description="its HTTP port")
    clickhouse_database: str | None = Field(
        None,
        alias="CLICKHOUSE_DATABASE",
        description="its database, where one network is configured; a network's is otherwise named like it",
    )
    clickhouse_user: str = Field("default", alias="CLICKHOUSE_USER", description="user")
    clickhouse_password: SecretStr = Field(SecretStr(""), alias="CLICKHOUSE_PASSWORD", description="password")
    clickhouse_secure: bool = Field(
        False, alias="CLICKHOUSE_SECURE", description="TLS on both ports, certificates verified"
    )
    clickhouse_replicated: Literal["auto", "true", "false"] = Field(
        "auto",
        alias="CLICKHOUSE_REPLICATED",
        description="whether tables are replicas; `auto`: where several hosts are named, or where the database or its "
        "tables are; `true` with one host prepares for a second",
    )
    clickhouse_replica_path: str = Field(
        "/clickhouse/tables/{shard}/{database}/{table}",
        alias="CLICKHOUSE_REPLICA_PATH",
        description="where a replicated table is in Keeper; macros of the servers, `{database}` and `{table}` count",
    )
    clickhouse_min_copies: int = Field(
        1,
        alias="CLICKHOUSE_MIN_COPIES",
        ge=1,
        description="hosts that must have a load before it is published; 2 stops rather than run on one copy",
    )
    overrides: dict[str, Override] = Field(default_factory=dict, exclude=True)

    report_url: str | None = Field(
        None, alias="REPORT_URL", description="where the report is served; luigid's page links to it"
    )
    api_token: SecretStr = Field(
        SecretStr(""),
        alias="API_TOKEN",
        description="what `sot-ingest serve` asks those for who ask it; needed where it listens beyond the loopback",
    )
    log_format: Literal["text", "json"] = Field("text", alias="LOG_FORMAT", description="`text` or `json`")
    log_level: LogLevel = Field("INFO", alias="LOG_LEVEL", description="`DEBUG`, `INFO`, `WARNING` or `ERROR`")

    notify_urls: SecretStr = Field(
        SecretStr(""),
        alias="NOTIFY_URLS",
        description="where a run's failure and recovery are reported: Apprise URLs, comma-separated; they hold tokens",
    )
    notify_on_success: bool = Field(
        False, alias="NOTIFY_ON_SUCCESS", description="tell of every run that did something"
    )
    notify_missing: bool = Field(
        True, alias="NOTIFY_MISSING", description="tell of a run that found no snapshot (exit code 20)"
    )
    ping_url: SecretStr = Field(
        SecretStr(""),
        alias="PING_URL",
        description="dead-man's switch: this URL with `/start`, then with `/` and the exit code, is asked for; "
        "`{network}` and `{command}` in it stand for those of the command",
    )
    metrics_path: Path | None = Field(
        None,
        alias="METRICS_PATH",
        description="files for the node exporter's textfile collector; `x.prom` stands for `x-torus-run.prom` etc.",
    )
    report_path: Path | None = Field(
        None, alias="REPORT_PATH", description="file that the report is written to at the end of each run, `….html`"
    )

    @field_validator("networks", "table_names", "sot_may_be_empty", mode="before")
    @classmethod
    def _split(cls, value: Any) -> Any:
        return tuple(part.strip() for part in value.split(",")) if isinstance(value, str) else value

    @field_validator("networks")
    @classmethod
    def _check_networks(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        wrong = [network for network in value if not NETWORK_PATTERN.fullmatch(network)]
        if wrong:
            raise ValueError(f"{', '.join(map(repr, wrong))} is not of the form {NETWORK_PATTERN.pattern}")
        if len(set(value)) < len(value):
            raise ValueError("a network is named twice")
        return value

    @field_validator("table_names")
    @classmethod
    def _check_tables(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if wrong := [name for name in value if name not in BY_NAME]:
            raise ValueError(f"{', '.join(map(repr, wrong))}: expected some of {', '.join(BY_NAME)}")
        if len(set(value)) < len(value):
            raise ValueError("a table is named twice")
        return value

    @field_validator("sot_may_be_empty")
    @classmethod
    def _check_may_be_empty(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        allowed = [table.name for table in TABLES if table.may_be_empty]
        if wrong := set(value) - set(allowed):
            raise ValueError(f"{', '.join(sorted(wrong))}: expected some of {', '.join(allowed)}")
        return value

    @field_validator("keep")
    @classmethod
    def _check_keep(cls, value: str) -> str:
        if value != "forever":
            dates.parse_span(value)
        return value

    @field_validator("clickhouse_database")
    @classmethod
    def _check_database(cls, value: str | None) -> str | None:
        if value is not None and not DATABASE_PATTERN.fullmatch(value):
            raise ValueError("expected a name of letters, digits and _")
        return value

    @field_validator("s3_endpoint")
    @classmethod
    def _check_endpoint(cls, value: str | None) -> str | None:
        if value is not None and not re.fullmatch(r"https?://[^/\s@?#]+(/[^\s@?#]*)?", value):
            raise ValueError("expected http://host[:port] or https://host[:port], and maybe a path")
        return value

    @field_validator("ping_url")
    @classmethod
    def _check_ping_url(cls, value: SecretStr) -> SecretStr:
        url = re.sub(r"\{(network|command)\}", "", value.get_secret_value())
        if not re.fullmatch(r"(https?://[^/\s{}]+[^\s{}]*)?", url):
            raise ValueError(
                "expected a URL like https://hc-ping.com/… with no other placeholder than {network}, {command}"
            )
        return value

    @field_validator("notify_urls")
    @classmethod
    def _check_notify_urls(cls, value: SecretStr) -> SecretStr:
        if not re.match(r"(\s*[a-z][a-z0-9+-]*://\S|\Z)", value.get_secret_value(), re.IGNORECASE):
            raise ValueError("expected Apprise URLs like json://host/path, comma-separated")
        return value

    @field_validator("api_token")
    @classmethod
    def _check_api_token(cls, value: SecretStr) -> SecretStr:
        if not re.fullmatch(rf"([!-~]{{{TOKEN_LENGTH},}})?", value.get_secret_value()):
            raise ValueError(f"expected at least {TOKEN_LENGTH} visible ASCII characters: openssl rand -hex 32")
        return value

    @field_validator("log_level", mode="before")
    @classmethod
    def _upper(cls, value: Any) -> Any:
        upper = value.upper() if isinstance(value, str) else value
        return upper if upper in get_args(LogLevel) else value

    @property
    def tables(self) -> tuple[Table, ...]:
        """The tables that are ingested, in the order of :data:`pipeline.tables.TABLES`."""
        return tuple(table for table in TABLES if table.name in self.table_names)

    @property
    def retention(self) -> relativedelta | None:
        """The days up to yesterday that readers keep, or None when they keep all."""
        return None if self.keep == "forever" else dates.parse_span(self.keep)

    def database(self, network: str) -> str:
        """Return the name of the network's database."""
        override = self.overrides.get(network)
        common = self.clickhouse_database if len(self.networks) == 1 else None
        return (override and override.database) or common or network

    def servers(self, network: str) -> tuple[ServerAddress, ...]:
        """Return the network's ClickHouse servers, none when the warehouse is embedded or nothing names one.

        Several are replicas of each other, in the order to ask.
        """
        override = self.overrides.get(network, Override())
        if self.warehouse_path is not None:
            return ()
        return tuple(
            ServerAddress(
                host.name,
                override.port or host.port or self.clickhouse_port,
                override.http_port or host.http_port or self.clickhouse_http_port,
            )
            for host in override.host or self.clickhouse_host
        )

    @property
    def sot_server(self) -> ServerAddress | None:
        """The SOT ClickHouse, or None when the source is another one."""
        if (host := self.sot_host) is None:
            return None
        return ServerAddress(host.name, host.port or self.sot_port, host.http_port or self.sot_http_port)

    def unknown_network(self, network: str) -> str | None:
        """Return what is wrong with a network that was asked for, or None when it is a configured one."""
        if network in self.networks:
            return None
        return f"{network!r} is not one of INGESTION_NETWORKS {did_you_mean(network, self.networks)}"
