"""JSON-RPC 2.0 beside a meter that runs by itself: the bench's verbs for a test in another process.

One request a line over TCP, one answer a line. `verbs` lists what there is. It has nothing to do with the meter's own
ports, and whoever reaches it can do what a hand at the meter can: listen on loopback.
"""

from __future__ import annotations

import asyncio
import json
import logging
from typing import Any, cast

from protocols.errors import BadInputError, TwinError
from twin.errors import RigError
from twin.rigs.bench_verbs import Bench, VerbError, verbs
from twin.rigs.meter_ports import ListenAddress, OpenPort

logger = logging.getLogger(__name__)

_LONGEST_LINE_BYTES = 65_536
PARSE_ERROR, INVALID_REQUEST, METHOD_NOT_FOUND, INVALID_PARAMS, FAILED = -32700, -32600, -32601, -32602, -32000


class RpcError(TwinError):
    """A request that is answered with an error: its code and message."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


class BenchRpc:
    """Answers requests about one meter. Never raises on anything that a peer may send."""

    def __init__(self, bench: Bench) -> None:
        self._bench = bench

    def answer(self, line: bytes) -> bytes | None:
        """The answer to one line (or a batch in one line), None where none is wanted."""
        try:
            request = json.loads(line)
        except (ValueError, RecursionError):
            return _line(_error(None, RpcError(PARSE_ERROR, "not JSON")))
        if isinstance(request, list) and request:
            answers = [found for item in request if (found := self._one(item)) is not None]
            return _line(answers) if answers else None
        found = self._one(request)
        return None if found is None else _line(found)

    def _one(self, request: object) -> dict[str, Any] | None:
        identifier = request.get("id") if isinstance(request, dict) else None
        try:
            if not isinstance(request, dict) or request.get("jsonrpc") != "2.0":
                raise RpcError(INVALID_REQUEST, 'a request is an object with "jsonrpc": "2.0"')
            method, values = request.get("method"), request.get("params", {})
            if not isinstance(method, str) or not isinstance(values, dict | list):
                raise RpcError(INVALID_REQUEST, "method is a text, params an object or a list")
            result = self._call(method, values)
        except RpcError as error:
            return _error(identifier, error)
        if "id" not in request:
            return None
        return {"jsonrpc": "2.0", "id": identifier, "result": result}

    def _call(self, method: str, values: dict[str, object] | list[object]) -> object:
        if method == "verbs":
            return [verb.describe() for verb in verbs().values()]
        verb = verbs().get(method)
        if verb is None:
            raise RpcError(METHOD_NOT_FOUND, f"no verb {method!r}; `verbs` lists those that there are")
        try:
            return verb.run(self._bench, values)
        except VerbError as error:
            raise RpcError(INVALID_PARAMS, str(error)) from None
        except TwinError as error:
            raise RpcError(FAILED, str(error)) from None


class _Connection(asyncio.Protocol):
    def __init__(self, rpc: BenchRpc, standing: set[asyncio.Transport]) -> None:
        self._rpc = rpc
        self._standing = standing
        self._buffer = b""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._standing.add(self._transport)

    def data_received(self, data: bytes) -> None:
        transport = self._transport
        if transport is None:
            return
        *lines, self._buffer = (self._buffer + data).split(b"\n")
        for line in lines:
            if line.strip() and (answer := self._rpc.answer(line)) is not None:
                transport.write(answer)
        if len(self._buffer) > _LONGEST_LINE_BYTES:
            logger.warning("%s: a line without end; closed", transport.get_extra_info("peername"))
            transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._transport is not None:
            self._standing.discard(self._transport)
        self._transport = None


def bench_address(text: str) -> ListenAddress:
    """Raises BadInputError if `text` is not `tcp://HOST:PORT`."""
    try:
        address = ListenAddress.parse(text)
    except BadInputError:
        address = None
    if address is None or address.scheme != "tcp":
        raise BadInputError(f"{text!r} is not tcp://HOST:PORT", key="--bench")
    return address


async def open_bench(address: ListenAddress, bench: Bench) -> OpenPort:
    """Listen. Raises RigError if the address cannot be used."""
    rpc, standing = BenchRpc(bench), set[asyncio.Transport]()
    try:
        server = await asyncio.get_running_loop().create_server(
            lambda: _Connection(rpc, standing), address.host, address.port
        )
    except OSError as error:
        raise RigError(f"cannot listen on {address}: {error.strerror}") from error

    async def close() -> None:
        server.close()
        for transport in tuple(standing):
            transport.abort()

    host, port = server.sockets[0].getsockname()[:2]
    return OpenPort(ListenAddress("tcp", host, port), close)


def _error(identifier: object, error: RpcError) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": identifier, "error": {"code": error.code, "message": str(error)}}


def _line(answer: object) -> bytes:
    return json.dumps(answer).encode() + b"\n"
