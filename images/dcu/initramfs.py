"""Kernel modules with what they depend on, and the initramfs: an archive that is the same for the same content."""

from __future__ import annotations

import gzip
import shutil
import stat
from collections.abc import Iterable
from pathlib import Path

from images.dcu.layout import BOOT_MODULES, NAND_ID, PARTITIONS, SUB_PAGE_BYTES
from images.dcu.workshop import BuildError, run

_APPLETS = (
    "sh", "mount", "umount", "modprobe", "sleep", "usleep", "echo", "switch_root", "poweroff", "[", "cat",
)  # fmt: skip
_TRAILER = "TRAILER!!!"
_REPLACED = ("nandsim",)


def module_name(path: str) -> str:
    """A module file's name as modprobe knows it."""
    return Path(path).name.partition(".ko")[0].replace("-", "_")


def copy_modules(
    tree: Path, target: Path, wanted: Iterable[str], nandsim: Path, folders: tuple[str, ...] = ()
) -> list[str]:
    """Copy those modules and all that they need from an unpacked kernel package, and index them.

    `nandsim` replaces the kernel's own. Gives the names that this kernel does not have.
    Raises BuildError if the tree has no kernel modules.
    """
    source = next(tree.glob("lib/modules/*"), None)
    if source is None:
        raise BuildError(f"{tree} has no lib/modules/VERSION")
    if not (source / "modules.dep").exists():
        run("depmod", "-b", tree, source.name)
    needs = _dependencies(source)
    by_name = {module_name(path): path for path in needs}
    folder = target / "lib/modules" / source.name
    folder.mkdir(parents=True)
    wanted = (
        [*wanted, *(module_name(path) for path in sorted(needs) if path.startswith(folders))] if folders else wanted
    )
    missing = [name for name in wanted if name not in by_name]
    todo, taken = [by_name[name] for name in wanted if name in by_name], set[str]()
    while todo:
        path = todo.pop()
        if path in taken:
            continue
        taken.add(path)
        todo += needs[path]
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(nandsim if module_name(path) in _REPLACED else source / path, folder / path)
    for name in ("modules.builtin", "modules.builtin.modinfo", "modules.order"):
        if (source / name).exists():
            shutil.copyfile(source / name, folder / name)
    run("depmod", "-b", target, source.name)
    return missing


def _dependencies(folder: Path) -> dict[str, list[str]]:
    lines = (folder / "modules.dep").read_text(encoding="utf-8").splitlines()
    return {path: needs.split() for path, _, needs in (line.partition(":") for line in lines)}


def write_initramfs(target: Path, work: Path, kernel_tree: Path, busybox: Path, nandsim: Path, script: str) -> None:
    """The compressed archive with `script` as /init. `work` is an empty folder for its content."""
    for name in ("bin", "dev", "proc", "sys", "root"):
        (work / name).mkdir(parents=True)
    shutil.copyfile(busybox, work / "bin/busybox")
    (work / "bin/busybox").chmod(0o755)
    for name in _APPLETS:
        (work / "bin" / name).symlink_to("busybox")
    missing = copy_modules(kernel_tree, work, BOOT_MODULES, nandsim)
    if {"nandsim", "ubi", "ubifs"} & set(missing):
        raise BuildError(f"the kernel has no module {', '.join(missing)}")
    values = {
        "BOOT_MODULES": " ".join(BOOT_MODULES),
        "NAND_ID": ",".join(f"0x{value:02x}" for value in NAND_ID),
        "PARTS": ",".join(str(partition.blocks) for partition in PARTITIONS),
        "SUB_PAGE": str(SUB_PAGE_BYTES),
    }
    for name, value in values.items():
        script = script.replace(f"@{name}@", value)
    (work / "init").write_text(script, encoding="utf-8")
    (work / "init").chmod(0o755)
    with target.open("wb") as raw, gzip.GzipFile("", "wb", compresslevel=6, fileobj=raw, mtime=0) as file:
        file.write(_archive(work))


def _archive(root: Path) -> bytes:
    """The folder as a cpio archive ("newc"): sorted, owned by root, without times."""
    parts = []
    for number, path in enumerate(sorted(root.rglob("*")), start=1):
        status = path.lstat()
        if path.is_symlink():
            content, mode = str(path.readlink()).encode(), stat.S_IFLNK | 0o777
        elif path.is_dir():
            content, mode = b"", stat.S_IFDIR | 0o755
        else:
            content, mode = path.read_bytes(), stat.S_IFREG | (0o755 if status.st_mode & 0o100 else 0o644)
        parts.append(_entry(str(path.relative_to(root)), number, mode, content))
    # The kernel opens the console before anything of ours runs.
    parts.append(_entry("dev/console", len(parts) + 1, stat.S_IFCHR | 0o600, b"", device=(5, 1)))
    parts.append(_entry(_TRAILER, 0, 0, b""))
    return b"".join(parts)


def _entry(name: str, number: int, mode: int, content: bytes, device: tuple[int, int] = (0, 0)) -> bytes:
    fields = (number, mode, 0, 0, 1, 0, len(content), 0, 0, *device, len(name) + 1, 0)
    head = b"070701" + b"".join(b"%08X" % field for field in fields) + name.encode() + b"\0"
    return _padded(head) + _padded(content)


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 4)
