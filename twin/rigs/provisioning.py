"""Identities and keys of one run: what a factory, a shipment file and an installer would have given the parts."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from dcu.identity import DeviceIdentity
from meters.keys import MeterKeys
from meters.meter import MeterIdentity
from meters.models.library import load_model
from meters.models.schema import MeterModel
from protocols.errors import BadInputError
from protocols.mesh.config import LinkKey
from protocols.ports import KeySource
from twin.rigs.authority import DeviceCertificates
from twin.scenarios.schema import MeterSettings, Scenario

# Locally administered EUI-64s (bit 1 of the first byte): no manufacturer's block is claimed for devices that do not
# exist.
_METER_BLOCK = bytes.fromhex("0249484d")
DCU_EUI64 = bytes.fromhex("02494844") + (1).to_bytes(4, "big")
_DCU_TITLE_PREFIX = b"IHD"


@dataclass(frozen=True, slots=True)
class MeterProvision:
    """One meter as it leaves the factory, and the keys that the head-end believes it has."""

    settings: MeterSettings
    model: MeterModel
    identity: MeterIdentity
    keys: MeterKeys = field(repr=False)
    headend_keys: MeterKeys | None = field(repr=False)
    """None where the head-end does not know the meter."""
    shipped_certificates: DeviceCertificates | None = None
    """What the head-end was told of its certificates."""


@dataclass(frozen=True, slots=True)
class Provision:
    """Everything that the parts of one run are given before they start."""

    dcu_eui64: bytes
    dcu_system_title: bytes
    link_key: LinkKey
    dcu_password: str = field(repr=False)
    headend_password: str = field(repr=False)
    meters: tuple[MeterProvision, ...]
    dcu_identity: DeviceIdentity | None = field(default=None, repr=False)
    firmware_keys_pem: str = field(default="", repr=False)
    """Public keys of those whose firmware the concentrator passes on."""


def meter_eui64(number: int) -> bytes:
    """The EUI-64 of the scenario's meter of that number, from 1 in the order of the file."""
    return _METER_BLOCK + number.to_bytes(4, "big")


def provision(scenario: Scenario, keys: KeySource) -> Provision:
    """Draw identities and keys for a scenario from `keys`. Raises BadInputError for a model that does not exist, or
    has not the suite that is asked of it."""
    dcu_system_title = _DCU_TITLE_PREFIX + (1).to_bytes(5, "big")
    link_key = LinkKey(1, keys.random_bytes(16))
    dcu_password, headend_password = keys.random_bytes(16).hex(), keys.random_bytes(16).hex()
    kinds = dict.fromkeys((settings.model, settings.tenant_lines) for settings in scenario.meters)
    models = {kind: _model(*kind) for kind in kinds}
    meters = tuple(
        _meter(settings, models[settings.model, settings.tenant_lines], number, dcu_system_title, keys)
        for number, settings in enumerate(scenario.meters, 1)
    )
    return Provision(
        dcu_eui64=DCU_EUI64,
        dcu_system_title=dcu_system_title,
        link_key=link_key,
        dcu_password=dcu_password,
        headend_password=headend_password,
        meters=meters,
    )


def _model(name: str, tenant_lines: int | None) -> MeterModel:
    """One object for all meters of a kind: what the firmware makes of it is shared."""
    model = load_model(name)
    if tenant_lines is None or tenant_lines == model.tenant_lines:
        return model
    if not model.has_disconnector:
        raise BadInputError(f"model {name} has no relay, and so no tenant lines", key="meters.tenant_lines")
    return model.model_copy(update={"tenant_lines": tenant_lines})


def _meter(
    settings: MeterSettings, model: MeterModel, number: int, client_title: bytes, source: KeySource
) -> MeterProvision:
    title = model.manufacturer.encode("ascii") + number.to_bytes(5, "big")
    if settings.suite and settings.suite not in model.security_suites:
        raise BadInputError(f"model {model.model} has no suite {settings.suite}", key=f"meters.{settings.name}")
    keys = MeterKeys.generate(source, system_title=title, client_system_title=client_title, suite=settings.suite)
    headend_keys: MeterKeys | None = keys
    if settings.wrong_key:
        headend_keys = replace(keys, encryption_key=source.random_bytes(16))
    if not settings.known_to_hes:
        headend_keys = None
    identity = MeterIdentity(settings.serial, meter_eui64(number))
    return MeterProvision(settings, model, identity, keys, headend_keys)
