"""dlms-cosem, an independent client, against our server; bytes carried by hand."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from dlms_support import CLIENT_TITLE, KEYS, MANAGEMENT, MANY, METER_TITLE, PUBLIC, READER, SECRET, Meter

dlms_cosem = pytest.importorskip("dlms_cosem")

from dlms_cosem import cosem, enumerations  # noqa: E402
from dlms_cosem.clients.dlms_client import DataResultError, DlmsClient  # noqa: E402
from dlms_cosem.cosem.capture_object import CaptureObject as TheirColumn  # noqa: E402
from dlms_cosem.cosem.selective_access import RangeDescriptor as TheirRange  # noqa: E402
from dlms_cosem.utils import parse_as_dlms_data  # noqa: E402

from protocols.dlms.selective import profile_selector  # noqa: E402

ENERGY = cosem.CosemAttribute(enumerations.CosemInterface.REGISTER, cosem.Obis(1, 0, 1, 8, 0, 255), 2)
BUFFER = cosem.CosemAttribute(enumerations.CosemInterface.PROFILE_GENERIC, cosem.Obis(1, 0, 99, 1, 0, 255), 2)
MISSING = cosem.CosemAttribute(enumerations.CosemInterface.REGISTER, cosem.Obis(1, 0, 9, 9, 9, 255), 2)


class Hand:
    """Carries APDUs between their client and our server, in place of their transports."""

    def __init__(self, meter: Meter, client_sap: int) -> None:
        self._meter = meter
        self.client_logical_address = client_sap

    def connect(self) -> None:
        """There is no line."""

    def disconnect(self) -> None:
        """There is no line."""

    def send(self, data: bytes) -> bytes:
        return self._meter.server.handle(self.client_logical_address, data, 0.0) or b""


def their_client(meter: Meter, client_sap: int, **settings: Any) -> Any:
    return DlmsClient(
        client_logical_address=client_sap, server_logical_address=1, io_interface=Hand(meter, client_sap), **settings
    )


def managing(meter: Meter, **settings: Any) -> Any:
    return their_client(
        meter,
        MANAGEMENT,
        authentication_method=enumerations.AuthenticationMechanism.HLS_GMAC,
        encryption_key=KEYS.encryption,
        authentication_key=KEYS.authentication,
        client_system_title=CLIENT_TITLE,
        client_initial_invocation_counter=1,
        **settings,
    )


@pytest.mark.requirement("OSI-5")
def test_associates_without_security_and_is_kept_from_what_is_not_public() -> None:
    meter = Meter()
    with their_client(meter, PUBLIC).session() as client, pytest.raises(DataResultError):
        client.get(ENERGY)
    assert not meter.server.sessions


@pytest.mark.requirement("OSI-5")
def test_associates_with_a_secret() -> None:
    meter = Meter()
    low = enumerations.AuthenticationMechanism.LLS
    with their_client(meter, READER, authentication_method=low, password=SECRET).session() as client:
        assert parse_as_dlms_data(client.get(ENERGY)) == 123_456
        with pytest.raises(DataResultError):
            client.get(MISSING)


@pytest.mark.requirement("SEC-1")
def test_associates_with_gmac_and_reads_ciphered() -> None:
    meter = Meter()
    with managing(meter).session() as client:
        assert client.dlms_connection.meter_system_title == METER_TITLE
        assert parse_as_dlms_data(client.get(ENERGY)) == 123_456
    assert not meter.server.sessions
    assert not meter.server.refusals


@pytest.mark.parametrize("max_pdu_size", [65535, 256])
@pytest.mark.requirement("UC-III.1")
def test_reads_a_long_profile(max_pdu_size: int) -> None:
    meter = Meter(rows=200)
    with managing(meter, max_pdu_size=max_pdu_size).session() as client:
        rows = parse_as_dlms_data(client.get(BUFFER))
    assert [row[1:] for row in rows] == [[index, index % 256] for index in range(200)]


@pytest.mark.requirement("UC-III.1")
def test_their_range_descriptor_is_understood() -> None:
    meter = Meter()
    seen: list[Any] = []
    meter.table.selected = seen.append  # type: ignore[assignment]
    column = TheirColumn(
        cosem.CosemAttribute(enumerations.CosemInterface.CLOCK, cosem.Obis(0, 0, 1, 0, 0, 255), 2), data_index=0
    )
    begin, end = datetime(2026, 11, 1, tzinfo=UTC), datetime(2026, 11, 2, tzinfo=UTC)
    descriptor = TheirRange(restricting_object=column, from_value=begin, to_value=end, selected_values=[])
    with managing(meter).session() as client:
        client.get(BUFFER, access_descriptor=descriptor)
    selector = profile_selector(seen[0])
    assert (selector.restricting.class_id, selector.restricting.attribute_id) == (8, 2)
    assert selector.columns == ()
    assert bytes(MANY) == bytes((1, 0, 99, 1, 0, 255))


def test_writes_and_invokes() -> None:
    meter = Meter()
    note = cosem.CosemAttribute(enumerations.CosemInterface.DATA, cosem.Obis(0, 0, 96, 1, 10, 255), 2)
    method = cosem.CosemMethod(enumerations.CosemInterface.REGISTER, cosem.Obis(1, 0, 1, 8, 0, 255), 1)
    with managing(meter).session() as client:
        client.set(note, b"\x09\x03new")
        assert client.action(method, b"\x11\x07") == b"\x11\x07"
    assert meter.note.content == b"new"
