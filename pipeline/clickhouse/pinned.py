"""The settings that the meaning of our statements rests on, each with the value that it must have.

A user's profile may set any of them otherwise, and ClickHouse then answers with fewer rows, or stores other values,
without an error. They are sent with every statement: one that has the value already may be sent by a user who may
change nothing, and one that has not is refused by its name. ``tests/system/test_profiles.py`` changes every setting
that ClickHouse has and compares.
"""

from __future__ import annotations

from typing import Final

#: An answer that is cut is an error.
_WHOLE: Final = dict.fromkeys(
    (
        "distinct_overflow_mode",
        "group_by_overflow_mode",
        "join_overflow_mode",
        "read_overflow_mode",
        "read_overflow_mode_leaf",
        "result_overflow_mode",
        "set_overflow_mode",
        "sort_overflow_mode",
        "timeout_overflow_mode",
        "timeout_overflow_mode_leaf",
        "transfer_overflow_mode",
    ),
    "throw",
)

#: What a query gives: all rows, of now, in SQL's terms.
READING: Final[dict[str, int | str]] = {
    **_WHOLE,
    "additional_result_filter": "",
    "additional_table_filters": "{}",
    "aggregate_functions_null_for_empty": 0,
    "apply_deleted_mask": 1,
    "cast_keep_nullable": 0,
    "describe_compact_output": 0,
    "describe_extend_object_types": 0,
    "describe_include_subcolumns": 0,
    "describe_include_virtual_columns": 0,
    "dialect": "clickhouse",
    "do_not_merge_across_partitions_select_final": 0,
    "empty_result_for_aggregation_by_empty_set": 0,
    "extremes": 0,
    "implicit_transaction": 0,
    "inject_random_order_for_select_without_order_by": 0,
    "limit": 0,
    "make_distributed_plan": 0,
    "offset": 0,
    "partial_result_on_first_cancel": 0,
    "skip_unavailable_shards": 0,
    "use_query_cache": 0,
}

#: What is exported as Parquet: text as text, dates as dates, whatever version's ``compatibility`` a profile asks for.
EXPORTING: Final[dict[str, int | str]] = {
    "output_format_parquet_date_as_uint16": 0,
    "output_format_parquet_string_as_string": 1,
}

#: What the warehouse's statements rest on besides: which rows are stored, once or twice, and how tables are joined.
WRITING: Final[dict[str, int | str]] = {
    "data_type_default_nullable": 0,
    "deduplicate_insert": "backward_compatible_choice",  # what insert_deduplicate says
    "deduplicate_insert_select": "enable_when_possible",
    "insert_null_as_default": 0,
    "join_algorithm": "hash",
    "join_default_strictness": "ALL",
    "max_bytes_in_join": 0,
    "max_bytes_in_set": 0,
    "max_rows_in_join": 0,
    "max_rows_in_set": 0,
}
