"""Profiles, logs and bundles in the MDMS database: every row once, whatever comes twice."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from decimal import Decimal

from sqlalchemy import Engine, Select, func, select
from sqlalchemy.orm import Session

from protocols.headend.bulk import Bundle, BundlePart, BundleStatus, ProfileChunk, Table, TableRow
from protocols.headend.json_text import decimal_text, encode_json
from protocols.headend.shapes import encode_object
from twin.hes.profile_tables import (
    BundlePartRecord,
    BundleRecord,
    DcuClockRecord,
    ProfileLayout,
    ProfileRequestRecord,
    ProfileRow,
)
from twin.hes.tables import RequestStatus

_AT_A_TIME = 400
"""Digests in one query: SQLite takes 999 parameters."""
RECEIVING = "receiving"


@dataclass(frozen=True, slots=True)
class Stored:
    """What became of rows: new ones, and ones that were there."""

    added: int = 0
    duplicates: int = 0

    def __add__(self, other: Stored) -> Stored:
        return Stored(self.added + other.added, self.duplicates + other.duplicates)


class ProfileStore:
    """Each call is a transaction of its own. Rows that are returned are detached."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    @contextmanager
    def _session(self) -> Iterator[Session]:
        with Session(self._engine, expire_on_commit=False) as session, session.begin():
            yield session

    # rows

    def rows(
        self, serial: str, name: str, from_utc_ms: int | None = None, to_utc_ms: int | None = None
    ) -> list[ProfileRow]:
        """Both limits included; in the order of capture. Rows without a time come last, where there are no limits."""
        query = select(ProfileRow).where(ProfileRow.serial == serial, ProfileRow.name == name)
        if from_utc_ms is not None:
            query = query.where(ProfileRow.captured_utc_ms >= from_utc_ms)
        if to_utc_ms is not None:
            query = query.where(ProfileRow.captured_utc_ms <= to_utc_ms)
        order = (ProfileRow.captured_utc_ms.is_(None), ProfileRow.captured_utc_ms, ProfileRow.row_id)
        with self._session() as session:
            return list(session.scalars(query.order_by(*order)))

    def all_rows(self, serial: str) -> list[ProfileRow]:
        """Every row of a meter, of all tables, in the order in which they came."""
        query = select(ProfileRow).where(ProfileRow.serial == serial).order_by(ProfileRow.row_id)
        with self._session() as session:
            return list(session.scalars(query))

    def row_count(self, serial: str | None = None) -> int:
        query = select(func.count(ProfileRow.row_id))
        if serial is not None:
            query = query.where(ProfileRow.serial == serial)
        with self._session() as session:
            return session.scalar(query) or 0

    def layouts(self) -> dict[str, ProfileLayout]:
        with self._session() as session:
            return {layout.digest: layout for layout in session.scalars(select(ProfileLayout))}

    # requests

    def next_sequence(self) -> int:
        with self._session() as session:
            return (session.scalar(select(func.max(ProfileRequestRecord.sequence))) or 0) + 1

    def add_request(self, record: ProfileRequestRecord) -> None:
        with self._session() as session:
            session.add(record)

    def request(self, request_id: str) -> ProfileRequestRecord | None:
        with self._session() as session:
            return session.get(ProfileRequestRecord, request_id)

    def requests(self, serial: str | None = None, limit: int = 100) -> list[ProfileRequestRecord]:
        """The newest first."""
        query = select(ProfileRequestRecord).order_by(ProfileRequestRecord.sequence.desc()).limit(limit)
        if serial is not None:
            query = query.where(ProfileRequestRecord.serial == serial)
        with self._session() as session:
            return list(session.scalars(query))

    def pending_requests(self) -> list[ProfileRequestRecord]:
        query = select(ProfileRequestRecord).where(ProfileRequestRecord.status == RequestStatus.PENDING)
        with self._session() as session:
            return list(session.scalars(query.order_by(ProfileRequestRecord.sequence)))

    def add_chunk(self, chunk: ProfileChunk, now_ms: int) -> Stored:
        """Keep the rows of a part, and note how far the request has come."""
        with self._session() as session:
            stored = _add_table(session, chunk.serial, chunk.table, chunk.request_id, now_ms)
            request = session.get(ProfileRequestRecord, chunk.request_id)
            if request is not None:
                request.chunks += 1
                request.rows += stored.added
                request.duplicates += stored.duplicates
                request.covered_utc_ms = max(request.covered_utc_ms, min(chunk.to_utc_ms, request.to_utc_ms))
            return stored

    def complete(self, request_id: str, status: str, detail: str, now_ms: int) -> bool:
        """End a pending request; False if it has ended already."""
        with self._session() as session:
            request = session.get(ProfileRequestRecord, request_id)
            if request is None or request.status != RequestStatus.PENDING:
                return False
            request.status, request.detail, request.completed_utc_ms = status, detail, now_ms
            if status == RequestStatus.OK:
                request.covered_utc_ms = request.to_utc_ms
            return True

    # bundles

    def bundle(self, dcu_id: str, bundle_id: str) -> BundleRecord | None:
        with self._session() as session:
            return session.get(BundleRecord, (dcu_id, bundle_id))

    def bundles(self, dcu_id: str | None = None) -> list[BundleRecord]:
        """In the order in which their first parts came."""
        query = select(BundleRecord).order_by(BundleRecord.received_utc_ms, BundleRecord.bundle_id)
        if dcu_id is not None:
            query = query.where(BundleRecord.dcu_id == dcu_id)
        with self._session() as session:
            return list(session.scalars(query))

    def add_part(self, dcu_id: str, part: BundlePart, now_ms: int) -> bytes | None:
        """Keep a part; the whole bundle when it was the last one that was missing."""
        key = (dcu_id, part.bundle_id)
        with self._session() as session:
            record = session.get(BundleRecord, key)
            said = (part.size_bytes, part.sha256.hex(), part.count)
            if record is None:
                record = BundleRecord(
                    dcu_id=dcu_id,
                    bundle_id=part.bundle_id,
                    status=RECEIVING,
                    size_bytes=part.size_bytes,
                    sha256=part.sha256.hex(),
                    parts=part.count,
                    received_utc_ms=now_ms,
                )
                session.add(record)
            elif (record.size_bytes, record.sha256, record.parts) != said or record.status != RECEIVING:
                # Made anew under the same identifier, or refused before: begin again.
                record.size_bytes, record.sha256, record.parts = said
                record.status = RECEIVING
                self._drop_parts(session, key)
            session.merge(BundlePartRecord(dcu_id=dcu_id, bundle_id=part.bundle_id, number=part.number, data=part.data))
            session.flush()
            parts = list(session.scalars(_parts_of(key)))
            return b"".join(item.data for item in parts) if len(parts) == part.count else None

    def keep_bundle(self, dcu_id: str, bundle: Bundle, now_ms: int) -> Stored:
        """Store all rows of a bundle and mark it, in one transaction."""
        with self._session() as session:
            stored = Stored()
            for meter in bundle.meters:
                for table in meter.tables:
                    stored += _add_table(session, meter.serial, table, bundle.bundle_id, now_ms)
            record = session.get(BundleRecord, (dcu_id, bundle.bundle_id))
            if record is not None:
                record.status, record.meters = BundleStatus.STORED.value, len(bundle.meters)
                record.rows, record.duplicates = stored.added, stored.duplicates
                record.pushed = sum(meter.pushed for meter in bundle.meters)
                record.created_utc_ms = bundle.created_utc_ms
                record.detail = "; ".join(f"{item.serial}: {item.trouble}" for item in bundle.meters if item.trouble)[
                    :512
                ]
            self._drop_parts(session, (dcu_id, bundle.bundle_id))
            return stored

    def refuse_bundle(self, dcu_id: str, bundle_id: str, detail: str) -> None:
        with self._session() as session:
            record = session.get(BundleRecord, (dcu_id, bundle_id))
            if record is not None:
                record.status, record.detail = BundleStatus.REFUSED.value, detail[:512]
            self._drop_parts(session, (dcu_id, bundle_id))

    @staticmethod
    def _drop_parts(session: Session, key: tuple[str, str]) -> None:
        for part in session.scalars(_parts_of(key)):
            session.delete(part)
        session.flush()

    # clocks

    def put_clock(self, record: DcuClockRecord) -> None:
        with self._session() as session:
            session.merge(record)

    def clock(self, dcu_id: str) -> DcuClockRecord | None:
        with self._session() as session:
            return session.get(DcuClockRecord, dcu_id)

    def clocks(self) -> list[DcuClockRecord]:
        with self._session() as session:
            return list(session.scalars(select(DcuClockRecord).order_by(DcuClockRecord.dcu_id)))


def _parts_of(key: tuple[str, str]) -> Select[BundlePartRecord]:
    return (
        select(BundlePartRecord)
        .where(BundlePartRecord.dcu_id == key[0], BundlePartRecord.bundle_id == key[1])
        .order_by(BundlePartRecord.number)
    )


def row_digest(layout_digest: str, row: TableRow) -> str:
    """What a row is known by: all that it says, and what its columns mean."""
    return hashlib.sha256(layout_digest.encode() + encode_json(encode_object(row))).hexdigest()[:32]


def layout_digest(table: Table) -> str:
    columns = [[item.obis, item.class_id, item.attribute_id, item.unit] for item in table.columns]
    return hashlib.sha256(json.dumps([table.obis, columns]).encode()).hexdigest()[:32]


def _add_table(session: Session, serial: str, table: Table, source: str, now_ms: int) -> Stored:
    layout = layout_digest(table)
    if session.get(ProfileLayout, layout) is None:
        columns = [[item.obis, item.class_id, item.attribute_id, item.unit] for item in table.columns]
        session.add(
            ProfileLayout(
                digest=layout,
                name=table.name,
                obis=table.obis,
                period_s=table.period_s,
                columns_json=json.dumps(columns),
            )
        )
        session.flush()
    rows = {row_digest(layout, row): row for row in table.rows}
    known = _known(session, serial, table.obis, list(rows))
    for digest, row in rows.items():
        if digest in known:
            continue
        session.add(
            ProfileRow(
                serial=serial,
                name=table.name,
                obis=table.obis,
                digest=digest,
                layout_digest=layout,
                captured_utc_ms=row.captured_utc_ms,
                clock_status=row.clock_status,
                status=row.status,
                values_json=json.dumps([_text(value) for value in row.values]),
                source=source,
                received_utc_ms=now_ms,
            )
        )
    session.flush()
    added = len(rows) - len(known)
    return Stored(added, len(table.rows) - added)


def _known(session: Session, serial: str, obis: str, digests: list[str]) -> set[str]:
    found: set[str] = set()
    for first in range(0, len(digests), _AT_A_TIME):
        query = select(ProfileRow.digest).where(
            ProfileRow.serial == serial,
            ProfileRow.obis == obis,
            ProfileRow.digest.in_(digests[first : first + _AT_A_TIME]),
        )
        found.update(session.scalars(query))
    return found


def _text(value: Decimal | str | None) -> str | None:
    return decimal_text(value) if isinstance(value, Decimal) else value
