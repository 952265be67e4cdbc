"""How a part is run: in process, in a container, in QEMU."""
