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
    745: "SERVER_OVERLOADED",
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
_FIXED = (
    "the profile of {variables}_USER must have this setting as the pipeline needs it, or let it be changed: "
    "sot-ingest doctor lists all such settings"
)

#: The settings of a profile that stop a statement with an error.
_LIMITS: Final = {
    62: "max_query_size",
    158: "max_rows_to_read, max_rows_to_group_by, max_rows_to_sort or max_rows_in_distinct",
    160: "max_estimated_execution_time, min_execution_speed or timeout_before_checking_execution_speed",
    161: "max_columns_to_read",
    162: "max_subquery_depth",
    163: "max_pipeline_depth",
    165: "max_temporary_columns",
    166: "max_temporary_non_const_columns",
    167: "max_ast_depth",
    168: "max_ast_elements",
    191: "max_rows_in_set, max_bytes_in_set, max_rows_in_join or max_bytes_in_join",
    290: "the one that the message names",
    306: "max_parser_depth",
    307: "max_bytes_to_read, max_bytes_to_read_leaf or max_bytes_to_sort",
    396: "max_result_rows, max_result_bytes, max_rows_to_transfer or max_bytes_to_transfer",
    572: "query_plan_max_optimizations_to_apply",
    718: "max_parser_backtracks",
}

#: What to do about an error; ``{variables}`` is CLICKHOUSE or SOT, ``{grants}`` the file that lists grants.
_HINTS: Final = {
    **{
        code: f"a limit in the profile of {{variables}}_USER stops this statement: raise {names} for that user"
        for code, names in _LIMITS.items()
    },
    **dict.fromkeys(REFUSED_ROWS, "a value does not fit its column, or a setting of the profile has no such value"),
    **dict.fromkeys(NOT_ALLOWED, _FIXED),
    **dict.fromkeys((192, 193, 194, 516), _LOGIN),
    36: "ClickHouse's message says why; if the query tree is too big, raise max_expanded_ast_elements for "
    "{variables}_USER",
    159: "the statement took longer than max_execution_time, or another timeout, in the profile of {variables}_USER "
    "allows: run again when the server is less busy, or raise it",
    201: "the quota of {variables}_USER is used up: raise it, or run again after the time that the message names",
    202: "max_concurrent_queries of the server, or max_concurrent_queries_for_user or "
    "max_concurrent_queries_for_all_users of {variables}_USER, is reached: run again later",
    241: "the message says whose memory is used up: run again later, or raise max_memory_usage or "
    "max_memory_usage_for_user in the profile of {variables}_USER, or the server's limit",
    243: "free space on ClickHouse's disk, then run again",
    252: "merges do not keep up with what is loaded (parts_to_throw_insert): run again later",
    277: "the profile of {variables}_USER demands an index for every query: set force_primary_key and "
    "force_index_by_date to 0 for that user",
    372: "the session is used by another query: run again",
    392: "allow_ddl is 0 in the profile of {variables}_USER: set it to 1 for that user",
    497: "the ClickHouse user lacks a grant; {grants} lists those that are needed",
    584: "the profile of {variables}_USER demands a projection for every query: set force_optimize_projection to 0",
    700: "max_sessions_for_user in the profile of {variables}_USER is reached: raise it, or run again later",
    745: "the server's processors are busy (max_os_cpu_wait_time_ratio_to_throw): run again later",
}
_TRANSIENT_HINT = "ClickHouse is short of something; run again when it recovered"
_OTHER_HINT = (
    "ClickHouse's message says why; if a setting is named there, correct it in the profile of {variables}_USER"
)


def hint_of(code: int, *, variables: str, grants: str) -> str:
    """Return what to do about an error of a server that ``variables`` describe."""
    hint = _HINTS.get(code, _TRANSIENT_HINT if code in TRANSIENT else _OTHER_HINT)
    return hint.format(variables=variables, grants=grants)
