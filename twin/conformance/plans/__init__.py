"""The cases, a module a group. Importing this package declares all of them, in this order within each plan."""

from twin.conformance.plans import (
    application,
    cosem,
    data_services,
    hdlc_frames,
    hdlc_modes,
    profiles,
    security,
    security_suite_0,
    security_suite_0_keys,
    security_suite_0_policies,
    security_suite_1,
    transport,
)

__all__ = [
    "application",
    "cosem",
    "data_services",
    "hdlc_frames",
    "hdlc_modes",
    "profiles",
    "security",
    "security_suite_0",
    "security_suite_0_keys",
    "security_suite_0_policies",
    "security_suite_1",
    "transport",
]
