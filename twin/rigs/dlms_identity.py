"""Certificates for DLMS security suite 1: the concentrator's, the meters', and what the head-end is told of them."""

from __future__ import annotations

from dataclasses import replace

from dcu.identity import DeviceIdentity
from protocols.dlms.security.agreement import new_private_key
from twin.clock.seeds import KeyFactory
from twin.rigs.authority import RunAuthority, Standing, private_key_pem
from twin.rigs.provisioning import MeterProvision, Provision


def certified(parts: Provision, authority: RunAuthority, keys: KeyFactory) -> Provision:
    """The parts with certificates of the run's authority, if a meter is of suite 1."""
    if not any(item.keys.suite == 1 for item in parts.meters):
        return parts
    return replace(
        parts,
        dcu_identity=_dcu_identity(parts.dcu_system_title, authority, keys),
        meters=tuple(_meter(item, authority, keys) if item.keys.suite == 1 else item for item in parts.meters),
    )


def _dcu_identity(system_title: bytes, authority: RunAuthority, keys: KeyFactory) -> DeviceIdentity:
    source = keys("dlms-identity/dcu")
    signing, agreement = private_key_pem(new_private_key(source)), private_key_pem(new_private_key(source))
    certificates = authority.certify(system_title, signing, agreement)
    return DeviceIdentity(signing, agreement, certificates.pem(authority.certificate))


def _meter(item: MeterProvision, authority: RunAuthority, keys: KeyFactory) -> MeterProvision:
    """A foreign meter is a counterfeit: it has the genuine one's symmetric keys, but a key pair of its own, which no
    trusted authority has certified. The head-end was told of the genuine one."""
    own, standing = item.keys, Standing(item.settings.certificate)
    if standing is Standing.FOREIGN:
        source = keys(f"dlms-identity/{item.settings.serial}")
        own = replace(
            own,
            signing_key_pem=private_key_pem(new_private_key(source)),
            agreement_key_pem=private_key_pem(new_private_key(source)),
        )
    title = own.system_title
    certificates = authority.certify(title, own.signing_key_pem, own.agreement_key_pem, standing)
    told = certificates
    if standing is Standing.FOREIGN:
        told = authority.certify(title, item.keys.signing_key_pem, item.keys.agreement_key_pem)
    own = replace(own, certificates_pem=certificates.pem(authority.certificate))
    is_known = standing is Standing.VALID and item.headend_keys == item.keys
    return replace(item, keys=own, headend_keys=own if is_known else item.headend_keys, shipped_certificates=told)
