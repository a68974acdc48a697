"""What the request log tells: figures of a time, and the requests themselves, a page at a time.

    reader = LogReader(Path("llm.db"))
    print(reader.stats(span("last_24h"), group_by="model"))
    print(reader.requests(order="desc", sort="cost").entries[0])

The methods block; an async program calls them by `anyio.to_thread.run_sync`.
"""

import sqlite3
from collections.abc import Collection, Generator
from contextlib import closing, contextmanager
from math import ceil
from pathlib import Path

import msgspec

from foreman.llm.errors import Code, LLMError
from foreman.llm.log_schema import open_reader
from foreman.llm.log_views import Entry, Page, Span, Stats, Totals, span

GROUPS = {
    "model": "model",
    "provider": "provider",
    "tier": "coalesce(nullif(tier, ''), 'unknown')",
}
SORTS = {"timestamp": "at", "cost": "cost", "latency": "latency_ms"}
ORDERS = ("asc", "desc")
MOST = 100  # entries of a page

_Values = dict[str, object]


class NotInLog(LLMError):
    """Nothing of this name was ever asked, nor could it be."""

    code = Code.MODEL_NOT_FOUND


class LogReader:
    """Reads the log in this file. Every method opens it anew: any thread may call.

    `known`: models and providers that may be asked for although nobody has called them yet.
    Methods raise LogUnusable, ValueError for an argument that makes no sense, and NotInLog for a
    model or a provider that is neither known nor in the log. Names are found in any case.
    """

    def __init__(self, path: Path, known: Collection[str] = ()) -> None:
        self._path = path
        self._known = {name.lower() for name in known}

    def stats(
        self,
        within: Span | None = None,
        *,
        model: str = "",
        provider: str = "",
        group_by: str = "",
        also: Collection[str] = (),
    ) -> Stats:
        """Figures of a span, the last 7 days unless given. `also`: groups that are there anyway."""
        within = span() if within is None else within
        if group_by and group_by not in GROUPS:
            raise ValueError(f"group by one of: {', '.join(GROUPS)}; not by {group_by!r}")
        with self._open() as connection:
            where, values = self._where(connection, within, model, provider)
            totals = _totals(connection, "''", where, values).get("", Totals())
            found = _totals(connection, GROUPS[group_by], where, values) if group_by else {}
            return Stats(
                since=within.since,
                until=within.until,
                totals=totals,
                p50_ms=_quantile(connection, 0.50, where, values),
                p95_ms=_quantile(connection, 0.95, where, values),
                groups={name: Totals() for name in also} | found if group_by else {},
                empty=not totals.requests,
                message="" if totals.requests else "no requests in this time",
            )

    def requests(
        self,
        within: Span = Span(),  # noqa: B008 - frozen
        *,
        model: str = "",
        provider: str = "",
        success: bool | None = None,
        streamed: bool | None = None,
        page: int = 1,
        per_page: int = 20,
        sort: str = "timestamp",
        order: str = "desc",
    ) -> Page:
        """The requests, newest first unless asked otherwise; at most 100 a page.

        Those without a cost, or a latency, stand last when sorted by it.
        """
        if sort not in SORTS or order not in ORDERS:
            raise ValueError(f"sort by one of: {', '.join(SORTS)}; order is asc or desc")
        if page < 1 or per_page < 1:
            raise ValueError("pages are counted from 1 and have 1 entry at least")
        per_page = min(per_page, MOST)
        by = SORTS[sort]
        with self._open() as connection:
            where, values = self._where(connection, within, model, provider, success, streamed)
            [(total,)] = connection.execute(
                f"SELECT count(*) FROM requests WHERE {where}", values
            ).fetchall()
            rows = connection.execute(
                f"SELECT * FROM requests WHERE {where} "
                f"ORDER BY {by} IS NULL, {by} {order}, rowid {order} LIMIT :limit OFFSET :offset",
                values | {"limit": per_page, "offset": (page - 1) * per_page},
            ).fetchall()
            entries = tuple(_entry(connection, row) for row in rows)
        return Page(entries, page, per_page, total)

    @contextmanager
    def _open(self) -> Generator[sqlite3.Connection]:
        with closing(open_reader(self._path)) as connection:
            connection.execute("BEGIN")  # one state of the log for all queries of a method
            yield connection

    def _where(
        self,
        connection: sqlite3.Connection,
        within: Span,
        model: str,
        provider: str,
        success: bool | None = None,
        streamed: bool | None = None,
    ) -> tuple[str, _Values]:
        conditions = ["at >= :since", "at < :until"]
        values: _Values = {"since": within.since, "until": within.until}
        for column, name in {"model": model, "provider": provider}.items():
            if name:
                self._refuse_unknown(connection, column, name)
                conditions.append(f"{column} = :{column} COLLATE NOCASE")
                values[column] = name
        for column, flag in {"success": success, "streamed": streamed}.items():
            if flag is not None:
                conditions.append(f"{column} = :{column}")
                values[column] = flag
        return " AND ".join(conditions), values

    def _refuse_unknown(self, connection: sqlite3.Connection, column: str, name: str) -> None:
        query = f"SELECT 1 FROM requests WHERE {column} = ? COLLATE NOCASE LIMIT 1"
        if name.lower() not in self._known and not connection.execute(query, (name,)).fetchall():
            raise NotInLog(f"there is no {column} {name!r} in the log, and none is known")


def _totals(
    connection: sqlite3.Connection, key: str, where: str, values: _Values
) -> dict[str, Totals]:
    """Figures by group."""
    costs: dict[str, dict[str, float]] = {}
    for name, unit, amount in connection.execute(
        f"SELECT {key}, unit, sum(cost) FROM requests "
        f"WHERE {where} AND cost IS NOT NULL GROUP BY 1, 2",
        values,
    ):
        costs.setdefault(name, {})[unit] = amount
    rows = connection.execute(_TOTALS.format(key=key, where=where), values).fetchall()
    return {
        row["name"]: msgspec.convert(
            {column: row[column] for column in row.keys() if column != "name"}  # noqa: SIM118
            | {"costs": costs.get(row["name"], {})},
            Totals,
        )
        for row in rows
    }


def _quantile(
    connection: sqlite3.Connection, share: float, where: str, values: _Values
) -> float | None:
    known = f"FROM requests WHERE {where} AND latency_ms IS NOT NULL"
    [(count,)] = connection.execute(f"SELECT count(*) {known}", values).fetchall()
    rows = connection.execute(
        f"SELECT latency_ms {known} ORDER BY latency_ms LIMIT 1 OFFSET :place",
        values | {"place": max(0, ceil(share * count) - 1)},
    ).fetchall()
    return rows[0][0] if rows else None


def _entry(connection: sqlite3.Connection, row: sqlite3.Row) -> Entry:
    steps = connection.execute(
        "SELECT target, called, reason, detail, duration_ms FROM steps WHERE request = ? "
        "ORDER BY n",
        (row["id"],),
    ).fetchall()
    document = dict(row) | {"steps": [dict(step) for step in steps]}
    return msgspec.convert(document, Entry, strict=False)


_TOTALS = """
SELECT {key} AS name, count(*) AS requests, sum(success) AS answered,
    sum(NOT success) AS failed, sum(streamed) AS streamed,
    coalesce(sum(input), 0) AS input, coalesce(sum(cache_read), 0) AS cache_read,
    coalesce(sum(cache_write), 0) AS cache_write, coalesce(sum(output), 0) AS output,
    sum(success AND (input IS NULL OR cache_read IS NULL OR cache_write IS NULL
        OR output IS NULL)) AS unreported,
    sum(success AND cost IS NULL) AS unpriced,
    avg(latency_ms) AS average_latency_ms, avg(duration_ms) AS average_duration_ms
FROM requests WHERE {where} GROUP BY 1"""
