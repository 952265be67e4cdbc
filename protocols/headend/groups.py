"""The keys that the meters of one concentrator share for broadcasts."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import Annotated

from protocols.headend.shapes import Hex

_KEY = Hex(16, 16)
_WRAPPED = Hex(24, 24)


@dataclass(frozen=True, slots=True)
class BroadcastGroup:
    """Broadcast encryption key and authentication key of a concentrator's group, 16 bytes each; and the same wrapped
    (RFC 3394) under one meter's master key, which the concentrator hands on to that meter and cannot open.

    Keys are in no repr.
    """

    broadcast_key: Annotated[bytes, _KEY] = field(repr=False)
    authentication_key: Annotated[bytes, _KEY] = field(repr=False)
    wrapped_broadcast_key: Annotated[bytes, _WRAPPED] = field(repr=False)
    wrapped_authentication_key: Annotated[bytes, _WRAPPED] = field(repr=False)

    @property
    def name(self) -> str:
        """16 hex digits that tell groups apart, and say nothing of their keys."""
        keys = self.broadcast_key + self.authentication_key
        return hashlib.sha256(b"openami broadcast group" + keys).hexdigest()[:16]
