"""Errors say whose fault it is. All of them descend from `TwinError`."""

from __future__ import annotations


class TwinError(Exception):
    """Root of every error that this project raises on purpose."""


class LocalProtocolError(TwinError):
    """Our own code asked a protocol for something that it does not allow: a bug on this side."""


class RemoteProtocolError(TwinError):
    """The peer sent what the protocol does not allow. Count it and carry on.

    `offset` is the byte at which it was noticed, `spec` the document that says what was expected there.
    """

    def __init__(self, message: str, *, offset: int | None = None, spec: str | None = None) -> None:
        where = "" if offset is None else f" at byte {offset}"
        rule = "" if spec is None else f" ({spec})"
        super().__init__(f"{message}{where}{rule}")
        self.offset = offset
        self.spec = spec


class BadInputError(TwinError):
    """A person gave a file or a value that cannot be used: says what, where and what to do. Exit status 2."""

    def __init__(
        self, message: str, *, file: str | None = None, line: int | None = None, key: str | None = None
    ) -> None:
        place = ":".join(str(part) for part in (file, line) if part is not None)
        named = f"{key}: " if key else ""
        super().__init__(f"{place}: {named}{message}" if place else f"{named}{message}")
        self.file = file
        self.line = line
        self.key = key
