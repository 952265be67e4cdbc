"""The cases, a module a plan. Importing this package declares all of them."""

from twin.conformance.plans import application, data_services

__all__ = ["application", "data_services"]
