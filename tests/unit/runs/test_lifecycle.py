"""pipeline.runs.lifecycle: the exit code for what ends a command."""

from __future__ import annotations

import pytest

from pipeline.errors import ConfigError, DataError, PipelineError, RequestError, SchedulerError, WorkDirectoryError
from pipeline.runs import lifecycle


@pytest.mark.parametrize(
    ("kind", "code"),
    [(ConfigError, 2), (RequestError, 2), (DataError, 30), (WorkDirectoryError, 35), (SchedulerError, 40)],
)
def test_an_error_has_the_code_of_its_kind(kind: type[PipelineError], code: int) -> None:
    """A work directory that cannot be made or read is none of upstream's data: nothing was found out."""
    assert lifecycle.log_error(kind("what", hint="do")) == code
