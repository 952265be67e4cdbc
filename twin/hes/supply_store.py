"""Disconnections and reconnections in the MDMS database."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import Engine, func, select
from sqlalchemy.orm import Session

from twin.hes.supply_tables import SupplyRecord
from twin.hes.tables import RequestStatus


class SupplyStore:
    """Each call is a transaction of its own. Rows that are returned are detached."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    @contextmanager
    def _session(self) -> Iterator[Session]:
        with Session(self._engine, expire_on_commit=False) as session, session.begin():
            yield session

    def next_sequence(self) -> int:
        with self._session() as session:
            return (session.scalar(select(func.max(SupplyRecord.sequence))) or 0) + 1

    def add(self, record: SupplyRecord) -> None:
        with self._session() as session:
            session.add(record)

    def request(self, request_id: str) -> SupplyRecord | None:
        with self._session() as session:
            return session.get(SupplyRecord, request_id)

    def requests(self, serial: str | None = None, limit: int = 100) -> list[SupplyRecord]:
        """The newest first."""
        query = select(SupplyRecord).order_by(SupplyRecord.sequence.desc()).limit(limit)
        if serial is not None:
            query = query.where(SupplyRecord.serial == serial)
        with self._session() as session:
            return list(session.scalars(query))

    def pending(self) -> list[SupplyRecord]:
        query = select(SupplyRecord).where(SupplyRecord.status == RequestStatus.PENDING)
        with self._session() as session:
            return list(session.scalars(query.order_by(SupplyRecord.sequence)))

    def complete(
        self, request_id: str, status: str, detail: str, now_ms: int, *, connected: bool | None = None, reason: str = ""
    ) -> bool:
        """End a pending request; False if it has ended already."""
        with self._session() as session:
            record = session.get(SupplyRecord, request_id)
            if record is None or record.status != RequestStatus.PENDING:
                return False
            record.status, record.detail, record.completed_utc_ms = status, detail, now_ms
            record.connected, record.reason = connected, reason
            return True
