"""Recipe of the concentrator's ARMv7 image: packages in; kernel, device tree, initramfs and NAND flash out.

`build.build_image` is the way in. Nothing here starts an emulator: `twin.rigs.qemu` does.
"""
