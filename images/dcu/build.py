"""`build_image`: everything that the emulator needs to start a concentrator from cold, out of packages and sources."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

import images.dcu
from images.agent.build import build_agent, protocol_version, sources_digest
from images.dcu import board, flash, initramfs, nandsim, packages, program, rootfs
from images.dcu.layout import OPT, ROOTFS
from images.dcu.workshop import BuildError, Progress, Workshop, file_digest, missing_programs, tree_digest
from protocols.errors import BadInputError

GUEST_FILES = Path(__file__).with_name("guest")
_DEVICE_TREE = "imx6ul-14x14-evk.dtb"
_IMAGE_SEQUENCE = 0x4948_4D34
_ZIMAGE_MAGIC_OFFSET, _ZIMAGE_MAGIC = 0x24, bytes.fromhex("18286f01")
_DEVICE_TREE_MAGIC = bytes.fromhex("d00dfeed")


@dataclass(frozen=True, slots=True)
class Vendor:
    """A vendor's own kernel image, device tree and unpacked modules (a folder with lib/modules/VERSION), if any."""

    kernel: Path | None = None
    device_tree: Path | None = None
    modules: Path | None = None


@dataclass(frozen=True, slots=True)
class Image:
    """Files to start a concentrator with. All are read-only: whoever runs them works on a copy of the card."""

    folder: Path
    kernel: Path
    device_tree: Path
    real_time_tree: Path
    """The device tree for a guest that runs in the host's time."""
    initramfs: Path
    card: Path
    """The SD card behind the flash chip, raw: the chip's dump, spare areas included, and unused space."""
    daemon: Path
    update: Path
    kernel_version: str
    agent_version: int | None
    """Protocol version of the lock-step agent in the root file system; None where there is none."""

    def digests(self) -> dict[str, str]:
        """SHA-256 of every file, by what it is."""
        paths = {"kernel": self.kernel, "device tree": self.device_tree, "initramfs": self.initramfs}
        paths |= {
            "real-time tree": self.real_time_tree,
            "card": self.card,
            "daemon": self.daemon,
            "update.tar.gz": self.update,
        }
        return {name: file_digest(path) for name, path in paths.items()}


def default_cache() -> Path:
    """Where images are kept: OPENAMI_TWIN_CACHE, or the user's cache folder."""
    base = os.environ.get("OPENAMI_TWIN_CACHE")
    if base:
        return Path(base) / "dcu"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "openami-twin" / "dcu"


def build_image(
    cache: Path, progress: Progress, *, vendor: Vendor | None = None, renew_packages: bool = False
) -> Image:
    """Build the concentrator's image, or find it in the cache if nothing that goes into it has changed.

    `progress` is called with what is being done. Raises BuildError where a program, a package or a file is missing.
    """
    vendor = vendor or Vendor()
    check_vendor(vendor)
    missing = missing_programs()
    if missing:
        raise BuildError(f"missing: {', '.join(missing)}; apt-get install {_packages_of(missing)}")
    workshop = Workshop(cache, progress)
    pins = packages.resolve(workshop, renew=renew_packages)
    inputs = [f"{name} {package.digest}" for name, package in sorted(pins.items())]
    inputs += [tree_digest(Path(next(iter(images.dcu.__path__))))]
    inputs += [tree_digest(program.package_folder(part), "*.py") for part in program.PARTS]
    inputs += [_vendor_digest(vendor), sources_digest()]

    def make(folder: Path) -> None:
        _make_image(workshop, pins, vendor, folder)

    return _image(workshop.step("image", inputs, make, "building the concentrator's image"))


def _packages_of(programs: list[str]) -> str:
    from images.dcu.workshop import PROGRAMS

    return " ".join(sorted({PROGRAMS[name] for name in programs}))


def check_vendor(vendor: Vendor) -> None:
    """Raises BadInputError for a file that is not there, or is not what it should be."""
    for path, offset, magic, what in (
        (vendor.kernel, _ZIMAGE_MAGIC_OFFSET, _ZIMAGE_MAGIC, "no ARM zImage"),
        (vendor.device_tree, 0, _DEVICE_TREE_MAGIC, "no compiled device tree (.dtb)"),
    ):
        if path is not None and _bytes_at(path, offset, len(magic)) != magic:
            raise BadInputError(f"is {what}", file=str(path))
    if vendor.modules is not None and not list(vendor.modules.glob("lib/modules/*/")):
        raise BadInputError("has no lib/modules/VERSION: give the folder above lib", file=str(vendor.modules))


def _bytes_at(path: Path, offset: int, size: int) -> bytes:
    try:
        with path.open("rb") as file:
            file.seek(offset)
            return file.read(size)
    except OSError as error:
        raise BadInputError(f"cannot be read: {error.strerror}", file=str(path)) from None


def _vendor_digest(vendor: Vendor) -> str:
    parts = []
    for path in (vendor.kernel, vendor.device_tree, vendor.modules):
        if path is None:
            parts.append("none")
        else:
            parts.append(tree_digest(path) if path.is_dir() else file_digest(path))
    return " ".join(parts)


def _image(folder: Path) -> Image:
    return Image(
        folder=folder,
        kernel=folder / "zImage",
        device_tree=folder / "board.dtb",
        real_time_tree=folder / "real-time.dtb",
        initramfs=folder / "initramfs.gz",
        card=folder / "card.img",
        daemon=folder / "daemon",
        update=folder / "update.tar.gz",
        kernel_version=(folder / "kernel-version").read_text(encoding="utf-8").strip(),
        agent_version=_agent_version(folder / "agent-version"),
    )


def _agent_version(path: Path) -> int | None:
    return int(path.read_text(encoding="utf-8")) if path.exists() else None


def _make_image(workshop: Workshop, pins: dict[str, packages.Package], vendor: Vendor, folder: Path) -> None:
    files = packages.fetch(workshop, pins)
    module = nandsim.build_module(workshop, files, pins)
    work = folder / "work"
    kernel = _unpacked_kernel(workshop, files, pins)
    modules = vendor.modules or kernel
    module = nandsim.module_for(modules, module)

    workshop.progress("packing the program")
    program.write_daemon(folder / "daemon")
    program.check_daemon(folder / "daemon")
    program.write_update(folder / "update.tar.gz", folder / "daemon")

    workshop.progress("making kernel, device tree and initramfs")
    shutil.copyfile(vendor.kernel or next((kernel / "boot").glob("vmlinuz-*")), folder / "zImage")
    if vendor.device_tree is not None:
        shutil.copyfile(vendor.device_tree, folder / "board.dtb")
        shutil.copyfile(vendor.device_tree, folder / "real-time.dtb")
    else:
        original = next((kernel / "usr/lib").glob(f"linux-image-*/{_DEVICE_TREE}"))
        board.write_device_tree(folder / "board.dtb", original)
        board.write_real_time_tree(folder / "real-time.dtb", folder / "board.dtb")
    version = next(modules.glob("lib/modules/*"), None)
    if version is None:
        raise BuildError(f"{modules} has no lib/modules/VERSION")
    (folder / "kernel-version").write_text(version.name + "\n", encoding="utf-8")
    packages.unpack([files["busybox-static"]], work / "busybox")
    script = (GUEST_FILES / "init").read_text(encoding="utf-8")
    (work / "initramfs").mkdir()
    initramfs.write_initramfs(
        folder / "initramfs.gz", work / "initramfs", modules, work / "busybox/bin/busybox", module, script
    )

    workshop.progress("making the root file system")
    (work / "rootfs").mkdir()
    (work / "opt").mkdir()
    agent = build_agent(workshop)
    rootfs.make_tree(work / "rootfs", files, modules, module, GUEST_FILES, folder / "update.tar.gz", agent)
    (folder / "agent-version").write_text(f"{protocol_version()}\n", encoding="utf-8")
    contents = []
    for partition in (ROOTFS, OPT):
        target = work / f"{partition.name}.ubi"
        rootfs.write_ubi(target, work / partition.name, partition, _IMAGE_SEQUENCE)
        contents.append((partition, target))

    workshop.progress("programming the flash chip")
    flash.write_card(folder / "card.img", contents, _IMAGE_SEQUENCE)
    shutil.rmtree(work)


def _unpacked_kernel(workshop: Workshop, files: dict[str, Path], pins: dict[str, packages.Package]) -> Path:
    def make(folder: Path) -> None:
        packages.unpack([files[packages.KERNEL]], folder)

    return workshop.step("kernel", [pins[packages.KERNEL].digest], make, "unpacking the kernel")
