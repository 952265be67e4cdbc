"""What a case cannot do without, and how it says that it cannot be judged here."""

from __future__ import annotations

import enum

from protocols.errors import TwinError


class Need(enum.StrEnum):
    """What a case cannot do without; the text completes "needs …"."""

    KEYS = "the meter's keys (--keys)"
    READER_SECRET = "the reader's secret (--keys)"  # noqa: S105 (a text, not a secret)
    MASTER_KEY = "the meter's master key (--keys)"
    BENCH = "bench verbs, which a stranger's meter does not have"
    HDLC = "an HDLC line; this target speaks the wrapper"
    MESH = "a mesh of the tester's own; a stranger's meter brings its own radio"
    SUITE_0 = "keys of security suite 0"
    SUITE_1 = "keys of security suite 1, and a client's key pair that the meter trusts"
    CHANGES = "leave to change the meter for good (--allow-changes)"


class SkipCase(TwinError):  # noqa: N818 (a verdict, not a fault)
    """Raised by a case that cannot say anything about this target; the text says why."""
