"""`object_list` of an association: what a client may know and touch (IEC 62056-6-2, class 15)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from protocols.dlms.data import NULL, Data, Tag, array, enumerated, integer, long_unsigned, octet_string, structure
from protocols.dlms.data import unsigned as unsigned_data
from protocols.dlms.obis import ObisCode
from protocols.dlms.objects import Access, MethodAccess
from protocols.errors import RemoteProtocolError

_SPEC = "IEC 62056-6-2, class 15"
_BITS_VERSION = 3
"""From this version of class 15 on, access modes are bits; before, they are an enumeration."""

_OLD_MODES = (
    Access.NONE,
    Access.READ,
    Access.WRITE,
    Access.READ | Access.WRITE,
    Access.READ | Access.AUTHENTICATED_REQUEST,
    Access.WRITE | Access.AUTHENTICATED_REQUEST,
    Access.READ | Access.WRITE | Access.AUTHENTICATED_REQUEST,
)
_OLD_METHOD_MODES = (
    MethodAccess.NONE,
    MethodAccess.INVOKE,
    MethodAccess.INVOKE | MethodAccess.AUTHENTICATED_REQUEST,
)


def access_mode(access: int, version: int) -> int:
    """An attribute's mode as class 15 of this version writes it: what the enumeration cannot say is left out."""
    if version >= _BITS_VERSION:
        return access
    kept = access & (Access.READ | Access.WRITE | Access.AUTHENTICATED_REQUEST).value
    return next((mode for mode, known in enumerate(_OLD_MODES) if known == kept), 0)


def method_access_mode(access: int, version: int) -> int:
    """A method's mode likewise."""
    if version >= _BITS_VERSION:
        return access
    kept = access & (MethodAccess.INVOKE | MethodAccess.AUTHENTICATED_REQUEST).value
    return next((mode for mode, known in enumerate(_OLD_METHOD_MODES) if known == kept), 0)


@dataclass(frozen=True, slots=True)
class AttributeRights:
    attribute_id: int
    access: Access
    selectors: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class MethodRights:
    method_id: int
    access: MethodAccess


@dataclass(frozen=True, slots=True)
class ObjectListElement:
    """One object with the rights of the association that shows it."""

    class_id: int
    version: int
    obis: ObisCode
    attributes: tuple[AttributeRights, ...] = field(default=())
    methods: tuple[MethodRights, ...] = field(default=())

    def to_data(self, association_version: int) -> Data:
        attributes = array(
            structure(
                integer(item.attribute_id),
                enumerated(access_mode(int(item.access), association_version)),
                array(integer(selector) for selector in item.selectors) if item.selectors else NULL,
            )
            for item in self.attributes
        )
        methods = array(
            structure(integer(item.method_id), enumerated(method_access_mode(int(item.access), association_version)))
            for item in self.methods
        )
        return structure(
            long_unsigned(self.class_id),
            unsigned_data(self.version),
            octet_string(bytes(self.obis)),
            structure(attributes, methods),
        )

    @classmethod
    def from_data(cls, data: Data, association_version: int) -> ObjectListElement:
        """Raises RemoteProtocolError if `data` is not an object_list_element."""
        class_id, version, name, rights = _parts(data, 4)
        attributes, methods = _parts(rights, 2)
        obis = _value(name, Tag.OCTET_STRING)
        if len(obis) != 6:
            raise RemoteProtocolError(f"a logical name of {len(obis)} bytes", spec=_SPEC)
        return cls(
            _value(class_id, Tag.LONG_UNSIGNED),
            _value(version, Tag.UNSIGNED),
            ObisCode(obis),
            tuple(_attribute(item, association_version) for item in _value(attributes, Tag.ARRAY)),
            tuple(_method(item, association_version) for item in _value(methods, Tag.ARRAY)),
        )


def decode_object_list(data: Data, association_version: int) -> tuple[ObjectListElement, ...]:
    """The whole attribute. Raises RemoteProtocolError if it is malformed."""
    return tuple(ObjectListElement.from_data(item, association_version) for item in _value(data, Tag.ARRAY))


def _parts(data: Data, count: int) -> tuple[Data, ...]:
    if data.tag != Tag.STRUCTURE or len(data.value) != count:
        raise RemoteProtocolError(f"{data!r} is not a structure of {count}", spec=_SPEC)
    return tuple(data.value)


def _value(data: Data, tag: Tag) -> Any:
    if data.tag != tag:
        raise RemoteProtocolError(f"{data!r} is not {tag.name.lower()}", spec=_SPEC)
    return data.value


def _attribute(data: Data, version: int) -> AttributeRights:
    attribute_id, mode, selectors = _parts(data, 3)
    value = _mode(mode, len(_OLD_MODES), version)
    access = Access(value & 0xFF) if version >= _BITS_VERSION else _OLD_MODES[value]
    known = () if selectors.tag == Tag.NULL else tuple(item.value for item in _value(selectors, Tag.ARRAY))
    return AttributeRights(_value(attribute_id, Tag.INTEGER), access, known)


def _method(data: Data, version: int) -> MethodRights:
    method_id, mode = _parts(data, 2)
    if mode.tag == Tag.BOOLEAN:  # class 15 version 0
        return MethodRights(_value(method_id, Tag.INTEGER), MethodAccess(int(mode.value)))
    value = _mode(mode, len(_OLD_METHOD_MODES), version)
    access = MethodAccess(value & 0xFF) if version >= _BITS_VERSION else _OLD_METHOD_MODES[value]
    return MethodRights(_value(method_id, Tag.INTEGER), access)


def _mode(data: Data, modes: int, version: int) -> int:
    value: int = _value(data, Tag.ENUM)
    if version < _BITS_VERSION and value >= modes:
        raise RemoteProtocolError(f"access mode {value}", spec=_SPEC)
    return value
