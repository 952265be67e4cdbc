"""The configuration file of `python -m dcu`: JSON, written by provisioning.

    {"dcu_id": "dcu-1", "eui64": "0212740100000001", "system_title": "4f414d4443553031", "link_key": "...",
     "mesh": {"network_name": "openami", "pan_id": 2625, "prefix": "fd00000000000a41", "key_index": 1,
              "timers_profile": "fan-small", "radio": {"plan": 1, "fsk_mode": 1, "max_psdu_bytes": 2047}},
     "radio_device": "/dev/ttymxc1", "radio_baud": 921600, "storage": "/opt/dcu", "trace_file": "/tmp/trace.jsonl",
     "broker": {"host": "192.0.2.1", "port": 8883, "client_id": "dcu-1", "username": "...", "password": "...",
                "tls": {"ca_file": "...", "certificate_file": "...", "key_file": "...", "server_name": "..."}}}

`uplink`, `modem` and `time` name the devices beside the concentrator, as docs/dev/uplink.md shows; each may hold a
`policy` with the numbers of `UplinkPolicy`, `ModemPolicy` or `TimePolicy`.
`mesh_identity`, for a mesh that admits devices by certificate, holds the PEM texts of `MeshIdentity`.
`predecessor`, for a concentrator that takes another's place, holds the numbers of `Predecessor`.
`collection` may hold `local_offset_s`, local time minus UTC; `firmware_keys_pem` the public keys of those whose
firmware is passed on to meters. `identity`, for meters of security suite 1, holds the PEM
texts of `DeviceIdentity`.
`dlms`, `registration` and `limits` may hold the fields of `DlmsTimeouts`, `RegistrationPolicy` and the limits of
`DcuConfig`. Octets are hexadecimal. What has a default may be left out; what is not known is refused.
"""

from __future__ import annotations

import dataclasses
import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_type_hints

from dcu.config import CollectionPolicy, DcuConfig, DlmsTimeouts, Predecessor, RegistrationPolicy
from dcu.config_sections import Section, unique
from dcu.device_config import DevicePlaces, take_devices
from dcu.identity import ClientKeys, DeviceIdentity
from dcu.mesh_identity import MeshIdentity
from protocols.dlms.security.signing import RandomSigner
from protocols.errors import BadInputError, LocalProtocolError
from protocols.firmware.file import TrustedKeys
from protocols.headend.topics import DCU_ID_PATTERN
from protocols.mesh.config import RadioSettings
from protocols.mesh.timers import profile_named
from protocols.rcp.codes import ChannelFunction

_LIMITS = ("parallel_readings", "max_meters", "outbox_limit_bytes")
_MESH_TEXTS = ("network_name", "timers_profile")


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """Paths of PEM files, relative ones from the configuration file's folder."""

    ca_file: str
    certificate_file: str
    key_file: str
    server_name: str | None = None


@dataclass(frozen=True, slots=True)
class BrokerAddress:
    """The `broker` section."""

    host: str
    port: int
    client_id: str
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    tls: TlsFiles | None = None
    keep_alive_s: int = 60


@dataclass(frozen=True, slots=True)
class Provisioning:
    """A whole configuration file."""

    dcu: DcuConfig
    broker: BrokerAddress
    radio_device: str
    storage: Path
    radio_baud: int = 921600
    trace_file: Path | None = None
    devices: DevicePlaces = field(default_factory=DevicePlaces)
    mesh_identity: MeshIdentity | None = None
    """For a mesh that admits devices by their certificates."""


def load(path: Path) -> Provisioning:
    """Read and check a configuration file. Raises BadInputError that names file, line or key; never shows a value."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8"
        raise BadInputError(f"cannot read the configuration: {reason}", file=str(path)) from error
    try:
        content = json.loads(text, object_pairs_hook=unique)
    except json.JSONDecodeError as error:
        raise BadInputError(f"is not JSON: {error.msg}", file=str(path), line=error.lineno) from None
    except ValueError as error:
        raise BadInputError(str(error), file=str(path)) from None
    try:
        return _provisioning(Section(content, ""), path.parent)
    except BadInputError as error:
        raise BadInputError(error.args[0].removeprefix(f"{error.key}: "), file=str(path), key=error.key) from None


def _provisioning(root: Section, folder: Path) -> Provisioning:
    dcu = _dcu(root)
    devices, policies = take_devices(root)
    dcu = dataclasses.replace(dcu, uplink=policies.uplink, modem=policies.modem, time=policies.time)
    broker = _broker(root.section("broker"), folder)
    known: dict[str, Any] = {}
    if "radio_baud" in root:
        known["radio_baud"] = root.integer("radio_baud", 9600, 921600)
    if "trace_file" in root:
        known["trace_file"] = folder / root.text("trace_file")
    if "mesh_identity" in root:
        known["mesh_identity"] = _mesh_identity(root.section("mesh_identity"), dcu.eui64)
    found = Provisioning(
        dcu=dcu,
        broker=broker,
        radio_device=root.text("radio_device"),
        storage=folder / root.text("storage"),
        devices=devices,
        **known,
    )
    root.end()
    return found


def _dcu(root: Section) -> DcuConfig:
    known: dict[str, Any] = {"dcu_id": root.text("dcu_id")}
    if re.fullmatch(DCU_ID_PATTERN, known["dcu_id"]) is None:
        raise BadInputError(f"must match {DCU_ID_PATTERN}", key="dcu_id")
    for name, size_bytes in (("eui64", 8), ("system_title", 8), ("link_key", 16)):
        known[name] = root.octets(name, size_bytes)
    if "mesh" in root:
        known |= _mesh(root.section("mesh"))
    if "dlms" in root:
        known["dlms"] = root.section("dlms").numbers(DlmsTimeouts)
    if "registration" in root:
        known["registration"] = root.section("registration").numbers(RegistrationPolicy)
    if "limits" in root:
        limits = root.section("limits")
        known |= {name: limits.integer(name, 1, 2**31) for name in _LIMITS if name in limits}
        limits.end()
    if "collection" in root:
        collection = root.section("collection")
        offset_s = collection.integer("local_offset_s", -50_400, 50_400)
        collection.end()
        known["collection"] = CollectionPolicy(local_offset_s=offset_s)
    if "predecessor" in root:
        known["predecessor"] = _predecessor(root.section("predecessor"))
    if "firmware_keys_pem" in root:
        known["firmware_keys_pem"] = root.text("firmware_keys_pem")
        try:
            TrustedKeys.from_pem(known["firmware_keys_pem"])
        except LocalProtocolError as error:
            raise BadInputError(str(error), key=root.key("firmware_keys_pem")) from None
    if "identity" in root:
        known["identity"] = _identity(root.section("identity"), known["system_title"])
    return DcuConfig(**known)


def _predecessor(section: Section) -> Predecessor:
    found = Predecessor(section.integer("starts", 0, 2**31), section.integer("frame_counter", 0, 2**32 - 1))
    section.end()
    return found


def _identity(section: Section, system_title: bytes) -> DeviceIdentity:
    known = {row.name: section.text(row.name) for row in dataclasses.fields(DeviceIdentity)}
    section.end()
    identity = DeviceIdentity(**known)
    try:
        ClientKeys(identity, system_title, utc_s=lambda: 0.0, make_signer=RandomSigner)
    except BadInputError as error:
        name = error.key or ""
        raise BadInputError(error.args[0].removeprefix(f"{name}: "), key=section.key(name)) from None
    return identity


def _mesh_identity(section: Section, eui64: bytes) -> MeshIdentity:
    known = {row.name: section.text(row.name) for row in dataclasses.fields(MeshIdentity)}
    section.end()
    identity = MeshIdentity(**known)
    try:
        identity.credentials(eui64, keys=_NoKeys(), utc_s=lambda: 0.0, make_signer=RandomSigner)
    except BadInputError as error:
        name = error.key or ""
        raise BadInputError(error.args[0].removeprefix(f"{name}: "), key=section.key(name)) from None
    return identity


class _NoKeys:
    """A KeySource for what is only checked."""

    def random_bytes(self, size_bytes: int) -> bytes:
        raise LocalProtocolError("a check draws no keys")


def _mesh(section: Section) -> dict[str, Any]:
    known: dict[str, Any] = {name: section.text(name) for name in _MESH_TEXTS if name in section}
    if "timers_profile" in known:
        try:
            profile_named(known["timers_profile"])
        except BadInputError as error:
            raise BadInputError(error.args[0].partition(": ")[2], key=section.key("timers_profile")) from None
    if len(known.get("network_name", "").encode()) > 32:
        raise BadInputError("has at most 32 bytes", key=section.key("network_name"))
    if "pan_id" in section:
        known["pan_id"] = section.integer("pan_id", 0, 0xFFFE)
    if "key_index" in section:
        known["key_index"] = section.integer("key_index", 1, 7)
    if "prefix" in section:
        known["prefix"] = section.octets("prefix", 8)
    if "radio" in section:
        known["radio"] = _radio(section.section("radio"))
    section.end()
    return known


def _radio(section: Section) -> RadioSettings:
    hints = get_type_hints(RadioSettings)
    known: dict[str, Any] = {}
    for name, kind in hints.items():
        if name not in section:
            continue
        if kind is ChannelFunction:
            known[name] = _channel_function(section.text(name), section.key(name))
        elif kind is float:
            known[name] = section.number(name, -200, 0)
        else:
            known[name] = section.integer(name, 0, 0xFFFF)
    section.end()
    try:
        return RadioSettings(**known)
    except LocalProtocolError as error:
        raise BadInputError(str(error), key=section.key("plan")) from None


def _channel_function(name: str, key: str) -> ChannelFunction:
    try:
        return ChannelFunction[name.upper()]
    except KeyError:
        known = ", ".join(member.name.lower() for member in ChannelFunction)
        raise BadInputError(f"must be one of {known}", key=key) from None


def _broker(section: Section, folder: Path) -> BrokerAddress:
    known: dict[str, Any] = {"host": section.text("host"), "port": section.integer("port", 1, 65535)}
    known["client_id"] = section.text("client_id")
    for name in ("username", "password"):
        if name in section:
            known[name] = section.text(name)
    if "keep_alive_s" in section:
        known["keep_alive_s"] = section.integer("keep_alive_s", 5, 3600)
    if "tls" in section:
        tls = section.section("tls")
        known["tls"] = TlsFiles(
            ca_file=str(folder / tls.text("ca_file")),
            certificate_file=str(folder / tls.text("certificate_file")),
            key_file=str(folder / tls.text("key_file")),
            server_name=tls.text("server_name") if "server_name" in tls else None,
        )
        tls.end()
    section.end()
    return BrokerAddress(**known)
