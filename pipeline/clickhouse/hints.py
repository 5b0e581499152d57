"""What ClickHouse's error codes mean to an operator: whether trying again can help, and what to do."""

from __future__ import annotations

from typing import Final

#: Codes of ClickHouse errors after which trying again can help.
TRANSIENT: Final = {
    159: "TIMEOUT_EXCEEDED",
    202: "TOO_MANY_SIMULTANEOUS_QUERIES",
    203: "NO_FREE_CONNECTION",
    209: "SOCKET_TIMEOUT",
    210: "NETWORK_ERROR",
    225: "NO_ZOOKEEPER",
    236: "ABORTED",
    241: "MEMORY_LIMIT_EXCEEDED",
    242: "TABLE_IS_READ_ONLY",
    243: "NOT_ENOUGH_SPACE",
    252: "TOO_MANY_PARTS",
    285: "TOO_FEW_LIVE_REPLICAS",
    319: "UNKNOWN_STATUS_OF_INSERT",
    394: "QUERY_WAS_CANCELLED",
    425: "SYSTEM_ERROR",
    439: "CANNOT_SCHEDULE_TASK",
    473: "DEADLOCK_AVOIDED",
    700: "USER_SESSION_LIMIT_EXCEEDED",
    999: "KEEPER_EXCEPTION",
}
MISSING: Final = {60: "UNKNOWN_TABLE", 81: "UNKNOWN_DATABASE"}
REFUSED_ROWS: Final = {
    6: "CANNOT_PARSE_TEXT",
    69: "ARGUMENT_OUT_OF_BOUND",
    70: "CANNOT_CONVERT_TYPE",
    321: "VALUE_IS_OUT_OF_RANGE_OF_DATA_TYPE",
    349: "CANNOT_INSERT_NULL_IN_ORDINARY_COLUMN",
    395: "FUNCTION_THROW_IF_VALUE_IS_NON_ZERO",
    407: "DECIMAL_OVERFLOW",
}
#: A setting that the user may not change.
NOT_ALLOWED: Final = {164: "READONLY", 452: "SETTING_CONSTRAINT_VIOLATION"}

_LOGIN = "check {variables}_USER and {variables}_PASSWORD"
_LIMIT = "a limit in the profile of {variables}_USER stopped it, the message says which: raise it for that user"
_FIXED = (
    "the profile of {variables}_USER must have this setting as the pipeline needs it, or let it be changed: "
    "sot-ingest doctor lists all such settings"
)
_FORCED = "the profile of {variables}_USER demands an index for every query: set {setting} to 0 for that user"

#: What to do about an error; ``{variables}`` is CLICKHOUSE or SOT, ``{grants}`` the file that lists grants.
HINTS: Final = {
    62: "the message says what ClickHouse cannot read: see max_query_size in the profile of {variables}_USER",
    158: _LIMIT,
    159: "the statement took longer than max_execution_time, or a timeout of the profile of {variables}_USER, allows: "
    "run again when the server is less busy, or raise it",
    160: _LIMIT,
    161: _LIMIT,
    162: _LIMIT,
    163: _LIMIT,
    164: _FIXED,
    165: _LIMIT,
    166: _LIMIT,
    167: _LIMIT,
    168: _LIMIT,
    191: _LIMIT,
    192: _LOGIN,
    193: _LOGIN,
    194: _LOGIN,
    201: "the quota of {variables}_USER is used up: raise it, or run again after the time that the message names",
    202: "max_concurrent_queries of the server, or of the profile of {variables}_USER, is reached: run again later",
    241: "the message says whose memory is used up: run again later, or raise max_memory_usage in the profile of "
    "{variables}_USER or the server's limit",
    243: "free space on ClickHouse's disk, then run again",
    252: "merges do not keep up with what is loaded: run again later",
    277: _FORCED.format(variables="{variables}", setting="force_primary_key and force_index_by_date"),
    290: _LIMIT,
    306: _LIMIT,
    307: _LIMIT,
    372: "the session is used by another query: run again",
    392: "allow_ddl is 0 in the profile of {variables}_USER: set it to 1 for that user",
    396: _LIMIT,
    452: _FIXED,
    497: "the ClickHouse user lacks a grant; {grants} lists those that are needed",
    516: _LOGIN,
    700: "max_sessions_for_user in the profile of {variables}_USER is reached: raise it, or run again later",
}
_TRANSIENT_HINT = "ClickHouse is short of something; run again when it recovered"
_OTHER_HINT = "the message is ClickHouse's own; its log has more"


def hint_of(code: int, *, variables: str, grants: str) -> str:
    """Return what to do about an error of a server that ``variables`` describe."""
    hint = HINTS.get(code, _TRANSIENT_HINT if code in TRANSIENT else _OTHER_HINT)
    return hint.format(variables=variables, grants=grants)
