"""Whether it is luigid that answers at luigid's address."""

from __future__ import annotations

import contextlib
import re
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import click.testing
import pytest
from luigi.rpc import RPCError

from pipeline.cli import sot_ingest
from pipeline.graph import luigid
from tests.support.impostor import IMPOSTORS, answering
from tests.support.luigid import free_port, running_luigid


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """The port of the real luigid."""
    with running_luigid(tmp_path_factory.mktemp("luigid")) as port:
        yield port


def test_luigid_is_luigid(real: int) -> None:
    """With and without a slash at the end, with a login that it does not ask for; and asking leaves nothing there."""
    for url in (f"http://127.0.0.1:{real}", f"http://127.0.0.1:{real}/", f"http://user:p%40ss@127.0.0.1:{real}"):
        assert luigid.problem(url) is None
    remote: Any = luigid.Luigid(f"http://127.0.0.1:{real}")  # luigi makes its methods
    assert (remote.task_list("", ""), remote.worker_list()) == ({}, [])


@pytest.mark.parametrize("name", IMPOSTORS)
def test_what_is_not_luigid_is_said(name: str) -> None:
    """What answers, and where; the login of the URL is not shown. To luigi it is a fault of its scheduler's."""
    with answering(name) as port:
        why = luigid.problem(f"http://user:canary@127.0.0.1:{port}")
        assert why is not None
        assert f"127.0.0.1:{port}" in why
        assert "is not luigid" in why
        assert IMPOSTORS[name][3] in why
        assert "canary" not in why


@pytest.mark.parametrize("name", ["bad gateway", "a login page", "another service", "a list", "no answer's body"])
def test_a_step_meets_a_fault_of_the_scheduler(name: str) -> None:
    """Whatever a worker asks of what is not luigid ends in luigi's own error."""
    with answering(name) as port:
        remote: Any = luigid.Luigid(f"http://127.0.0.1:{port}", tries=1)  # luigi makes its methods
        for ask in (remote.ping, remote.get_work):
            with pytest.raises(RPCError, match="is not luigid"):
                ask(worker="w")


@pytest.mark.parametrize("pause", [0.0, 0.01])
def test_an_answer_without_an_end_is_not_waited_for(pause: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a log or a stream of events, fast or slow: a run that asks goes on without luigid."""
    monkeypatch.setattr(luigid, "_SHORT_SECONDS", 0.3)
    ended = threading.Event()

    class Endless(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.send_response(200)
            self.end_headers()
            with contextlib.suppress(OSError):
                while not ended.wait(pause):
                    self.wfile.write(b"event: ping\n")

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # the library's signature
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Endless) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        timer = threading.Timer(5, ended.set)  # ends the answer for a client that waits
        timer.start()
        begun = time.monotonic()
        why = luigid.problem(f"http://127.0.0.1:{server.server_address[1]}")
        took = time.monotonic() - begun
        timer.cancel()
        ended.set()
        server.shutdown()
    assert why is not None
    assert "is not luigid: it answered 'event: ping" in why
    assert took < 4


@pytest.mark.parametrize("url", ["http://127.0.0.1:{free}", "http://nowhere.invalid:8082", "http://h:port", "nonsense"])
def test_nothing_there_is_said_on_one_line(url: str) -> None:
    """Refused, no such host, and what is no URL."""
    why = luigid.problem(url.format(free=free_port()))
    assert why is not None
    assert "does not answer: " in why
    assert "\n" not in why


def test_the_command_that_does_without_luigid_is_one() -> None:
    """What the hint says to type is taken: ``--help`` after it shows the help."""
    (said,) = re.findall(r"sot-ingest ([^,]+),", luigid.HINT)
    assert click.testing.CliRunner().invoke(sot_ingest, [*said.split(), "--help"]).exit_code == 0
