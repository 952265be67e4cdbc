"""How a server says no: ExceptionResponse and ConfirmedServiceError (IEC 62056-5-3)."""

from __future__ import annotations

from dataclasses import dataclass

from protocols.cursor import Reader
from protocols.dlms.enums import ErrorKind, ErrorService, ServiceError, StateError

EXCEPTION_RESPONSE, CONFIRMED_SERVICE_ERROR = 0xD8, 0x0E
_SPEC = "IEC 62056-5-3"


@dataclass(frozen=True, slots=True)
class ExceptionResponse:
    """Tag D8. `invocation_counter` goes with INVOCATION_COUNTER_ERROR alone: the least that is accepted."""

    state_error: StateError
    service_error: ServiceError
    invocation_counter: int | None = None

    def encode(self) -> bytes:
        out = bytes((EXCEPTION_RESPONSE, self.state_error, self.service_error))
        return out if self.invocation_counter is None else out + self.invocation_counter.to_bytes(4, "big")

    @classmethod
    def decode(cls, raw: bytes) -> ExceptionResponse:
        """Raises RemoteProtocolError if truncated or malformed."""
        reader = Reader(raw, spec=f"{_SPEC}, ExceptionResponse")
        if reader.u8() != EXCEPTION_RESPONSE:
            raise reader.error("not an ExceptionResponse")
        state, service = reader.u8(), reader.u8()
        try:
            state_error, service_error = StateError(state), ServiceError(service)
        except ValueError as error:
            raise reader.error(f"state error {state}, service error {service}") from error
        counter = reader.u32() if service_error is ServiceError.INVOCATION_COUNTER_ERROR else None
        reader.expect_end()
        return cls(state_error, service_error, counter)


@dataclass(frozen=True, slots=True)
class ConfirmedServiceError:
    """Tag 0E: `service` failed with `value` of the choice `kind`."""

    service: ErrorService
    kind: ErrorKind
    value: int

    def encode(self) -> bytes:
        return bytes((CONFIRMED_SERVICE_ERROR, self.service, self.kind, self.value))

    @classmethod
    def decode(cls, raw: bytes) -> ConfirmedServiceError:
        """Raises RemoteProtocolError if truncated or malformed."""
        reader = Reader(raw, spec=f"{_SPEC}, ConfirmedServiceError")
        if reader.u8() != CONFIRMED_SERVICE_ERROR:
            raise reader.error("not a ConfirmedServiceError")
        service, kind, value = reader.u8(), reader.u8(), reader.u8()
        reader.expect_end()
        try:
            return cls(ErrorService(service), ErrorKind(kind), value)
        except ValueError as error:
            raise reader.error(f"service {service}, error choice {kind}") from error
