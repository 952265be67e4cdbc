"""Load shedding in the MDMS database."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from sqlalchemy import Engine, delete, func, select
from sqlalchemy.orm import Session

from twin.hes.shedding_tables import GroupMember, OrderPart, SheddingOrder


class SheddingStore:
    """Each call is a transaction of its own. Rows that are returned are detached."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    @contextmanager
    def _session(self) -> Iterator[Session]:
        with Session(self._engine, expire_on_commit=False) as session, session.begin():
            yield session

    def groups(self) -> dict[str, list[str]]:
        """Serial numbers by group, both in their order."""
        query = select(GroupMember).order_by(GroupMember.group, GroupMember.position)
        found: dict[str, list[str]] = {}
        with self._session() as session:
            for row in session.scalars(query):
                found.setdefault(row.group, []).append(row.serial)
        return found

    def define(self, group: str, serials: Sequence[str]) -> None:
        """Make a group, or replace its members; none: the group is gone."""
        with self._session() as session:
            session.execute(delete(GroupMember).where(GroupMember.group == group))
            session.add_all(
                GroupMember(serial=serial, group=group, position=place) for place, serial in enumerate(serials)
            )

    def next_sequence(self) -> int:
        with self._session() as session:
            return (session.scalar(select(func.max(SheddingOrder.sequence))) or 0) + 1

    def add(self, order: SheddingOrder, parts: Sequence[OrderPart]) -> None:
        with self._session() as session:
            session.add(order)
            session.flush()
            session.add_all(parts)

    def order(self, order_id: str) -> SheddingOrder | None:
        with self._session() as session:
            return session.get(SheddingOrder, order_id)

    def orders(self, limit: int = 100) -> list[SheddingOrder]:
        """The newest first."""
        with self._session() as session:
            return list(session.scalars(select(SheddingOrder).order_by(SheddingOrder.sequence.desc()).limit(limit)))

    def parts(self, order_id: str) -> list[OrderPart]:
        """In the order of the group."""
        query = select(OrderPart).where(OrderPart.order_id == order_id).order_by(OrderPart.position)
        with self._session() as session:
            return list(session.scalars(query))

    def waiting(self) -> list[OrderPart]:
        """Parts that are still to begin, in the order in which they are due."""
        query = select(OrderPart).where(OrderPart.request_id.is_(None), OrderPart.withdrawn.is_(False))
        with self._session() as session:
            return list(session.scalars(query.order_by(OrderPart.due_utc_ms, OrderPart.order_id, OrderPart.position)))

    def begin(self, part: OrderPart, request_id: str) -> None:
        with self._session() as session:
            row = session.get(OrderPart, (part.order_id, part.serial))
            if row is not None:
                row.request_id = request_id

    def withdraw(self, parts: Sequence[OrderPart]) -> None:
        with self._session() as session:
            for part in parts:
                row = session.get(OrderPart, (part.order_id, part.serial))
                if row is not None:
                    row.withdrawn = True
