"""The concentrator's daemon. Needs `protocols`, `paho-mqtt` and the standard library; runs unmodified in the guest."""

__version__ = "0.1.0"
