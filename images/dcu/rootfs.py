"""The root file system's tree, and both partitions as UBI images."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from images.dcu import bytecode, initramfs, packages, ubifs
from images.dcu.layout import (
    BLOCK_BYTES,
    BOARD_MODULE_FOLDERS,
    BOARD_MODULES,
    LEB_BYTES,
    PAGE_BYTES,
    SUB_PAGE_BYTES,
    Partition,
)
from images.dcu.workshop import run

_FOLDERS = ("bin", "sbin", "dev", "proc", "sys", "tmp", "opt", "home", "root", "etc", "mnt")
_APPLETS = (
    "[", "ash", "awk", "basename", "cat", "chmod", "cmp", "cp", "cut", "date", "dd", "df", "dmesg", "du", "echo",
    "env", "false", "find", "free", "getty", "grep", "gunzip", "gzip", "halt", "head", "hexdump", "hostname",
    "ifconfig", "init", "insmod", "ip", "kill", "killall", "ln", "login", "ls", "lsmod", "md5sum", "microcom", "mkdir",
    "mknod", "modprobe", "mount", "mv", "nc", "netstat", "nslookup", "passwd", "pgrep", "ping", "ping6", "poweroff",
    "printf", "ps", "pwd", "readlink", "reboot", "rm", "rmdir", "rmmod", "route", "sed", "sh", "sha256sum", "sleep",
    "sort", "stat", "stty", "switch_root", "sync", "sysctl", "tail", "tar", "telnet", "test", "top", "touch",
    "traceroute", "true", "udhcpc", "udhcpd", "umount", "uname", "uniq", "uptime", "usleep", "vi", "watchdog", "wc",
    "which", "xargs", "zcat",
)  # fmt: skip
_LEFT_OUT = (
    "usr/share/doc", "usr/share/man", "usr/share/locale", "usr/share/lintian", "usr/share/bug", "usr/share/menu",
    "usr/share/applications", "usr/share/pixmaps", "usr/share/binfmts", "usr/share/metainfo", "usr/share/python3",
    "usr/lib/python3.11/pydoc_data",
)  # fmt: skip
_SCRIPTS = {
    "inittab": ("etc/inittab", 0o644),
    "boot": ("etc/boot", 0o755),
    "startup": ("home/startup", 0o755),
    "wifi": ("etc/wifi", 0o755),
}
_TIME_S = 1_767_225_600
"""2026-01-01T00:00:00Z, on every file: the image does not know when it was built."""


def make_tree(
    root: Path, files: dict[str, Path], kernel_tree: Path, nandsim: Path, scripts: Path, update: Path, agent: Path
) -> None:
    """Fill the empty folder `root` with the concentrator's root file system."""
    for name in _FOLDERS:
        (root / name).mkdir(parents=True)
    packages.unpack([files[name] for name in (*packages.ROOT, *packages.FLASH_TOOLS, *packages.FIELD_TOOLS)], root)
    for name in _LEFT_OUT:
        shutil.rmtree(root / name, ignore_errors=True)
    _install_busybox(root, files["busybox-static"])
    initramfs.copy_modules(kernel_tree, root, BOARD_MODULES, nandsim, BOARD_MODULE_FOLDERS)
    _compile_library(root)
    (root / "usr/bin/python3").symlink_to("python3.11")
    (root / "root/.ssh").symlink_to("/tmp/run/wifi/ssh")  # noqa: S108 (in the guest)
    for name, (place, mode) in _SCRIPTS.items():
        shutil.copyfile(scripts / name, root / place)
        (root / place).chmod(mode)
    shutil.copyfile(agent, root / "sbin/lockstep")
    (root / "sbin/lockstep").chmod(0o755)
    (root / "etc/passwd").write_text("root:x:0:0:root:/root:/bin/sh\n", encoding="utf-8")
    (root / "etc/group").write_text("root:x:0:\n", encoding="utf-8")
    (root / "etc/profile").write_text("export PATH=/usr/sbin:/usr/bin:/sbin:/bin PS1='\\h# '\n", encoding="utf-8")
    shutil.copyfile(update, root / "home/update.tar.gz")


def _install_busybox(root: Path, package: Path) -> None:
    unpacked = root.parent / "busybox"
    packages.unpack([package], unpacked)
    shutil.copyfile(unpacked / "bin/busybox", root / "bin/busybox")
    (root / "bin/busybox").chmod(0o755)
    shutil.rmtree(unpacked)
    for name in _APPLETS:
        if not (root / "bin" / name).exists():
            (root / "bin" / name).symlink_to("busybox")
    (root / "sbin/init").symlink_to("../bin/busybox")


def _compile_library(root: Path) -> None:
    """Byte code beside the library's modules: the read-only root cannot keep what the guest compiles."""
    libraries = (root / "usr/lib/python3.11", root / "usr/lib/python3")
    paths = [path for library in libraries for path in sorted(library.rglob("*.py"))]
    codes = bytecode.compile_modules([(path, f"/{path.relative_to(root)}") for path in paths])
    for path, code in zip(paths, codes, strict=True):
        target = path.parent / "__pycache__" / f"{path.stem}.cpython-311.pyc"
        target.parent.mkdir(exist_ok=True)
        target.write_bytes(code)


def _normalize(tree: Path) -> None:
    """Times and modes that do not depend on when and under which umask the tree was made."""
    for path in (*tree.rglob("*"), tree):
        os.utime(path, (_TIME_S, _TIME_S), follow_symlinks=False)
        if not path.is_symlink():
            path.chmod(0o755 if path.is_dir() or path.stat().st_mode & 0o100 else 0o644)


def write_ubi(target: Path, tree: Path, partition: Partition, image_sequence: int) -> None:
    """The tree as a UBI image with one volume that fills the partition; the same bytes for the same tree."""
    _normalize(tree)
    file_system = target.with_suffix(".ubifs")
    run("mkfs.ubifs", "--root", tree, "--min-io-size", str(PAGE_BYTES), "--leb-size", str(LEB_BYTES),
        "--max-leb-cnt", str(partition.volume_blocks), "--compr", "lzo", "--squash-uids",
        "--reserved", str(partition.reserved_bytes), "--output", file_system)  # fmt: skip
    ubifs.normalize(file_system, _TIME_S)
    settings = target.with_suffix(".ini")
    settings.write_text(
        f"[{partition.name}]\nmode=ubi\nimage={file_system}\nvol_id=0\nvol_type=dynamic\nvol_name={partition.name}\n"
        f"vol_size={partition.volume_blocks * LEB_BYTES}\n",
        encoding="utf-8",
    )
    run("ubinize", "--output", target, "--min-io-size", str(PAGE_BYTES), "--peb-size", str(BLOCK_BYTES),
        "--sub-page-size", str(SUB_PAGE_BYTES), "--image-seq", str(image_sequence), settings)  # fmt: skip
    file_system.unlink()
    settings.unlink()
