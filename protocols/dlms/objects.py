"""The contract between a COSEM server and its objects.

An interface class is declared as rows of attribute id, type and access; an object answers `read`, `write` and
`invoke`, and raises `AccessDenied` with the standard's result when it cannot. The server checks access rights and
the type of written values before it asks an object, and counts an object's own bugs as `OTHER_REASON`.

    REGISTER = InterfaceClass(
        3, 0, "Register",
        attributes=(Attribute(2, "value"), Attribute(3, "scaler_unit", (Tag.STRUCTURE,))),
        methods=(Method(1, "reset"),),
    )
"""

from __future__ import annotations

import enum
import functools
from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import ClassVar

from protocols.dlms.data import NULL, Data, Readable, Tag, octet_string
from protocols.dlms.enums import ActionResult, DataAccessResult
from protocols.dlms.obis import ObisCode
from protocols.dlms.selective import Selector
from protocols.errors import TwinError


class Access(enum.IntFlag):
    """Access mode of an attribute, bits of `access_mode` of class 15 version 3."""

    NONE = 0
    READ = 0x01
    WRITE = 0x02
    AUTHENTICATED_REQUEST = 0x04
    ENCRYPTED_REQUEST = 0x08
    DIGITALLY_SIGNED_REQUEST = 0x10
    AUTHENTICATED_RESPONSE = 0x20
    ENCRYPTED_RESPONSE = 0x40
    DIGITALLY_SIGNED_RESPONSE = 0x80


class MethodAccess(enum.IntFlag):
    """Access mode of a method, bits of `method_access_mode` of class 15 version 3."""

    NONE = 0
    INVOKE = 0x01
    AUTHENTICATED_REQUEST = 0x04
    ENCRYPTED_REQUEST = 0x08
    DIGITALLY_SIGNED_REQUEST = 0x10
    AUTHENTICATED_RESPONSE = 0x20
    ENCRYPTED_RESPONSE = 0x40
    DIGITALLY_SIGNED_RESPONSE = 0x80


class AccessDenied(TwinError):  # noqa: N818 (the result says what it is)
    """An object cannot do what was asked. `result` goes to the client."""

    def __init__(self, result: DataAccessResult | ActionResult, reason: str = "") -> None:
        super().__init__(reason or result.name)
        self.result = result


@dataclass(frozen=True, slots=True)
class Attribute:
    """One attribute of a class. `tags` are the types that a write may have (any if empty); `selectors` the selective
    access that a read knows: 1 by range, 2 by entry."""

    id: int
    name: str
    tags: tuple[Tag, ...] = ()
    selectors: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Method:
    id: int
    name: str


LOGICAL_NAME = Attribute(1, "logical_name", (Tag.OCTET_STRING,))


@dataclass(frozen=True, slots=True)
class InterfaceClass:
    """A class of IEC 62056-6-2. Attribute 1, the logical name, is added to the declared ones."""

    class_id: int
    version: int
    name: str
    attributes: tuple[Attribute, ...]
    methods: tuple[Method, ...] = ()
    by_id: Mapping[int, Attribute] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        rows = (LOGICAL_NAME, *(row for row in self.attributes if row.id != 1))
        object.__setattr__(self, "attributes", rows)
        object.__setattr__(self, "by_id", {row.id: row for row in rows})


@dataclass(slots=True)
class Caller:
    """Who asks: made once an association, `now` and `age_s` are set by every request.

    `age_s` is how long the request was on its way, as far as its transport can tell; 0 where it cannot.
    `association` is the server's own (`protocols.dlms.server.Association`), for objects of class 15 and 64.
    """

    client_sap: int
    now: float = 0.0
    channel: Hashable = None
    association: object = None
    age_s: float = 0.0


class CosemObject:
    """Base of every object. Subclasses set INTERFACE and answer for attributes 2 and up."""

    INTERFACE: ClassVar[InterfaceClass]
    __slots__ = ("obis",)

    def __init__(self, obis: ObisCode) -> None:
        self.obis = obis

    def read(self, attribute_id: int, selector: Selector | None, caller: Caller) -> Readable:
        """The value of an attribute from 2 up. Raises AccessDenied.

        `selector` is a RawSelector, and only given where INTERFACE declares it: `selective.profile_selector` reads it.
        """
        raise AccessDenied(DataAccessResult.OBJECT_UNAVAILABLE)

    def write(self, attribute_id: int, value: Data, caller: Caller) -> None:
        """Take a new value, of a declared type. Raises AccessDenied."""
        raise AccessDenied(DataAccessResult.READ_WRITE_DENIED)

    def invoke(self, method_id: int, argument: Data, caller: Caller) -> Data | None:
        """Run a method; `argument` is null data if the client sent none. Raises AccessDenied (ActionResult)."""
        raise AccessDenied(ActionResult.OBJECT_UNAVAILABLE)

    @property
    def key(self) -> bytes:
        return object_key(self.INTERFACE.class_id, self.obis)

    def logical_name(self) -> Data:
        return octet_string(bytes(self.obis))


@functools.lru_cache(maxsize=4096)
def object_key(class_id: int, obis: bytes) -> bytes:
    """Class id and logical name as they stand in an APDU: 8 bytes, the key of every table of objects.

    The same bytes object for all meters of a model.
    """
    return class_id.to_bytes(2, "big") + obis


@dataclass(frozen=True, slots=True)
class ObjectAccess:
    """Rights of one association to one object, by attribute and method id. What is not there is denied."""

    attributes: Mapping[int, int]
    """Of Access."""
    methods: Mapping[int, int] = field(default_factory=dict)
    """Of MethodAccess."""

    def __post_init__(self) -> None:
        # plain integers: an IntFlag's operators cost a microsecond each, and every request needs them
        object.__setattr__(self, "attributes", {key: int(mode) for key, mode in self.attributes.items()})
        object.__setattr__(self, "methods", {key: int(mode) for key, mode in self.methods.items()})


AccessTable = Mapping[bytes, ObjectAccess]
"""Rights of one association, by `object_key`: an object that is not in it does not exist there.

The same table serves every meter of a model.
"""


def full_access(objects: Iterable[CosemObject]) -> dict[bytes, ObjectAccess]:
    """A table that allows everything to everyone: for tests and laboratory meters."""
    both = Access.READ | Access.WRITE
    return {
        item.key: ObjectAccess(
            {row.id: Access.READ if row.id == 1 else both for row in item.INTERFACE.attributes},
            {row.id: MethodAccess.INVOKE for row in item.INTERFACE.methods},
        )
        for item in objects
    }


__all__ = [
    "NULL",
    "Access",
    "AccessDenied",
    "AccessTable",
    "Attribute",
    "Caller",
    "CosemObject",
    "InterfaceClass",
    "Method",
    "MethodAccess",
    "ObjectAccess",
    "Selector",
    "full_access",
    "object_key",
]
