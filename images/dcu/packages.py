"""The distribution's packages that go into the image: found by apt, pinned by hash, unpacked without root."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from urllib.parse import unquote

from images.dcu.workshop import BuildError, Workshop, file_digest, run

_URI = re.compile(r"'[^']+' (?P<file>\S+_\S+\.deb) \d+ SHA256:(?P<digest>[0-9a-f]{64})")
_ADVICE = "dpkg --add-architecture armhf && apt-get update, with Debian bookworm's package sources"
ARCHITECTURE = "armhf"

KERNEL = "kernel"
ROOT = (
    "python3.11-minimal", "libpython3.11-minimal", "libpython3.11-stdlib", "python3.11", "libc6", "libssl3", "zlib1g",
    "libexpat1", "libffi8", "libbz2-1.0", "liblzma5", "libsqlite3-0", "libuuid1", "libcrypt1", "libgcc-s1",
    "python3-cryptography", "python3-cffi-backend",
)  # fmt: skip
"""What the daemon runs on, from the distribution's armhf."""
FLASH_TOOLS = ("mtd-utils", "liblzo2-2", "libzstd1")
"""For the person who looks after the flash: mtdinfo, ubinfo and their relatives."""
FIELD_TOOLS = (
    "hostapd", "iw", "wpasupplicant", "libnl-3-200", "libnl-genl-3-200", "libnl-route-3-200", "libdbus-1-3",
    "libpcsclite1", "libreadline8", "libtinfo6", "libsystemd0", "libcap2", "libgcrypt20", "libgpg-error0", "liblz4-1",
    "dropbear-bin", "libtomcrypt1", "libtommath1", "libgmp10", "linuxptp", "ethtool", "libmnl0", "tcpdump",
    "libpcap0.8", "strace", "openssl",
)  # fmt: skip
"""Maintenance access over Wi-Fi and its log-in, precision time, and what a technician diagnoses with."""
_NAMES = (
    KERNEL, "headers", "headers-common", "kbuild", "source", "busybox-static", *ROOT, *FLASH_TOOLS, *FIELD_TOOLS,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Package:
    """One pinned package file. `digest` is its SHA-256 in hexadecimal."""

    name: str
    file: str
    digest: str


def resolve(workshop: Workshop, *, renew: bool = False) -> dict[str, Package]:
    """The pinned packages by name: those that the cache pinned before, or, with `renew`, those that apt offers now.

    Raises BuildError if apt does not know the architecture or a package.
    """
    pins = workshop.cache / "packages.json"
    if pins.exists() and not renew:
        pinned = {name: Package(**entry) for name, entry in json.loads(pins.read_text(encoding="utf-8")).items()}
        if set(_NAMES) <= set(pinned):
            return {name: pinned[name] for name in _NAMES}
    workshop.progress("finding packages")
    kernel = _kernel_version()
    common = f"linux-headers-{kernel.removesuffix('-armmp')}-common"
    wanted = {
        KERNEL: f"linux-image-{kernel}:{ARCHITECTURE}",
        "headers": f"linux-headers-{kernel}:{ARCHITECTURE}",
        "headers-common": common,
        "kbuild": "linux-kbuild-6.1",
        "source": "linux-source-6.1",
        "busybox-static": f"busybox-static:{ARCHITECTURE}",
        **{name: f"{name}:{ARCHITECTURE}" for name in (*ROOT, *FLASH_TOOLS, *FIELD_TOOLS)},
    }
    found = _locate(wanted)
    text = json.dumps({name: asdict(package) for name, package in found.items()}, indent=2)
    pins.write_text(text + "\n", encoding="utf-8")
    return found


def _kernel_version() -> str:
    text = run("apt-cache", "depends", f"linux-image-armmp:{ARCHITECTURE}")
    found = re.search(r"Depends: linux-image-(\d[^\s:]*-armmp)\b", text)
    if found is None:
        raise BuildError(f"apt does not offer linux-image-armmp:{ARCHITECTURE}: {_ADVICE}")
    return found[1]


def _locate(wanted: dict[str, str]) -> dict[str, Package]:
    """Ask apt for file names and hashes, without downloading anything."""
    try:
        text = run("apt-get", "download", "--print-uris", "-qq", *wanted.values())
    except BuildError as error:
        said = [line.strip() for line in str(error).splitlines() if line.strip().startswith("E:")]
        raise BuildError(f"apt does not offer what is needed: {' '.join(said) or error}; {_ADVICE}") from error
    by_name = {match["file"].partition("_")[0]: match for match in _URI.finditer(text)}
    found = {}
    for name, full_name in wanted.items():
        match = by_name.get(full_name.partition(":")[0])
        if match is None:
            raise BuildError(f"apt does not offer {full_name}: {_ADVICE}")
        found[name] = Package(name, match["file"], match["digest"])
    return found


def fetch(workshop: Workshop, packages: dict[str, Package]) -> dict[str, Path]:
    """The package files by name, downloaded where the cache has none. Raises BuildError where a hash is wrong."""
    store = workshop.cache / "packages"
    store.mkdir(exist_ok=True)
    return {name: _fetch_one(workshop, package, store) for name, package in packages.items()}


def _fetch_one(workshop: Workshop, package: Package, store: Path) -> Path:
    path = store / package.file
    if path.exists():
        return path
    workshop.progress(f"downloading {package.file.partition('_')[0]}")
    partial = store / f"{package.file}.partial"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    name, version, architecture = package.file.removesuffix(".deb").split("_")
    full_name = f"{name}:{architecture}" if architecture == ARCHITECTURE else name
    try:
        run("apt-get", "download", "-qq", f"{full_name}={unquote(version)}", folder=partial)
        loaded = partial / package.file
        if not loaded.exists() or file_digest(loaded) != package.digest:
            raise BuildError(f"{package.file} is not what was pinned; `twin dcu build --update` pins packages anew")
        loaded.rename(path)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return path


def unpack(packages: list[Path], into: Path) -> None:
    """Unpack package files over each other. Maintainer scripts do not run."""
    into.mkdir(parents=True, exist_ok=True)
    for package in packages:
        run("dpkg-deb", "--extract", package, into)
