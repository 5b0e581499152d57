"""One question to a server about the databases of many networks, where each would be asked the same.

Those that cannot be asked so are left out, and are to be asked one by one: replicas, which are brought up to date
first, an embedded warehouse, and a database without the tables.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, TypeVar

from pipeline.errors import WarehouseError
from pipeline.warehouse import Warehouse
from pipeline.warehouse.server import ServerWarehouse

K = TypeVar("K")


def ask_together(
    warehouses: Mapping[K, Warehouse], select: str, tables: Collection[str], **parameters: Any
) -> dict[K, list[tuple[Any, ...]]]:
    """Return the rows of a SELECT over the database of each; see above for those that are left out.

    ``select`` is about ``tables`` of ``{database}``, and its first column is ``{number}``, which is not returned. What
    fails is not tried again but left out, too: who asks one by one learns why.
    """
    found: dict[K, list[tuple[Any, ...]]] = {}
    for group in _by_server(warehouses):
        try:
            asked = _with_tables(group, tables)
            union = "\nUNION ALL\n".join(
                warehouse.named(select.replace("{number}", str(number))) for number, (_, warehouse) in enumerate(asked)
            )
            rows = group[0][1].server.query(union, parameters) if asked else []
        except WarehouseError:
            continue
        found |= {key: [row[1:] for row in rows if row[0] == number] for number, (key, _) in enumerate(asked)}
    return found


def _by_server(warehouses: Mapping[K, Warehouse]) -> Iterator[list[tuple[K, ServerWarehouse]]]:
    """Yield those that are single servers, by their connection."""
    groups: dict[int, list[tuple[K, ServerWarehouse]]] = defaultdict(list)
    for key, warehouse in warehouses.items():
        if isinstance(warehouse, ServerWarehouse) and len(warehouse.hosts) == 1:
            groups[id(warehouse.server)].append((key, warehouse))
    yield from groups.values()


def _with_tables(
    group: Sequence[tuple[K, ServerWarehouse]], tables: Collection[str]
) -> list[tuple[K, ServerWarehouse]]:
    """Return those that have the tables and are no replicas, which one question tells of all. Raises WarehouseError."""
    rows = group[0][1].server.query(
        """
        SELECT name, '', engine
        FROM system.databases
        WHERE has(splitByChar(',', {databases:String}), name)
        UNION ALL
        SELECT database, name, engine
        FROM system.tables
        WHERE has(splitByChar(',', {databases:String}), database) AND has(splitByChar(',', {tables:String}), name)
        """,
        {"databases": ",".join(warehouse.database for _, warehouse in group), "tables": ",".join(tables)},
    )
    engines = {(database, name): engine for database, name, engine in rows}
    found = []
    for key, warehouse in group:
        known = [engines.get((warehouse.database, name)) for name in ("", *tables)]
        if warehouse.replication.wanted != "true" and all(each and not each.startswith("Replicated") for each in known):
            found.append((key, warehouse))
    return found
