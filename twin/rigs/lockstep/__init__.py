"""The concentrator's ARMv7 image as a node of the virtual loop: its time is granted, and all that crosses is carried.

See docs/dev/lockstep.md. `dcu.LockstepDcu` is what a rig uses.
"""
