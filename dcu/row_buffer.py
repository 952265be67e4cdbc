"""Rows that meters have given and no bundle holds yet, on storage as they came: A-XDR, undecoded."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field

from dcu.journal import Journal
from dcu.storage import Storage, StorageError

_LOG = logging.getLogger(__name__)
_RECORD = "rows"


@dataclass(frozen=True, slots=True)
class TableKey:
    """One profile or log of one meter. `kind` names the meter's model and firmware, `obis` is in text."""

    serial: str
    kind: str
    obis: str


@dataclass(slots=True)
class BufferedTable:
    """`mark_s`: every row captured up to here (UTC) has been collected; None before the first collection."""

    rows: list[bytes] = field(default_factory=list)
    pushed: int = 0
    mark_s: int | None = None


class RowBuffer:
    """What `add` returned from survives a power cut. The same row of a table is kept once."""

    def __init__(self, storage: Storage) -> None:
        self._journal = Journal(storage, _RECORD)
        self._tables: dict[TableKey, BufferedTable] = {}
        for record in self._journal.loaded:
            try:
                fields = json.loads(record)
                key = TableKey(fields["serial"], fields["kind"], fields["obis"])
                rows = [bytes.fromhex(row) for row in fields["rows"]]
                self._apply(key, rows, fields["mark_s"], fields["pushed"])
            except (ValueError, KeyError, TypeError) as error:
                _LOG.error("a record of the row buffer is unreadable and was skipped: %s", error)
        self._journal.loaded.clear()

    @property
    def row_count(self) -> int:
        return sum(len(table.rows) for table in self._tables.values())

    def table(self, key: TableKey) -> BufferedTable:
        """What is there of a table; the caller does not change it."""
        return self._tables.get(key) or BufferedTable()

    def mark_s(self, serial: str, obis: str) -> int | None:
        """The mark of a table, whatever the firmware was under which it was set."""
        marks = [
            table.mark_s
            for key, table in self._tables.items()
            if (key.serial, key.obis) == (serial, obis) and table.mark_s is not None
        ]
        return max(marks) if marks else None

    def add(self, key: TableKey, rows: Sequence[bytes], *, mark_s: int | None = None, pushed: bool = False) -> int:
        """Keep rows, and a new mark where there is one; how many rows were new. Raises StorageError."""
        known = set(self.table(key).rows)
        new = [row for row in dict.fromkeys(rows) if row not in known]
        if not new and (mark_s is None or mark_s == self.table(key).mark_s):
            return 0
        record = _encode(key, new, mark_s, len(new) if pushed else 0)
        if self._journal.is_damaged:
            self._rewrite()
        self._journal.append(record)
        self._apply(key, new, mark_s, len(new) if pushed else 0)
        return len(new)

    def snapshot(self) -> dict[TableKey, BufferedTable]:
        """All rows as they are now, for a bundle."""
        return {key: BufferedTable(list(table.rows), table.pushed, table.mark_s) for key, table in self._tables.items()}

    def drop(self, taken: dict[TableKey, BufferedTable]) -> None:
        """A bundle holds the rows of `taken`: forget them, keep marks and what has come since. Raises StorageError."""
        kept = self.snapshot()
        for key, table in taken.items():
            rest = kept[key]
            rest.rows = rest.rows[len(table.rows) :]
            rest.pushed -= table.pushed
        before, self._tables = self._tables, kept
        try:
            self._rewrite()
        except StorageError:
            self._tables = before
            raise

    def _apply(self, key: TableKey, rows: Sequence[bytes], mark_s: int | None, pushed: int) -> None:
        table = self._tables.setdefault(key, BufferedTable())
        table.rows.extend(rows)
        table.pushed += pushed
        if mark_s is not None:
            table.mark_s = mark_s

    def _rewrite(self) -> None:
        self._journal.rewrite(
            [_encode(key, table.rows, table.mark_s, table.pushed) for key, table in self._tables.items()]
        )


def _encode(key: TableKey, rows: Sequence[bytes], mark_s: int | None, pushed: int) -> bytes:
    fields = {"serial": key.serial, "kind": key.kind, "obis": key.obis, "mark_s": mark_s, "pushed": pushed}
    return json.dumps({**fields, "rows": [row.hex() for row in rows]}, separators=(",", ":")).encode()
