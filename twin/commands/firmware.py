"""The verbs `twin firmware build` and `twin firmware inspect`: firmware files for meters."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from rich.markup import escape

from protocols.errors import BadInputError, LocalProtocolError
from protocols.firmware.code import listing
from protocols.firmware.faults import FirmwareError
from protocols.firmware.file import FirmwareFile, TrustedKeys
from protocols.firmware.program import Program
from twin.commands.output import ExitStatus, people, write_result

firmware = typer.Typer(no_args_is_help=True, help="Firmware files for meters (docs/firmware-format.md).")


def register(app: typer.Typer) -> None:
    """Add `firmware` to the command."""
    app.add_typer(firmware, name="firmware")


@firmware.command()
def build(
    source: Annotated[Path, typer.Argument(help="Source file: model, version, objects, routines, resources (YAML).")],
    key: Annotated[Path, typer.Option(help="The vendor's private key on P-256, PEM, not encrypted.")],
    out: Annotated[Path | None, typer.Option(help="The firmware file; left out: beside the source, .oamifw.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="The manifest as JSON on stdout.")] = False,
) -> None:
    """Build and sign a firmware file from a source file.

    Everything is checked against the model that it is for. A key is made by:
    openssl ecparam -name prime256v1 -genkey -noout -out vendor.pem
    """
    from meters.datafile import load
    from protocols.dlms.security.signing import DeterministicSigner
    from twin.firmware_maker import FirmwareSource, make_firmware

    file = load(source)
    data = make_firmware(file.check(FirmwareSource), DeterministicSigner(_private_key(key)), file)
    target = out or source.with_suffix(".oamifw")
    try:
        target.write_bytes(data)
    except OSError as error:
        raise BadInputError(f"cannot be written: {error.strerror}", file=str(target)) from None
    manifest = FirmwareFile.decode(data).manifest
    people().print(f"{escape(str(target))}: {manifest.identification}, {len(data)} bytes")
    if as_json:
        write_result(json.dumps(_facts(data)["manifest"] | {"file": str(target)}, indent=2) + "\n")


@firmware.command()
def inspect(
    file: Annotated[Path, typer.Argument(help="A firmware file.")],
    key: Annotated[Path | None, typer.Option(help="The vendor's public key, PEM: check the signature, too.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Everything as JSON on stdout.")] = False,
) -> None:
    """Check a firmware file as a meter would, and show what is in it: manifest, objects, code.

    Exit status: 0 if it is good (without --key, its signature is not judged), 1 if a meter would refuse it, 2 if there
    is no such file.
    """
    keys = None if key is None else _public_keys(key)
    try:
        data = file.read_bytes()
    except OSError as error:
        raise BadInputError(f"cannot be read: {error.strerror}", file=str(file)) from None
    try:
        found = _facts(data, keys)
    except FirmwareError as error:
        people().print(f"[bold red]refused[/] {escape(str(error))}")
        if as_json:
            write_result(json.dumps({"verdict": "refused", "fault": error.fault.value, "reason": str(error)}) + "\n")
        raise typer.Exit(ExitStatus.FAILED) from None
    if as_json:
        write_result(json.dumps(found, indent=2) + "\n")
        return
    _show(found)


def _facts(data: bytes, keys: TrustedKeys | None = None) -> dict[str, Any]:
    """What is in a file. Raises FirmwareError if it is not good."""
    file = FirmwareFile.decode(data)
    if keys is not None:
        file.head.check_signature(keys)
    program = Program.decode(file.unpack())
    return {
        "verdict": "good",
        "signature": "not judged" if keys is None else "trusted",
        "manifest": json.loads(file.manifest.encode()),
        "file_size_bytes": len(data),
        "objects": list(program.objects),
        "routines": [
            {"when": "start" if item.on_start else f"every {item.period_s} s", "code": listing(item.code)}
            for item in program.routines
        ],
        "resources": [{"name": item.name, "size_bytes": len(item.data)} for item in program.resources],
    }


def _show(found: dict[str, Any]) -> None:
    lines = [f"{'signature':>20}  {found['signature']}", f"{'file':>20}  {found['file_size_bytes']} bytes"]
    lines += [f"{name:>20}  {value}" for name, value in found["manifest"].items()]
    for row in found["objects"]:
        lines.append(f"{'object':>20}  {row.get('obis')} class {row.get('class')}: {row.get('name')}")
    for routine in found["routines"]:
        lines.append(f"{'routine':>20}  {routine['when']}")
        lines += [f"{'':>20}  {line}" for line in routine["code"]]
    for resource in found["resources"]:
        lines.append(f"{'resource':>20}  {resource['name']}, {resource['size_bytes']} bytes")
    write_result("\n".join(lines) + "\n")


def _private_key(path: Path) -> ec.EllipticCurvePrivateKey:
    try:
        key = serialization.load_pem_private_key(path.read_bytes(), password=None)
    except OSError as error:
        raise BadInputError(f"cannot be read: {error.strerror}", file=str(path)) from None
    except (ValueError, TypeError) as error:
        # The cause may quote the text: it stays out.
        raise BadInputError(f"not an unencrypted private key in PEM ({type(error).__name__})", file=str(path)) from None
    if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, ec.SECP256R1):
        raise BadInputError("not a key on the curve P-256", file=str(path))
    return key


def _public_keys(path: Path) -> TrustedKeys:
    try:
        return TrustedKeys.from_pem(path.read_bytes())
    except OSError as error:
        raise BadInputError(f"cannot be read: {error.strerror}", file=str(path)) from None
    except LocalProtocolError as error:
        raise BadInputError(str(error), file=str(path)) from None
