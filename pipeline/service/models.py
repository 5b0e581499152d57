"""The answers of the service, as its OpenAPI description shows them."""

from __future__ import annotations

from datetime import date, datetime
from typing import Literal

from pydantic import BaseModel, Field

from pipeline.operations.history import Attempt
from pipeline.operations.status import Status
from pipeline.service.state import NetworkState
from pipeline.warehouse.claims import Work
from pipeline.warehouse.publications import Publication

State = Literal["published", "rolled back", "retired", "held", "half done", "missing"]


class SnapshotAnswer(BaseModel):
    """A network's day: what `sot-ingest status` says of it."""

    network: str
    processing_date: date
    window_days: int
    state: State
    running: bool = Field(description="a run is at work on it")
    rows: dict[str, int] | None = Field(description="that readers see, by table")
    publication_id: str | None = Field(description="of what readers see")
    action: str | None = Field(description="that made it so: publish or rollback")
    published_at: datetime | None
    manifest_sha256: str | None
    source: str | None = Field(description="URI of the manifest, its version as the fragment")

    @classmethod
    def of(cls, state: NetworkState, status: Status) -> SnapshotAnswer:
        """Return the answer about a day."""
        running = status.snapshot.processing_date in state.work
        return cls.model_validate({**status.as_dict(), "running": running})

    @property
    def is_seen(self) -> bool:
        """Whether readers see it as a run or an operator left it."""
        return self.state in {"published", "rolled back"}


class SnapshotsAnswer(BaseModel):
    """Days, the newest first."""

    snapshots: list[SnapshotAnswer]


class PublicationAnswer(BaseModel):
    """One publication, whether or not readers see it still."""

    publication_id: str
    network: str
    processing_date: date
    window_days: int
    action: Literal["publish", "rollback", "retire"]
    is_newest: bool = Field(description="no later one took its place")
    load_ids: dict[str, str] = Field(description="by table")
    rows: dict[str, int] = Field(description="by table")
    manifest_sha256: str
    source: str
    published_at: datetime
    published_by: str = Field(description="the host")
    run_id: str

    @classmethod
    def of(cls, network: str, publication: Publication, *, is_newest: bool) -> PublicationAnswer:
        """Return the answer about a publication."""
        facts = {**vars(publication), "rows": publication.row_counts, "network": network, "is_newest": is_newest}
        return cls.model_validate(facts)


class NetworkFreshness(BaseModel):
    """How old the newest that readers see of a network is: what `sot-ingest check` says of it."""

    network: str
    state: Literal["fresh", "too old", "nothing", "unknown"]
    age_seconds: float | None = Field(description="since the end of the newest day")
    processing_date: date | None
    published_at: datetime | None
    problem: str


class FreshnessAnswer(BaseModel):
    """How old what readers see is."""

    fresh: bool = Field(description="all networks are")
    networks: list[NetworkFreshness]


class RunAnswer(BaseModel):
    """What one run did about one snapshot: what `sot-ingest history` says of it, without its steps."""

    run_id: str
    host: str
    network: str
    processing_date: date
    window_days: int
    outcome: str = Field(description="published, in order, half done, failed, held or missing")
    started_at: datetime
    seconds: float
    step: str | None = Field(description="that was not done")
    error: str | None
    hint: str | None

    @classmethod
    def of(cls, attempt: Attempt) -> RunAnswer:
        """Return the answer about an attempt: the last of its steps that was not done says why."""
        trouble = attempt.troubles[-1] if attempt.troubles else None
        return cls(
            run_id=attempt.run_id,
            host=attempt.host,
            network=attempt.steps[0].snapshot.network,
            processing_date=attempt.steps[0].snapshot.processing_date,
            window_days=attempt.steps[0].snapshot.window_days,
            outcome=attempt.outcome,
            started_at=attempt.started_at,
            seconds=attempt.seconds,
            step=trouble.title if trouble else None,
            error=trouble.error if trouble else None,
            hint=trouble.hint if trouble else None,
        )


class WorkAnswer(BaseModel):
    """A run that is at work on a snapshot."""

    run_id: str
    network: str
    processing_date: date
    window_days: int
    owner: str = Field(description="host and work directory")
    since: datetime

    @classmethod
    def of(cls, state: NetworkState, work: Work) -> WorkAnswer:
        """Return the answer about a run that is at work."""
        return cls(network=state.network, window_days=state.window_days, **vars(work))


class RunsAnswer(BaseModel):
    """What runs did, the newest first, and what is at work now."""

    running: list[WorkAnswer]
    runs: list[RunAnswer]


class HealthAnswer(BaseModel):
    """The service answers; of the warehouse this says nothing."""

    status: Literal["ok"] = "ok"
    version: str


class Problem(BaseModel):
    """What is wrong."""

    code: str = Field(description="bad_request, unauthorized, not_found or warehouse_unavailable, …")
    message: str
    hint: str = Field(description="what to do")


class ErrorAnswer(BaseModel):
    """Every answer that is no success."""

    error: Problem
