"""The emulated meter: hardware, firmware, and models as data."""
