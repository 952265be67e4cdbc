"""Emulated hardware. Its verbs belong to the bench; the firmware knows it as registers and sensors."""
