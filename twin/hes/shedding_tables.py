"""Tables of the MDMS database for load shedding: groups of meters, orders, and each meter's part in an order."""

from __future__ import annotations

from sqlalchemy import BigInteger, Float, ForeignKey, String
from sqlalchemy.orm import Mapped, mapped_column

from twin.hes.tables import Base


class GroupMember(Base):
    """A meter of a group; a meter belongs to one group at most. `position` is its place in the group."""

    __tablename__ = "shedding_groups"
    serial: Mapped[str] = mapped_column(String(32), primary_key=True)
    group: Mapped[str] = mapped_column("group_name", String(32))
    position: Mapped[int]


class SheddingOrder(Base):
    """The system operator's order to disconnect or restore a group."""

    __tablename__ = "shedding_orders"
    order_id: Mapped[str] = mapped_column(String(64), primary_key=True)
    sequence: Mapped[int] = mapped_column(unique=True)
    group: Mapped[str] = mapped_column("group_name", String(32))
    action: Mapped[str] = mapped_column(String(16))
    stagger_s: Mapped[float] = mapped_column(Float)
    timeout_s: Mapped[float] = mapped_column(Float)
    created_utc_ms: Mapped[int] = mapped_column(BigInteger)


class OrderPart(Base):
    """One meter's part: when it is due, and the supply request that carries it out. Withdrawn: a later order came."""

    __tablename__ = "shedding_parts"
    order_id: Mapped[str] = mapped_column(ForeignKey("shedding_orders.order_id"), primary_key=True)
    serial: Mapped[str] = mapped_column(String(32), primary_key=True)
    position: Mapped[int]
    due_utc_ms: Mapped[int] = mapped_column(BigInteger)
    request_id: Mapped[str | None] = mapped_column(String(64))
    withdrawn: Mapped[bool] = mapped_column(default=False)
