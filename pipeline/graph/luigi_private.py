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
        "_add": "overridden: tells the scheduler of a task, and yields what the task needs",
        "_add_task": "overridden: reports one task to the scheduler",
        "_add_task_history": "what was reported of each task: (task, status, whether it can run)",
        "_create_task_process": "overridden: makes what runs a step, in a process of its own or not",
        "_config": "the options of luigi.cfg's section [worker]",
        "_first_task": "the id of the task that was asked for, which luigid's page shows",
        "_get_work": "overridden: asks the scheduler for a task to run",
        "_get_work_response_history": "its answers, from which luigi makes exit code 10",
        "_id": "the worker's id",
        "_keep_alive": "overridden: whether to ask for work again after there was none",
        "_run_task": "overridden: runs a step, in a process of its own or not",
        "_running_tasks": "the steps that run, by their ids",
        "_scheduled_tasks": "the tasks that were given to the scheduler, by their ids",
        "_scheduler": "what is asked for work: luigid, or a scheduler in this process",
        "_stop_requesting_work": "whether luigid's page asked the worker to end",
        "_task_result_queue": "replaced: where forked steps send results; luigi uses its put, get and close",
    },
    "CmdlineParser": {
        "_build_parser": "reads a command line as the command luigi does",
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
