"""The maker of the meters' firmware in a run: who signs images, and whom meters, concentrator and head-end trust."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from cryptography.hazmat.primitives import serialization

from protocols.dlms.security.agreement import new_private_key
from protocols.dlms.security.signing import Signer
from protocols.firmware.file import TrustedKeys
from protocols.ports import KeySource
from twin.rigs.authority import SignerFactory
from twin.rigs.provisioning import MeterProvision, Provision


@dataclass(frozen=True, slots=True)
class FirmwareVendor:
    """`public_pem` is what every part of the run was given at the factory."""

    signer: Signer = field(repr=False)
    public_pem: str

    @classmethod
    def for_run(cls, keys: KeySource, make_signer: SignerFactory) -> FirmwareVendor:
        key = new_private_key(keys)
        form = serialization.PublicFormat.SubjectPublicKeyInfo
        pem = key.public_key().public_bytes(serialization.Encoding.PEM, form).decode("ascii")
        return cls(make_signer(key), pem)

    def trusted(self) -> TrustedKeys:
        return TrustedKeys.from_pem(self.public_pem)

    def provision(self, parts: Provision) -> Provision:
        """Every meter, and the concentrator, trusts this vendor's firmware."""
        meters = tuple(self._meter(item) for item in parts.meters)
        return replace(parts, meters=meters, firmware_keys_pem=self.public_pem)

    def _meter(self, item: MeterProvision) -> MeterProvision:
        headend_keys = item.headend_keys
        if headend_keys is not None:
            headend_keys = replace(headend_keys, firmware_keys_pem=self.public_pem)
        return replace(item, keys=replace(item.keys, firmware_keys_pem=self.public_pem), headend_keys=headend_keys)
