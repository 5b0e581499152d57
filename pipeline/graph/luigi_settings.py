"""What luigi must be configured with, whether or not it found luigi.cfg."""

from __future__ import annotations

#: What luigi must be told whether or not it found luigi.cfg: without [retcode] a failed run exits 0, without
#: check_complete_on_run a task that produced nothing is a success. luigi.cfg says the same, for people and luigid.
LUIGI_SETTINGS: dict[str, dict[str, str]] = {
    "core": {
        "no_configure_logging": "true",
        "autoload_range": "false",
        "rpc_retry_attempts": "4",
        "rpc_retry_wait": "5",
        "rpc_log_retries": "false",
    },
    "retcode": {
        "already_running": "10",
        "missing_data": "20",
        "not_run": "25",
        "task_failed": "30",
        "scheduling_error": "35",
        "unhandled_exception": "40",
    },
    "scheduler": {
        "stable_done_cooldown_secs": "0",
        "worker_disconnect_delay": "30",
        "prune_on_get_work": "true",
        "retry_delay": "-1",
        "disable_persist": "3600",
        "metrics_collector": "prometheus",
    },
    "prometheus": {"task_parameters_to_use_in_labels": '["network"]'},
    "resources": {"downloads": "2", "loads": "2"},
    "worker": {"check_complete_on_run": "true", "wait_jitter": "1"},
}

#: Sections whose values are the operator's to choose: what luigi.cfg says there is left.
OPERATORS = frozenset({"resources"})
