"""The service's paths: their parameters, and the question that each of them is."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import date, timedelta
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Header, Path, Query, Request, Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from pipeline.dates import future_day, yesterday
from pipeline.errors import RequestError
from pipeline.operations.freshness import USUAL_MAX_AGE
from pipeline.runs.metrics import registry_of
from pipeline.service.answers import changed
from pipeline.service.models import (
    FreshnessAnswer,
    HealthAnswer,
    PublicationAnswer,
    RunsAnswer,
    SnapshotAnswer,
    SnapshotsAnswer,
    State,
)
from pipeline.service.questions import STATE_SECONDS, Days, Service
from pipeline.service.replies import HEADERS, HTML, Reply
from pipeline.warehouse.ledger import PIPELINE_VERSION

#: The most days of one question, and the longest that a question may wait for a change.
MOST_DAYS, LONGEST_WAIT = 400, 300

router = APIRouter()


def _service(request: Request) -> Service:
    service: Service = request.app.state.service
    return service


Asked = Annotated[Service, Depends(_service)]
Window = Annotated[int | None, Query(ge=1, le=65_535, description="Days of history; as configured by default.")]
IfNoneMatch = Annotated[str | None, Header(description="The ETag of the answer that the client has.")]
Wait = Annotated[int, Query(ge=0, le=LONGEST_WAIT, description="Seconds to wait for a change.")]


def _networks(
    service: Asked,
    network: Annotated[list[str] | None, Query(description="A configured network; repeatable. All by default.")] = None,
) -> tuple[str, ...]:
    return service.networks(network or ())


def _days(
    service: Asked,
    first: Annotated[date | None, Query(alias="from", description="The first day; 29 before the last.")] = None,
    last: Annotated[date | None, Query(alias="to", description="The last day; yesterday.")] = None,
    window_days: Window = None,
) -> Days:
    end = last or yesterday()
    begin = first or end - timedelta(days=29)
    if not 0 <= (end - begin).days < MOST_DAYS:
        raise RequestError(
            f"from {begin} to {end} is not a range of 1 to {MOST_DAYS} days", hint="ask for fewer days at a time"
        )
    return Days(begin, end, service.window(window_days))


Networks = Annotated[tuple[str, ...], Depends(_networks)]
Range = Annotated[Days, Depends(_days)]


async def _waited(
    request: Request, ask: Callable[[], Awaitable[Reply]], is_enough: Callable[[Reply], bool], wait: int
) -> Reply:
    stopping: asyncio.Event = request.app.state.stopping
    return await changed(
        ask, is_enough, seconds=wait, every=STATE_SECONDS, stopping=stopping, gone=request.is_disconnected
    )


@router.get("/healthz")
async def healthz() -> HealthAnswer:
    """Tell that the service answers; of the warehouse this says nothing: see /metrics and /freshness."""
    return HealthAnswer(version=PIPELINE_VERSION)


@router.get("/", response_class=Response, responses={200: {"content": {"text/html": {}}}})
async def page(
    service: Asked,
    networks: Networks,
    days: Annotated[int, Query(ge=1, le=MOST_DAYS, description="Days back from yesterday.")] = 90,
    if_none_match: IfNoneMatch = None,
) -> Response:
    """Return the report as a page, at most 15 seconds old."""
    text = await service.page(networks, days)
    return Reply(text.encode(), HTML).response(if_none_match)


@router.get("/snapshots/{network}/{day}", response_model=SnapshotAnswer)
async def snapshot(
    request: Request,
    service: Asked,
    network: str,
    day: Annotated[date, Path(description="The processing date, YYYY-MM-DD.")],
    window_days: Window = None,
    wait: Wait = 0,
    if_none_match: IfNoneMatch = None,
) -> Response:
    """Tell what is published of a network's day.

    With `wait` and without `If-None-Match` the answer comes when readers see the day, or after so many seconds.
    """
    (name,) = service.networks([network])
    if problem := future_day(day):
        raise RequestError(problem, hint="ask for a day that has begun")

    async def ask() -> Reply:
        return Reply.of(await service.snapshot(name, day, service.window(window_days)))

    def is_enough(reply: Reply) -> bool:
        if if_none_match:
            return not reply.is_known(if_none_match)
        return SnapshotAnswer.model_validate_json(reply.body).is_seen

    return (await _waited(request, ask, is_enough, wait)).response(if_none_match)


@router.get("/snapshots", response_model=SnapshotsAnswer)
async def snapshots(
    request: Request,
    service: Asked,
    networks: Networks,
    days: Range,
    state: Annotated[list[State] | None, Query(description="Days in this state; repeatable. All by default.")] = None,
    wait: Wait = 0,
    if_none_match: IfNoneMatch = None,
) -> Response:
    """Tell what is published of the days of a range, the newest first."""

    async def ask() -> Reply:
        return Reply.of(await service.snapshots(networks, days, state or ()))

    reply = await _waited(request, ask, lambda found: not found.is_known(if_none_match), wait)
    return reply.response(if_none_match)


@router.get("/publications/{publication_id}", response_model=PublicationAnswer)
async def publication(service: Asked, publication_id: UUID, if_none_match: IfNoneMatch = None) -> Response:
    """Tell what a publication showed to readers, whether or not they see it still."""
    return Reply.of(await service.publication(str(publication_id))).response(if_none_match)


@router.get("/freshness", response_model=FreshnessAnswer)
async def freshness(
    service: Asked,
    networks: Networks,
    max_age_hours: Annotated[float, Query(gt=0, le=24 * 366)] = USUAL_MAX_AGE / timedelta(hours=1),
) -> Response:
    """Tell how old the newest day of each network is; 503 when none of their warehouses answers."""
    return Reply.of(await service.freshness(networks, timedelta(hours=max_age_hours))).response()


@router.get("/runs", response_model=RunsAnswer)
async def runs(
    service: Asked,
    networks: Networks,
    days: Range,
    limit: Annotated[int, Query(ge=1, le=1_000, description="The newest so many.")] = 100,
    if_none_match: IfNoneMatch = None,
) -> Response:
    """Tell what runs did about the days of a range, the newest first, and which are at work."""
    return Reply.of(await service.runs(networks, days, limit)).response(if_none_match)


@router.get("/metrics", response_class=Response, responses={200: {"content": {"text/plain": {}}}})
async def metrics(service: Asked) -> Response:
    """Tell Prometheus how it is; that a warehouse does not answer is a metric."""
    return Response(generate_latest(registry_of(await service.samples())), 200, HEADERS, CONTENT_TYPE_LATEST)
