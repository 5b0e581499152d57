"""The private names of luigi that the pipeline relies on: all of them, for luigi may change them in any version.

pyproject.toml bounds luigi for them. After an upgrade tests/unit/graph/test_luigi_private.py says which are gone; it
also finds a use that is not listed here, and a name that is listed and not used.
"""

from __future__ import annotations

#: By what has them, with what each is used for.
NAMES = {
    "luigi.interface": {
        "_WorkerSchedulerFactory": "makes the workers of luigi's commands; there is no other way to choose another",
    },
    "Worker": {
        "_add_task_history": "what was reported of each task: (task, status, whether it can run)",
        "_keep_alive": "overridden: whether to ask for work again after there was none",
        "_scheduled_tasks": "the tasks that were given to the scheduler, by their ids",
        "_scheduler": "what is asked for work: luigid, or a scheduler in this process",
        "_task_result_queue": "replaced: where forked steps send results; luigi uses its put, get and close",
    },
    "RemoteScheduler": {
        "_fetch": "overridden: what a request's answer is read from",
        "_fetcher": "the HTTP session, which must follow no redirect",
        "_rpc_retry_attempts": "how often luigid is asked",
        "_url": "luigid's address",
    },
    "TaskStatusReporter": {
        "_scheduler": "what a running task reports its progress to",
    },
}
