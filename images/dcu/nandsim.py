"""The kernel's NAND simulator, made to survive power cuts, and built as a module beside the distribution's kernel.

The source is taken from the distribution's kernel source package and is GPL-2.0 (as its SPDX line says); the module
that results is too. Only the edits below are this project's, and they are given under the same licence.
SPDX-License-Identifier: GPL-2.0-only (the edits and their replacement texts).
"""

from __future__ import annotations

import tarfile
from pathlib import Path

from images.dcu import packages
from images.dcu.workshop import BuildError, Workshop, find_program, run
from protocols.errors import BadInputError

OWN_MODULE = "updates/nandsim.ko"
"""Where a vendor's modules hold a simulator for their kernel; depmod prefers it there, too."""
_MEMBER = "drivers/mtd/nand/raw/nandsim.c"

_EDITS = (
    # Every programmed page has reached the card before it is reported as done.
    ("O_CREAT | O_RDWR | O_LARGEFILE, 0600", "O_CREAT | O_RDWR | O_LARGEFILE | O_DSYNC, 0600"),
    # What is in the file is what is on the chip, after a restart too.
    (
        "\t\tns->cfile = cfile;\n",
        "\t\tmemset(ns->pages_written, 0xff, sizeof(unsigned long) * BITS_TO_LONGS(ns->geom.pgnum));\n"
        "\t\tns->cfile = cfile;\n",
    ),
)
_ERASE_FROM = "\t\tfor (i = 0; i < ns->geom.pgsec; i++)\n\t\t\tif (__test_and_clear_bit(ns->regs.row + i,"
_ERASE_TO = "\t\treturn;\n\t}\n\n\tmypage = NS_GET_PAGE(ns);"
# An erase reaches the file.
_ERASE = """\t\tmemset(ns->file_buf, 0xff, ns->geom.pgszoob);
\t\tfor (i = 0; i < ns->geom.pgsec; i++)
\t\t\tif (ns_write_file(ns, ns->cfile, ns->file_buf, ns->geom.pgszoob,
\t\t\t\t\t  (loff_t)(ns->regs.row + i) * ns->geom.pgszoob) != ns->geom.pgszoob)
\t\t\t\tNS_ERR("erase_sector: write error page %d\\n", ns->regs.row + i);
"""


def edit(source: str) -> str:
    """The simulator's source with a cache file that is a NAND chip. Raises BuildError if it is not the known source."""
    for old, new in _EDITS:
        if source.count(old) != 1:
            raise BuildError(
                f"nandsim.c is not the one of Linux 6.1: {old.strip()!r} is there {source.count(old)} times"
            )
        source = source.replace(old, new)
    start = source.find(_ERASE_FROM)
    end = source.find(_ERASE_TO, start)
    if start < 0 or end < 0:
        raise BuildError("nandsim.c is not the one of Linux 6.1: its erase function looks different")
    return source[:start] + _ERASE + source[end:]


def build_module(workshop: Workshop, files: dict[str, Path], pins: dict[str, packages.Package]) -> Path:
    """The path of nandsim.ko for the pinned kernel."""
    names = ("headers", "headers-common", "kbuild", "source")

    def make(folder: Path) -> None:
        tree = folder / "headers"
        packages.unpack([files[name] for name in names[:3]], tree)
        kernel = next((tree / "usr/src").glob("linux-headers-*-armmp"))
        common = next((tree / "usr/src").glob("linux-headers-*-common"))
        # The package expects to be installed below /usr/src.
        (kernel / "Makefile").write_text(f"include {common}/Makefile\n", encoding="utf-8")
        module = folder / "module"
        module.mkdir()
        (module / "nandsim.c").write_text(edit(_source(files["source"], folder)), encoding="utf-8")
        (module / "Makefile").write_text("obj-m := nandsim.o\n", encoding="utf-8")
        find_program("arm-linux-gnueabihf-gcc")
        run("make", "-s", "-C", kernel, f"M={module}", "ARCH=arm", "CROSS_COMPILE=arm-linux-gnueabihf-", "modules",
            environment={"KBUILD_BUILD_TIMESTAMP": "@0", "KCFLAGS": f"-ffile-prefix-map={folder}=."})  # fmt: skip
        run("arm-linux-gnueabihf-strip", "--strip-debug", module / "nandsim.ko")
        (module / "nandsim.ko").rename(folder / "nandsim.ko")
        _discard(tree, module)

    inputs = [pins[name].digest for name in names] + [edit.__doc__ or "", _ERASE, *(new for _, new in _EDITS)]
    return workshop.step("nandsim", inputs, make, "building the NAND simulator's module") / "nandsim.ko"


def module_for(modules: Path, built: Path) -> Path:
    """The simulator for the kernel whose modules these are: the vendor's own in `updates/`, or the one built here.

    Raises BadInputError if that is for another kernel: it would not load, and without it there is no flash.
    """
    version = next(modules.glob("lib/modules/*"))
    own = version / OWN_MODULE
    module = own if own.exists() else built
    if b"vermagic=" + version.name.encode() + b" " in module.read_bytes():
        return module
    if module is own:
        raise BadInputError(f"is not a module for Linux {version.name}", file=str(own))
    raise BadInputError(
        f"is for Linux {version.name}, for which there is no NAND simulator: build nandsim.ko for it with the edits of "
        f"{Path(__file__).name}, and put it there",
        file=str(own),
    )


def _source(package: Path, folder: Path) -> str:
    """nandsim.c out of the source package: a compressed archive inside a package, read as streams."""
    packages.unpack([package], folder / "source")
    archive = next((folder / "source/usr/src").glob("linux-source-*.tar.xz"))
    with tarfile.open(archive, "r|xz") as tar:
        for member in tar:
            if member.name.endswith(_MEMBER):
                content = tar.extractfile(member)
                assert content is not None
                text = content.read().decode()
                _discard(folder / "source")
                return text
    raise BuildError(f"{package.name} has no {_MEMBER}")


def _discard(*folders: Path) -> None:
    import shutil

    for folder in folders:
        shutil.rmtree(folder)
