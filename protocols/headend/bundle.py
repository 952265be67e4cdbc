"""A bundle as bytes: canonical JSON under gzip (RFC 1952), the same bytes for the same content whenever it is made."""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Iterator

from protocols.errors import LocalProtocolError, RemoteProtocolError
from protocols.headend.bulk import MAX_BUNDLE_BYTES, MAX_PART_BYTES, Bundle, BundlePart
from protocols.headend.json_text import decode_json, encode_json
from protocols.headend.shapes import decode_object, encode_object

MAX_CONTENT_BYTES = 16 * MAX_BUNDLE_BYTES
"""Of the JSON inside: what unpacks to more is refused, not unpacked."""
_SPEC = "RFC 1952"
_HEADER = bytes.fromhex("1f8b0800000000000003")
"""Deflate, no name, no time stamp, Unix: the header that a reproducible build has."""
_LEVEL = 6


def pack_bundle(bundle: Bundle) -> bytes:
    """Raises LocalProtocolError when the bundle breaks its own schema or is too big."""
    body = encode_object(bundle)
    try:
        decode_object(Bundle, body, "").check()
    except RemoteProtocolError as error:
        raise LocalProtocolError(f"bundle: {error}") from None
    content = encode_json(body)
    deflate = zlib.compressobj(_LEVEL, zlib.DEFLATED, -zlib.MAX_WBITS)
    packed = deflate.compress(content) + deflate.flush()
    trailer = zlib.crc32(content).to_bytes(4, "little") + (len(content) & 0xFFFFFFFF).to_bytes(4, "little")
    data = _HEADER + packed + trailer
    if len(data) > MAX_BUNDLE_BYTES or len(content) > MAX_CONTENT_BYTES:
        raise LocalProtocolError(f"a bundle of {len(data)} bytes, at most {MAX_BUNDLE_BYTES} are allowed")
    return data


def unpack_bundle(data: bytes) -> Bundle:
    """Raises RemoteProtocolError for anything that `pack_bundle` would not have made of some bundle."""
    inflate = zlib.decompressobj(16 + zlib.MAX_WBITS)
    try:
        content = inflate.decompress(data, MAX_CONTENT_BYTES)
    except zlib.error as error:
        raise RemoteProtocolError(f"not gzip: {error}", spec=_SPEC) from None
    if not inflate.eof or inflate.unused_data:
        raise RemoteProtocolError("gzip that does not end where it should, or holds too much", spec=_SPEC)
    bundle = decode_object(Bundle, decode_json(content, MAX_CONTENT_BYTES), "")
    bundle.check()
    return bundle


def split_bundle(bundle_id: str, data: bytes) -> Iterator[BundlePart]:
    """The parts in which a packed bundle travels."""
    digest = hashlib.sha256(data).digest()
    count = -(-len(data) // MAX_PART_BYTES)
    for number in range(1, count + 1):
        part = data[(number - 1) * MAX_PART_BYTES : number * MAX_PART_BYTES]
        yield BundlePart(bundle_id, number, count, len(data), digest, part)
