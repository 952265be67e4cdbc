"""Why a meter could not be read."""

from __future__ import annotations

from protocols.errors import TwinError


class NoAnswerError(TwinError):
    """The meter did not answer in time, after all attempts. It may be tried again."""


class MeterRefusedError(TwinError):
    """The meter refused, or could not prove that it holds its keys. Trying again at once is of no use.

    `reason` is a short name for events: `authentication`, `certificate`, `rejected`, `unverifiable`, `inconsistent`,
    `unsupported`.
    """

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason
