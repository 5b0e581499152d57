"""However many clients ask, the warehouse is asked once; and nobody waits for one that is dead."""

from __future__ import annotations

import asyncio
import threading

import pytest

from pipeline.errors import WarehouseUnavailableError
from pipeline.service import answers
from pipeline.service.answers import Answers, changed


class Question:
    """Counts how often it is asked; answers when it is released."""

    def __init__(self, *, held: bool = False) -> None:
        self.asked = 0
        self.error: WarehouseUnavailableError | None = None
        self.released = threading.Event()
        if not held:
            self.released.set()

    def __call__(self) -> int:
        """Return how often it was asked."""
        self.asked += 1
        self.released.wait(10)
        if self.error:
            raise self.error
        return self.asked


def test_clients_that_ask_at_once_share_an_answer() -> None:
    """And those that ask while it counts get it, too."""

    async def run() -> list[int]:
        shared, question = Answers(), Question()
        found = await asyncio.gather(*(shared.get("key", question, seconds=60) for _ in range(200)))
        return [*found, await shared.get("key", question, seconds=60), await shared.get("other", question, seconds=60)]

    assert asyncio.run(run()) == [*[1] * 201, 2]


def test_an_answer_that_is_too_old_is_asked_for_again() -> None:
    """By the next client."""

    async def run() -> list[int]:
        shared, question = Answers(), Question()
        return [await shared.get("key", question, seconds=0) for _ in range(3)]

    assert asyncio.run(run()) == [1, 2, 3]


def test_only_so_many_answers_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """The one that was asked for longest ago goes first."""
    monkeypatch.setattr(answers, "MOST", 2)

    async def run() -> list[int]:
        shared, question = Answers(), Question()
        return [await shared.get(key, question, seconds=60) for key in ("a", "b", "a", "c", "a", "b")]

    assert asyncio.run(run()) == [1, 2, 1, 3, 1, 4]


def test_a_dead_warehouse_is_told_at_once_and_asked_now_and_then() -> None:
    """With one question at a time, whatever is asked; when it answers again, so does the service."""

    async def run() -> list[int]:
        shared, question, other = Answers(), Question(), Question()
        question.error = WarehouseUnavailableError("no answer", hint="look")

        async def is_refused(key: str, ask: Question, network: str = "torus") -> None:
            with pytest.raises(WarehouseUnavailableError, match="no answer"):
                await shared.get(key, ask, network, seconds=60)

        for _ in range(100):
            await is_refused("key", question)
        assert question.asked == 1
        question.error = None
        question.released.clear()
        shared._entries["key"].until = 0.0  # as after RETRY_SECONDS
        for _ in range(100):
            await is_refused("key", question)
            await is_refused("other", other)
        task = shared._entries["key"].task
        assert await shared.get("elsewhere", Question(), "bitcoin", seconds=60) == 1
        assert (question.asked, other.asked) == (2, 0)
        question.released.set()
        assert task is not None
        await task
        return [await shared.get(key, ask, "torus", seconds=60) for key, ask in (("key", question), ("other", other))]

    assert asyncio.run(run()) == [2, 1]


def test_a_warehouse_that_hangs_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor asked anything more until it has answered."""
    monkeypatch.setattr(answers, "PATIENCE", 0.05)

    async def run(question: Question) -> int:
        shared = Answers()
        for _ in range(3):
            with pytest.raises(WarehouseUnavailableError, match="of torus has not answered"):
                await shared.get("key", question, "torus", seconds=60)
        task = shared._entries["key"].task
        question.released.set()
        assert task is not None
        await task
        return await shared.get("key", question, "torus", seconds=60)

    assert asyncio.run(run(Question(held=True))) == 1


def test_no_network_is_down_for_a_question_about_many() -> None:
    """Which of them it was is not known."""

    async def run() -> int:
        shared, question = Answers(), Question()
        question.error = WarehouseUnavailableError("no answer", hint="look")
        with pytest.raises(WarehouseUnavailableError, match="no answer"):
            await shared.get("page", question, "torus", "bitcoin", seconds=60)
        return await shared.get("key", Question(), "torus", seconds=60)

    assert asyncio.run(run()) == 1


@pytest.mark.parametrize(("stops", "asked"), [("enough", 3), ("time", 1), ("stopping", 1), ("gone", 1)])
def test_waiting_ends(stops: str, asked: int) -> None:
    """With an answer that is enough, after its time, when the service ends, or when nobody waits any more."""

    async def run() -> int:
        stopping, question = asyncio.Event(), Question()
        if stops == "stopping":
            stopping.set()

        async def ask() -> int:
            return question()

        async def gone() -> bool:
            return stops == "gone"

        seconds = 0 if stops == "time" else 60
        return await changed(ask, lambda found: found == 3, seconds=seconds, every=0.001, stopping=stopping, gone=gone)

    assert asyncio.run(run()) == asked
