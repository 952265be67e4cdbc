"""The cases, a module a plan. Importing this package declares all of them."""

from twin.conformance.plans import (
    application,
    cosem,
    data_services,
    hdlc,
    profiles,
    security,
    security_suite_0,
    security_suite_1,
    transport,
)

__all__ = [
    "application",
    "cosem",
    "data_services",
    "hdlc",
    "profiles",
    "security",
    "security_suite_0",
    "security_suite_1",
    "transport",
]
