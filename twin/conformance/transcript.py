"""What went over a link, into the run's trace. Secrets that stand in the clear in an APDU are struck out."""

from __future__ import annotations

from meters.keys import MeterKeys
from protocols.ports import Trace
from twin.conformance.links import Link
from twin.conformance.serial import SerialLine


class TranscribedLink:
    """A link that traces every APDU: `conform.sent`, `conform.received`, `conform.silence`, `conform.unasked`."""

    def __init__(self, link: Link, trace: Trace, case_name: str, keys: MeterKeys | None) -> None:
        self._link = link
        self._trace = trace
        self._case_name = case_name
        self._secrets = secrets_of(keys)

    async def exchange(self, client_sap: int, server_sap: int, apdu: bytes) -> bytes | None:
        self._write("conform.sent", client_sap, apdu)
        answer = await self._link.exchange(client_sap, server_sap, apdu)
        if answer is None:
            self._trace("conform.silence", case=self._case_name, client_sap=client_sap)
        else:
            self._write("conform.received", client_sap, answer)
        return answer

    async def unasked(self, timeout_s: float) -> bytes | None:
        apdu = await self._link.unasked(timeout_s)
        if apdu is not None:
            self._write("conform.unasked", 0, apdu)
        return apdu

    async def close(self) -> None:
        await self._link.close()

    def _write(self, kind: str, client_sap: int, apdu: bytes) -> None:
        self._trace(kind, case=self._case_name, client_sap=client_sap, apdu=redact(apdu, self._secrets))


class TranscribedLine:
    """A serial line that traces what goes over it: `conform.written`, `conform.read`."""

    def __init__(self, line: SerialLine, trace: Trace, case_name: str, keys: MeterKeys | None) -> None:
        self._line = line
        self._trace = trace
        self._case_name = case_name
        self._secrets = secrets_of(keys)

    def write(self, data: bytes) -> None:
        self._trace("conform.written", case=self._case_name, data=redact(data, self._secrets))
        self._line.write(data)

    async def read(self, timeout_s: float) -> bytes:
        data = await self._line.read(timeout_s)
        if data:
            self._trace("conform.read", case=self._case_name, data=redact(data, self._secrets))
        return data

    def close(self) -> None:
        self._line.close()


def secrets_of(keys: MeterKeys | None) -> tuple[bytes, ...]:
    """Everything of a key file that must not be written down."""
    if keys is None:
        return ()
    symmetric = (keys.encryption_key, keys.authentication_key, keys.broadcast_key, keys.master_key)
    return tuple(secret for secret in (*symmetric, keys.reader_secret) if secret)


def redact(apdu: bytes, secrets: tuple[bytes, ...]) -> bytes:
    """`apdu` with every secret in it overwritten with asterisks."""
    for secret in secrets:
        apdu = apdu.replace(secret, b"*" * len(secret))
    return apdu
