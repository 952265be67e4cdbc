"""The concentrator's ARMv7 image in QEMU: a machine with its lines, its snapshot, and the rig's verbs over both."""
