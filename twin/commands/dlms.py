"""`twin dlms`: a client for people. Reads any meter that speaks DLMS/COSEM over TCP, UDP or a serial line."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from twin.commands.output import ExitStatus, people, write_result

if TYPE_CHECKING:
    from protocols.dlms.obis import ObisCode
    from protocols.dlms.object_list import ObjectListElement
    from protocols.dlms.reading import ProfileTable
    from twin.dlms_client.connection import ClientOptions, Connection
    from twin.dlms_client.values import Value

T = TypeVar("T")

Address = Annotated[
    str,
    typer.Argument(metavar="ADDRESS", help="HOST:PORT, tcp://HOST:PORT, udp://HOST:PORT or hdlc:DEVICE"),
]
AssociationOption = Annotated[
    str | None,
    typer.Option(
        "--as",
        metavar="ROLE",
        help="public, reader or management. Without it: reader if the key file has its secret, otherwise public.",
    ),
]
KeysOption = Annotated[Path | None, typer.Option("--keys", metavar="FILE", help="The meter's key file (JSON).")]
ClientKeysOption = Annotated[
    Path | None,
    typer.Option(
        "--client-keys",
        metavar="FILE",
        help="The client's own keys for suite 1 (JSON): signing_key_pem, agreement_key_pem, certificates_pem.",
    ),
]
PhysicalOption = Annotated[
    int, typer.Option("--physical", min=0, max=0x3FFF, help="The meter's lower HDLC address; 0: it has none.")
]
TimeoutOption = Annotated[float, typer.Option("--timeout", metavar="S", min=0.1, help="Seconds to wait for an answer.")]
JsonOption = Annotated[bool, typer.Option("--json", help="The result as JSON on stdout.")]
ObisArgument = Annotated[list[str], typer.Argument(metavar="OBIS…", help="Such as 1-0:1.8.0*255 or 1.0.1.8.0.255")]

dlms = typer.Typer(help="Read a meter as a DLMS/COSEM client.", no_args_is_help=True)


@dlms.command()
def read(
    address: Address,
    role: AssociationOption = None,
    keys: KeysOption = None,
    client_keys: ClientKeysOption = None,
    physical: PhysicalOption = 17,
    timeout_s: TimeoutOption = 5.0,
    as_json: JsonOption = False,
) -> None:
    """Everything that has one value: identity, clock, registers."""
    from twin.dlms_client.values import READABLE, readable

    async def work(connection: Connection) -> list[Value]:
        listed = readable(await _object_list(connection), READABLE)
        return await _values(connection, [(item.class_id, item.obis, 2) for item in listed])

    _show_values(_converse(_options(address, role, keys, client_keys, physical, timeout_s), work), as_json)


@dlms.command()
def objects(
    address: Address,
    role: AssociationOption = None,
    keys: KeysOption = None,
    client_keys: ClientKeysOption = None,
    physical: PhysicalOption = 17,
    timeout_s: TimeoutOption = 5.0,
    as_json: JsonOption = False,
) -> None:
    """The objects that the association shows, with its rights."""
    found = _converse(_options(address, role, keys, client_keys, physical, timeout_s), _object_list)
    if as_json:
        _write_json([_object_json(item) for item in found])
        return
    rows = [
        [str(item.obis), item.class_id, item.version, _name(item), _attributes(item), _methods(item)] for item in found
    ]
    _table(["OBIS", "class", "version", "what", "attributes", "methods"], rows)


@dlms.command()
def get(
    address: Address,
    obis: ObisArgument,
    attribute: Annotated[int, typer.Option("--attribute", min=1, max=127, help="Which attribute.")] = 2,
    role: AssociationOption = None,
    keys: KeysOption = None,
    client_keys: ClientKeysOption = None,
    physical: PhysicalOption = 17,
    timeout_s: TimeoutOption = 5.0,
    as_json: JsonOption = False,
) -> None:
    """One attribute of each object. Ends with 1 if one of them cannot be read."""
    wanted = [_obis(text) for text in obis]

    async def work(connection: Connection) -> list[Value]:
        classes = {item.obis: item.class_id for item in await _object_list(connection)}
        known = [(classes[code], code, attribute) for code in wanted if code in classes]
        return _in_order(wanted, attribute, await _values(connection, known))

    _show_values(_converse(_options(address, role, keys, client_keys, physical, timeout_s), work), as_json)


@dlms.command()
def profile(
    address: Address,
    obis: Annotated[str, typer.Argument(metavar="OBIS", help="The profile, such as 1-0:99.1.0*255")],
    begin: Annotated[
        str | None, typer.Option("--from", metavar="TIME", help="First time, ISO 8601; UTC unless it says otherwise.")
    ] = None,
    end: Annotated[str | None, typer.Option("--to", metavar="TIME", help="Last time, likewise.")] = None,
    role: AssociationOption = None,
    keys: KeysOption = None,
    client_keys: ClientKeysOption = None,
    physical: PhysicalOption = 17,
    timeout_s: TimeoutOption = 5.0,
    as_json: JsonOption = False,
) -> None:
    """A profile (load profile, event log) as a table, whole or by range."""
    from protocols.dlms.reading import read_profile

    code, selector = _obis(obis), _range(begin, end)
    found = _converse(
        _options(address, role, keys, client_keys, physical, timeout_s),
        lambda connection: connection.run(read_profile(connection.client, code, selector)),
    )
    _show_profile(found, as_json)


# what all of them do


def _options(
    address: str, role: str | None, keys: Path | None, client_keys: Path | None, physical: int, timeout_s: float
) -> ClientOptions:
    from meters.keys import MeterKeys
    from protocols.errors import BadInputError
    from twin.dlms_client.connection import ClientOptions, Role, load_identity, parse_address

    meter_keys = None if keys is None else MeterKeys.load(keys)
    if role is None:
        role = Role.READER if meter_keys is not None and meter_keys.reader_secret else Role.PUBLIC
    if role not in list(Role):
        raise BadInputError(f"{role!r} is none of {', '.join(Role)}", key="--as")
    identity = None if client_keys is None else load_identity(client_keys)
    return ClientOptions(parse_address(address), Role(role), meter_keys, identity, physical, timeout_s)


def _converse(options: ClientOptions, work: Callable[[Connection], Awaitable[T]]) -> T:
    """Associate, do the work, release."""
    from twin.clock.clocks import RealClock
    from twin.dlms_client.connection import connected

    clock = RealClock()

    async def run() -> T:
        async with connected(options, clock) as connection:
            return await work(connection)

    with people().status(f"{options.address.text} as {options.role}"):
        return clock.run(run())


async def _object_list(connection: Connection) -> tuple[ObjectListElement, ...]:
    from protocols.dlms.reading import discover

    return await connection.run(discover(connection.client))


async def _values(connection: Connection, wanted: list[tuple[int, ObisCode, int]]) -> list[Value]:
    from twin.dlms_client.values import read_values

    return await connection.run(read_values(connection.client, wanted))


def _in_order(wanted: list[ObisCode], attribute: int, values: list[Value]) -> list[Value]:
    """What was asked for, in that order; what the association does not show is among it as an error."""
    from twin.dlms_client.values import Value

    found = {value.obis: value for value in values}
    return [found.get(code) or Value(code, 0, attribute, error="not in the object list") for code in wanted]


def _obis(text: str) -> ObisCode:
    from protocols.dlms.obis import ObisCode
    from protocols.errors import BadInputError

    try:
        return ObisCode.parse(text)
    except ValueError as error:
        raise BadInputError(str(error), key="OBIS") from None


def _range(begin: str | None, end: str | None) -> Any:
    """A selection by the clock; None for the whole profile. An end that is left open is far away."""
    from protocols.dlms.data import octet_string
    from protocols.dlms.date_time import DateTime
    from protocols.dlms.obis import ObisCode
    from protocols.dlms.selective import CaptureObject, RangeDescriptor
    from protocols.errors import BadInputError

    if begin is None and end is None:
        return None
    first = _time("--from", begin) if begin is not None else datetime(2000, 1, 1, tzinfo=UTC)
    last = _time("--to", end) if end is not None else datetime(2099, 12, 31, tzinfo=UTC)
    if first > last:
        raise BadInputError("is before --from", key="--to")
    clock = CaptureObject(8, ObisCode.parse("0-0:1.0.0*255"), 2)
    lower, upper = (octet_string(DateTime.from_utc_s(moment.timestamp()).encode()) for moment in (first, last))
    return RangeDescriptor(clock, lower, upper)


def _time(key: str, text: str) -> datetime:
    from protocols.errors import BadInputError

    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise BadInputError(
            f"{text!r} is no time such as 2026-03-02T17:00 or 2026-03-02T17:00+03:00", key=key
        ) from None
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)


# showing


def _show_values(values: list[Value], as_json: bool) -> None:
    from twin.dlms_client.values import name_of

    if as_json:
        _write_json([value.to_json() for value in values])
    else:
        rows = [[str(item.obis), name_of(item.class_id, item.obis), item.text or f"({item.error})"] for item in values]
        _table(["OBIS", "what", "value"], rows)
    if any(value.error for value in values):
        raise typer.Exit(int(ExitStatus.FAILED))


def _show_profile(found: ProfileTable, as_json: bool) -> None:
    from twin.dlms_client.values import plain, text_of

    heads = [column.captured for column in found.columns]
    units = ["" if column.scaler_unit is None else column.scaler_unit.unit.symbol for column in found.columns]
    if as_json:
        columns = [
            {"obis": str(head.obis), "class_id": head.class_id, "attribute": head.attribute_id, "unit": unit}
            for head, unit in zip(heads, units, strict=True)
        ]
        _write_json({"columns": columns, "rows": [[plain(cell) for cell in row] for row in found.rows]})
        return
    titles = [f"{head.obis}\n{unit}".rstrip() for head, unit in zip(heads, units, strict=True)]
    _table(titles, [[text_of(cell) for cell in row] for row in found.rows])


def _object_json(item: ObjectListElement) -> dict[str, Any]:
    return {
        "obis": str(item.obis),
        "class_id": item.class_id,
        "version": item.version,
        "attributes": [{"attribute": row.attribute_id, "access": int(row.access)} for row in item.attributes],
        "methods": [{"method": row.method_id, "access": int(row.access)} for row in item.methods],
    }


def _name(item: ObjectListElement) -> str:
    from twin.dlms_client.values import name_of

    return name_of(item.class_id, item.obis)


def _attributes(item: ObjectListElement) -> str:
    """Such as `1r 2rw`: what may be read and written."""
    from protocols.dlms.objects import Access

    shown = []
    for row in item.attributes:
        rights = "r" * bool(row.access & Access.READ) + "w" * bool(row.access & Access.WRITE)
        if rights:
            shown.append(f"{row.attribute_id}{rights}")
    return " ".join(shown)


def _methods(item: ObjectListElement) -> str:
    from protocols.dlms.objects import MethodAccess

    return " ".join(str(row.method_id) for row in item.methods if row.access & MethodAccess.INVOKE)


def _table(heads: list[str], rows: list[list[Any]]) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table(header_style="bold")
    for head in heads:
        table.add_column(escape(head), overflow="fold")
    for row in rows:
        table.add_row(*(escape(str(cell)) for cell in row))
    Console(highlight=False).print(table)


def _write_json(document: Any) -> None:
    write_result(json.dumps(document, indent=1, ensure_ascii=False) + "\n")


def register(app: typer.Typer) -> None:
    """Add the verb to the command."""
    app.add_typer(dlms, name="dlms")
