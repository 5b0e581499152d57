"""What goes wrong between the pipeline and ClickHouse about one table: in the network, or in the server itself."""

from __future__ import annotations

import re
import threading
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from tests.support.snapshots import contract
from tests.torture import oracle
from tests.torture.proxy import Act, Exchange, Proxy
from tests.torture.site import Site


@dataclass
class Fault:
    """A fault that is about to happen to one table."""

    site: Site
    proxy: Proxy
    table: str
    late: list[Exchange] = field(default_factory=list)  #: statements that have not come to the server yet
    mend: list[Callable[[], object]] = field(default_factory=list)  #: what ends the fault

    @property
    def loads(self) -> str:
        """The table that rows are inserted into, with its database."""
        (network,) = self.site.files
        return f"{self.site.database(network)}.{self.table}_loads"

    @property
    def last(self) -> str:
        """The last column of the table that readers know; it is in no key."""
        return list(contract()[self.table])[-1]

    @property
    def insert(self) -> tuple[str, ...]:
        """The words of the INSERT of the file."""
        return ("INSERT INTO", f"{self.table}_loads", "FORMAT Parquet")

    @property
    def row(self) -> tuple[str, ...]:
        """The words of the ledger's row about a load of this table; a rerun's row that takes proofs back has others."""
        return ("INSERT INTO", "sot_table_loads", "fromUnixTimestamp64Micro", self.table)

    def ask(self, statement: str) -> str:
        """Run a statement past the proxy."""
        return oracle.ask(self.site.ground.server, statement).decode()

    def inserts(self, act: Act, times: int = 1_000) -> None:
        """Let this become of INSERTs of the file."""
        self.proxy.aim(*self.insert, act=act, times=times)

    def statements(self, act: Act, *words: str, times: int = 1) -> None:
        """Let this become of statements on the native port."""
        self.proxy.aim(*words, act=act, is_native=True, times=times)

    def end(self) -> None:
        """End it, and let the server have what is late."""
        for mend in self.mend:
            mend()
        for exchange in self.late:
            exchange.ask()


Made = Callable[[Fault], object]


# What becomes of a statement


def _reset(exchange: Exchange) -> None:
    exchange.reset()


def _half(exchange: Exchange) -> None:
    """Reset the client when the server has half of it."""
    exchange.send_half()
    exchange.reset()


def _unanswered(exchange: Exchange) -> None:
    """Reset the client when the server has done it."""
    exchange.ask()
    exchange.reset()


def _cut(exchange: Exchange) -> None:
    """Hang up within the answer."""
    answer = exchange.ask()
    exchange.reply(answer[: len(answer) // 2])


def _silent(exchange: Exchange) -> None:
    """Let the server do it, and never say so."""
    exchange.ask()
    exchange.wait_until_given_up()


def _http(status: str, body: str, *fields: str) -> Act:
    """Answer in the server's place, which never hears of it."""
    head = "\r\n".join((f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *fields))
    return lambda exchange: exchange.reply(f"{head}\r\n\r\n{body}".encode())


def _exception(code: int, name: str, status: str = "500 Internal Server Error") -> Act:
    """Answer with an exception as ClickHouse words it."""
    body = f"Code: {code}. DB::Exception: no: While executing. ({name}) (version 26.7.3.1)\n"
    return _http(status, body, f"X-ClickHouse-Exception-Code: {code}")


def _changed(pattern: bytes, by: bytes) -> Act:
    """Pass on a request with its head changed, so that the server itself refuses it."""
    return lambda exchange: exchange.reply(exchange.ask(re.sub(pattern, by, exchange.request, count=1)))


def _altered(*statements: str, mend: str) -> Made:
    """The table is altered when an INSERT into it is on its way, and altered back after the run."""

    def made(fault: Fault) -> None:
        done = threading.Event()

        def act(exchange: Exchange) -> None:
            if not done.is_set():
                done.set()
                for statement in statements:
                    fault.ask(statement.format(loads=fault.loads, last=fault.last))
            exchange.reply(exchange.ask())

        fault.inserts(act)
        if mend:
            fault.mend.append(lambda: fault.ask(mend.format(loads=fault.loads, last=fault.last)))

    return made


def _inserts(act: Act, times: int = 1_000) -> Made:
    return lambda fault: fault.inserts(act, times)


def _of_the_ledger(act: Act, times: int = 1) -> Made:
    return lambda fault: fault.statements(act, *fault.row, times=times)


def _of_the_publication(act: Act) -> Made:
    return lambda fault: fault.statements(act, "INSERT INTO", "sot_publications", "insert_deduplication_token")


def _refused(fault: Fault) -> None:
    """Nobody listens any more, from the table's INSERT on."""
    fault.inserts(lambda _: fault.proxy.refuse())
    fault.mend.append(fault.proxy.listen)


def _late(times: int) -> Made:
    """The network keeps an INSERT until its client has given up, and then the run has ended."""

    def made(fault: Fault) -> None:
        def act(exchange: Exchange) -> None:
            exchange.wait_until_given_up()
            fault.late.append(exchange)

        fault.inserts(act, times)

    return made


def _killed(fault: Fault) -> None:
    """An operator kills the INSERT."""

    def act(exchange: Exchange) -> None:
        query = re.search(rb"query_id=([\w-]+)", exchange.request)
        killer = threading.Thread(target=_kill, args=(fault, query[1].decode() if query else ""))
        slow = re.sub(rb"\?", b"?max_insert_block_size=1&", exchange.request, count=1)
        killer.start()
        exchange.reply(exchange.ask(slow))
        killer.join()

    fault.inserts(act, times=1)


def _kill(fault: Fault, query_id: str) -> None:
    for _ in range(20):
        fault.ask(f"KILL QUERY WHERE query_id = '{query_id}' ASYNC")
        time.sleep(0.002)


def _leftovers(fault: Fault) -> None:
    """The server has all rows under another load_id already, of a load that was begun and not heard of since."""

    def act(exchange: Exchange) -> None:
        other = str(uuid.uuid4()).encode()
        (ours,) = set(re.findall(rb"param_load_id=([\w-]+)", exchange.request))
        exchange.ask(exchange.request.replace(ours, other))
        ledger = fault.loads.replace(f"{fault.table}_loads", "sot_table_loads")
        fault.ask(
            f"INSERT INTO {ledger} SELECT * REPLACE (toUUID('{other.decode()}') AS load_id) FROM {ledger} "
            f"WHERE load_id = '{ours.decode()}' AND state = 'started'"
        )
        exchange.reply(exchange.ask())

    fault.inserts(act, times=1)


def _restarted(fault: Fault) -> None:
    """The server restarts when it has the table, before the next one; it is waited for."""
    fault.site.variables.update(INGESTION_RETRY_ATTEMPTS="60", INGESTION_RETRY_DELAY="0.5")

    def act(exchange: Exchange) -> None:
        answer = exchange.ask()
        fault.site.ground.server.stop()
        fault.site.ground.server.start()
        exchange.reply(answer)

    fault.inserts(act, times=1)


_PAGE = "<html><body><h1>Bad gateway</h1></body></html>"

#: Statements of the publication are of no table: their kinds stand so far apart that a run meets one at most.
SURVIVED: Mapping[str, Made] = {
    "reset before the insert": _inserts(_reset, 2),
    "reset during the insert": _inserts(_half, 2),
    "reset when the server has committed": _inserts(_unanswered, 2),
    "reset before the publication": _of_the_publication(_reset),
    "the answer is cut": _inserts(_cut, 1),
    "memory limit, once": _inserts(
        _changed(rb"max_memory_usage=\d+", b"max_memory_usage=1000&max_untracked_memory=0"), 1
    ),
    "an insert that is killed": _killed,
    "reset when it is published": _of_the_publication(_unanswered),
    "an insert that comes when the run is over": _late(1),
    "leftovers of yesterday": _leftovers,
    "a restart between two tables": _restarted,
    "a publication without an answer": _of_the_publication(_silent),
    "a proxy that is busy": _inserts(_http("503 Service Unavailable", _PAGE), 2),
    "reset before the ledger's row": _of_the_ledger(_reset),
    "reset when the ledger's row is written": _of_the_ledger(_unanswered),
    "a ledger's row without an answer": _of_the_ledger(_silent),
    "reset within the count": lambda fault: fault.statements(_unanswered, "uniqExact", f"{fault.table}_loads"),
}

FAILED: Mapping[str, Made] = {
    "refused": _refused,
    "inserts that come when the run is over": _late(1_000),
    "a server slower than its client waits": _inserts(_silent),
    "no row in the ledger": _of_the_ledger(_reset, 1_000),
    "reset during every insert": _inserts(_half),
    "reset whenever the server has committed": _inserts(_unanswered),
    "200 with an exception header": _inserts(_exception(241, "MEMORY_LIMIT_EXCEEDED", "200 OK")),
    "200 with an exception and no header": _inserts(_http("200 OK", "Code: 27. DB::Exception: no. (CANNOT_PARSE)\n")),
    "200 with a page": _inserts(_http("200 OK", _PAGE)),
    "memory limit": _inserts(_changed(rb"max_memory_usage=\d+", b"max_memory_usage=1000&max_untracked_memory=0")),
    "too many parts": _altered(
        "INSERT INTO {loads} (processing_date, window_days, load_id) VALUES (today(), 1, generateUUIDv4())",
        "ALTER TABLE {loads} MODIFY SETTING max_parts_in_total = 1",
        mend="ALTER TABLE {loads} RESET SETTING max_parts_in_total",
    ),
    "a table that is read-only": _inserts(_exception(242, "TABLE_IS_READ_ONLY")),
    "a server that may only be read": _inserts(_changed(rb"\?", b"?readonly=1&")),
    "disk full": _altered(
        "ALTER TABLE {loads} MODIFY SETTING min_free_disk_bytes_to_perform_insert = 1000000000000000000",
        mend="ALTER TABLE {loads} RESET SETTING min_free_disk_bytes_to_perform_insert",
    ),
    "a column renamed under us": _altered(
        "ALTER TABLE {loads} RENAME COLUMN {last} TO renamed",
        mend="ALTER TABLE {loads} RENAME COLUMN renamed TO {last}",
    ),
    "a table dropped under us": _altered("DROP TABLE {loads} SYNC", mend=""),
    "wrong password": _inserts(_changed(rb"(?i)Authorization: [^\r]*", b"Authorization: Basic d3Jvbmc6d3Jvbmc=")),
}

#: Kinds of which the client waits for an answer, again and again, in vain.
UNANSWERED = {"inserts that come when the run is over", "a server slower than its client waits"}

#: What befalls the other tables, too: their statements do not come as far as a fault of their own.
OF_ALL = {"refused", "a column renamed under us", "a table dropped under us"}

#: What the server says of its own, where a fault is one of the server.
CODES = {
    "memory limit": 241,
    "too many parts": 252,
    "a table that is read-only": 242,
    "a server that may only be read": 164,
    "disk full": 243,
    "a column renamed under us": 16,
    "a table dropped under us": 60,
    "wrong password": 516,
}

WRONG: Mapping[str, Mapping[str, str]] = {
    "wrong password on the native port": {"CLICKHOUSE_PASSWORD": "wrong"},
    "nobody listens on the native port": {"CLICKHOUSE_PORT": "9"},
    "nobody listens on the HTTP port": {"CLICKHOUSE_HTTP_PORT": "9"},
    "nobody listens": {"CLICKHOUSE_HTTP_PORT": "9", "CLICKHOUSE_PORT": "9"},
}
