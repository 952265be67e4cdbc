"""Errors of the bench itself."""

from __future__ import annotations

from protocols.errors import TwinError


class RigError(TwinError):
    """The rig could not do it: a time-out, a missing program, a part that died. Exit status 3."""
