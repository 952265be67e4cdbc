"""What is tested, as `--target` names it."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from urllib.parse import parse_qsl, urlsplit

from protocols.errors import BadInputError
from protocols.meter_identity import MANAGEMENT_SAP, PUBLIC_SAP, READER_SAP, SERVER_SAP

DEFAULT_MODEL = "ihm5000-1p"
_FORMS = "twin, model:FILE, tcp://HOST:PORT, udp://HOST:PORT or hdlc:DEVICE"
_KEY = "--target"
_SAP_NAMES = ("public", "reader", "management", "server", "broadcast", "physical")


class TargetKind(enum.StrEnum):
    EMULATED = "emulated"
    """One of ours, in this process, on the virtual clock, with its bench verbs."""
    TCP = "tcp"
    UDP = "udp"
    HDLC = "hdlc"


@dataclass(frozen=True, slots=True)
class Saps:
    """Service access points of a meter's associations; of a stranger's meter they are given with the target."""

    public: int = PUBLIC_SAP
    reader: int = READER_SAP
    management: int = MANAGEMENT_SAP
    server: int = SERVER_SAP
    broadcast: int | None = None
    """Client of the pre-established broadcast association; None where there is none."""
    physical: int | None = None
    """Lower HDLC address; without it, addresses have one byte."""


@dataclass(frozen=True, slots=True)
class TargetSpec:
    """A target as a person names it. `model` is set for an emulated meter, `host` and `port` or `device` else."""

    text: str
    kind: TargetKind
    model: str = ""
    host: str = ""
    port: int = 0
    device: str = ""
    saps: Saps = Saps()

    @property
    def is_emulated(self) -> bool:
        return self.kind is TargetKind.EMULATED

    @classmethod
    def parse(cls, text: str) -> TargetSpec:
        """Raises BadInputError.

        A stranger's access points stand behind a question mark: `tcp://192.0.2.7:4059?management=1&server=1`.
        """
        if text == "twin":
            return cls(text, TargetKind.EMULATED, model=DEFAULT_MODEL)
        if text.startswith("model:") and len(text) > len("model:"):
            return cls(text, TargetKind.EMULATED, model=text.removeprefix("model:"))
        if text.startswith("hdlc:"):
            device, _, query = text.removeprefix("hdlc:").partition("?")
            if not device:
                raise BadInputError(f"{text!r} names no device, such as hdlc:/dev/ttyUSB0", key=_KEY)
            return cls(text, TargetKind.HDLC, device=device, saps=_saps(query))
        if text.startswith("container:"):
            raise BadInputError(
                "container targets are not there yet; run the meter's container with a published port, and test it "
                "as tcp://HOST:PORT or udp://HOST:PORT",
                key=_KEY,
            )
        try:
            parts = urlsplit(text)
            scheme, host, port = parts.scheme, parts.hostname, parts.port
        except ValueError as error:
            raise BadInputError(f"{text!r}: {error}", key=_KEY) from None
        if scheme not in ("tcp", "udp") or not host or not port or parts.path not in ("", "/"):
            raise BadInputError(f"{text!r} is not {_FORMS}", key=_KEY)
        return cls(text, TargetKind(scheme), host=host, port=port, saps=_saps(parts.query))


def _saps(query: str) -> Saps:
    values: dict[str, int] = {}
    try:
        pairs = parse_qsl(query, strict_parsing=bool(query))
    except ValueError:
        raise BadInputError(f"{query!r} is not NAME=SAP&…", key=_KEY) from None
    for name, value in pairs:
        if name not in _SAP_NAMES:
            raise BadInputError(f"{name!r} is none of {', '.join(_SAP_NAMES)}", key=_KEY)
        if not (value.isascii() and value.isdigit()) or int(value) > 0xFFFF:
            raise BadInputError(f"{name}={value!r} is no service access point", key=_KEY)
        values[name] = int(value)
    return Saps(**values)
