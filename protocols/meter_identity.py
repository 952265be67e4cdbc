"""Objects of a meter that the concentrator looks for at registration, and the ports of a meter's associations."""

from __future__ import annotations

from protocols.dlms.obis import ObisCode

LOGICAL_DEVICE_NAME = ObisCode.parse("0-0:42.0.0*255")
"""Class 1, octet string of 16: the manufacturer's three letters, then what is unique among its devices."""
SERIAL_NUMBER = ObisCode.parse("0-0:96.1.0*255")
"""Class 1, octet string, ASCII."""
FIRMWARE_VERSION = ObisCode.parse("1-0:0.2.0*255")
"""Class 1, octet string, ASCII: the active firmware's identifier."""

# 0-0:96.50 to 96.99 are the manufacturer's own (IEC 62056-6-1).
HARDWARE_REVISION = ObisCode.parse("0-0:96.50.0*255")
"""Class 1, octet string, ASCII."""
MODEL_NAME = ObisCode.parse("0-0:96.50.1*255")
"""Class 1, octet string, ASCII."""
SIGNING_PUBLIC_KEY = ObisCode.parse("0-0:96.50.2*255")
"""Class 1, octet string: P-256 point x and y of 32 bytes each; empty if the meter has none."""
AGREEMENT_PUBLIC_KEY = ObisCode.parse("0-0:96.50.3*255")
"""Class 1, octet string: as SIGNING_PUBLIC_KEY, for key agreement."""

SERVER_SAP = 1
PUBLIC_SAP = 16
READER_SAP = 32
MANAGEMENT_SAP = 1
WRAPPER_PORT = 4059
