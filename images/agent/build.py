"""Compiles the agent for the guest: one static program, the same bytes from the same sources."""

from __future__ import annotations

import re
from pathlib import Path

from images.dcu.workshop import BuildError, Workshop, run, tree_digest

SOURCES = Path(__file__).parent
PROGRAM = "lockstep"
_OPTIONS = ("-std=gnu11", "-O2", "-marm", "-static", "-Wall", "-Wextra", "-Werror")


def protocol_version() -> int:
    """The version that the sources speak. Raises BuildError if they do not say it."""
    text = (SOURCES / "protocol.h").read_text(encoding="utf-8")
    found = re.search(r"PROTOCOL_VERSION = (\d+)", text)
    if found is None:
        raise BuildError("images/agent/protocol.h does not name a PROTOCOL_VERSION")
    return int(found[1])


def sources_digest() -> str:
    """SHA-256 over what the program is made of, in hexadecimal."""
    return tree_digest(SOURCES, "*.[ch]") + " ".join(_OPTIONS)


def build_agent(workshop: Workshop) -> Path:
    """The path of the program. Raises BuildError with the compiler's words if it does not compile."""

    def make(folder: Path) -> None:
        sources = sorted(path.name for path in SOURCES.glob("*.c"))
        target = folder / PROGRAM
        run("arm-linux-gnueabihf-gcc", *_OPTIONS, "-o", target, *sources, folder=SOURCES)
        run("arm-linux-gnueabihf-strip", target)

    return workshop.step("agent", [sources_digest()], make, "compiling the lock-step agent") / PROGRAM
