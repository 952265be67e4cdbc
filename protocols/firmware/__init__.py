"""Firmware files for meters: the format, its checks, and the code of the program inside (docs/firmware-format.md)."""
