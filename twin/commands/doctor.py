"""`twin doctor`: what is installed, what is missing, and which commands need it."""

from __future__ import annotations

import importlib.util
import json
import platform
import re
import shutil
import subprocess
import sys
from dataclasses import asdict, dataclass
from importlib import metadata

import typer
from rich.table import Table

from twin.commands.output import people, write_result


@dataclass(frozen=True, slots=True)
class Need:
    """A program or package that some commands use. `install` is what a person types to get it."""

    name: str
    kind: str
    used_by: str
    install: str
    probe: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Finding:
    name: str
    kind: str
    found: bool
    version: str
    used_by: str
    install: str


def _program(name: str, package: str, used_by: str, *version_arguments: str) -> Need:
    return Need(name, "program", used_by, f"apt-get install {package}", (name, *version_arguments))


def _package(module: str, extra: str, used_by: str) -> Need:
    return Need(module, "Python package", used_by, f"pip install 'openami-twin[{extra}]'")


_IMAGE_PROGRAMS = {
    "qemu-img": "qemu-utils",
    "mkfs.ubifs": "mtd-utils",
    "fdtput": "device-tree-compiler",
    "depmod": "kmod",
    "make": "make",
    "xz": "xz-utils",
    "arm-linux-gnueabihf-gcc": "gcc-arm-linux-gnueabihf",
}
"""Those of the image's recipe that a machine with QEMU may lack; `twin dcu build` names any of them."""

NEEDS = (
    _program("mosquitto", "mosquitto", "twin run --broker mosquitto", "-h"),
    _program("tshark", "tshark", "independent check of air.pcap in the tests", "--version"),
    _program("chromium", "chromium", "screenshots of the report and the console in the tests", "--version"),
    _program("qemu-system-arm", "qemu-system-arm", "twin run --dcu qemu, twin dcu", "--version"),
    *(_program(name, package, "twin dcu build", "--version") for name, package in _IMAGE_PROGRAMS.items()),
    _package("scapy", "scapy", "twin run --air scapy, Scapy layers and fault verbs"),
    _package("amqtt", "mqtt", "twin run --broker embedded"),
    _package("uvicorn", "hes", "the head-end's REST interface and console over the network"),
    _package("psycopg", "postgresql", "twin run --db postgresql+psycopg://…"),
    _package("numpy", "grid", "twin trip, twin der"),
    _package("scipy", "grid", "twin trip"),
    _package("matplotlib", "grid", "plots of twin trip"),
    _package("pymodbus", "grid", "twin der"),
)


def register(app: typer.Typer) -> None:
    app.command()(doctor)


def doctor(as_json: bool = typer.Option(False, "--json", help="Print the findings as JSON.")) -> None:
    """Say what is installed, what is missing and which commands need it.

    What `twin run village` needs came with the installation; everything listed here is for more than that, so
    missing parts are no failure.
    """
    findings = [_look(need) for need in NEEDS]
    if as_json:
        document = {
            "python": platform.python_version(),
            "openami_twin": metadata.version("openami-twin"),
            "findings": [asdict(finding) for finding in findings],
        }
        write_result(json.dumps(document, indent=2) + "\n")
        return
    console = people()
    console.print(
        f"openami-twin {metadata.version('openami-twin')}, Python {platform.python_version()} on {sys.platform}"
    )
    table = Table("", "what", "version", "used by", "to install", box=None, pad_edge=False)
    for finding in findings:
        mark = "[green]yes[/]" if finding.found else "[yellow]no[/]"
        table.add_row(mark, finding.name, finding.version, finding.used_by, "" if finding.found else finding.install)
    console.print(table)
    missing = sum(not finding.found for finding in findings)
    console.print(
        "Everything is there."
        if not missing
        else f"{missing} missing; `twin run village` and `make demo` need none of them."
    )


def _look(need: Need) -> Finding:
    found, version = _look_for_program(need) if need.probe else _look_for_package(need)
    return Finding(need.name, need.kind, found, version, need.used_by, need.install)


def _look_for_package(need: Need) -> tuple[bool, str]:
    if importlib.util.find_spec(need.name) is None:
        return False, ""
    try:
        return True, metadata.version(need.name.replace("_", "-"))
    except metadata.PackageNotFoundError:
        return True, "unknown"


def _look_for_program(need: Need) -> tuple[bool, str]:
    path = shutil.which(need.probe[0]) or shutil.which(need.probe[0], path="/usr/sbin:/sbin")
    if path is None:
        return False, ""
    try:
        done = subprocess.run([path, *need.probe[1:]], capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return True, f"does not answer: {error}"
    number = re.search(r"\d+(\.\d+)+", done.stdout or done.stderr)
    return True, number[0] if number else "unknown"
