"""Association LN and SAP assignment: classes 15 and 17."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from meters.firmware.objects.classes import ASSOCIATION_LN, SAP_ASSIGNMENT
from meters.firmware.objects.group_security import GROUP_SECURITY_SETUP
from protocols.dlms.data import (
    Data,
    Encoded,
    Readable,
    Tag,
    array,
    bit_string,
    encode,
    encode_length,
    enumerated,
    integer,
    long_unsigned,
    octet_string,
    structure,
    unsigned,
    visible_string,
)
from protocols.dlms.enums import ActionResult, ContextName, DataAccessResult
from protocols.dlms.obis import ObisCode
from protocols.dlms.objects import AccessDenied, AccessTable, Caller, CosemObject, InterfaceClass, object_key
from protocols.dlms.selective import RawSelector, Selector
from protocols.dlms.server import Association, AssociationConfig

_CONTEXT_NAME = bytes.fromhex("608574050801")
_MECHANISM_NAME = bytes.fromhex("608574050802")
_DLMS_VERSION = 6
SECURITY_SETUP = ObisCode.parse("0-0:43.0.0*255")
_ASSOCIATED = 2
_NO_USER = structure(unsigned(0), visible_string(""))
_SECRET_BYTES = range(1, 65)

ListedObject = tuple[InterfaceClass, ObisCode]


def object_list_element(interface: InterfaceClass, obis: ObisCode, access: AccessTable) -> bytes:
    """A-XDR of one `object_list_element` with the rights that `access` gives."""
    rights = access[object_key(interface.class_id, obis)]
    attributes = array(
        structure(
            integer(row.id),
            enumerated(rights.attributes.get(row.id, 0)),
            array(integer(selector) for selector in row.selectors) if row.selectors else Data(Tag.NULL, None),
        )
        for row in interface.attributes
    )
    methods = array(structure(integer(row.id), enumerated(rights.methods.get(row.id, 0))) for row in interface.methods)
    return encode(
        structure(
            long_unsigned(interface.class_id),
            unsigned(interface.version),
            octet_string(bytes(obis)),
            structure(attributes, methods),
        )
    )


class ObjectList:
    """The object_list of one association, encoded once and shared by all meters of a model."""

    __slots__ = ("_elements", "whole")

    def __init__(self, objects: tuple[ListedObject, ...], access: AccessTable) -> None:
        seen = [item for item in objects if object_key(item[0].class_id, item[1]) in access]
        self._elements = {
            object_key(interface.class_id, obis): object_list_element(interface, obis, access)
            for interface, obis in seen
        }
        self.whole = self._encode(list(self._elements.values()))

    @staticmethod
    def _encode(elements: list[bytes]) -> Encoded:
        return Encoded(bytes((Tag.ARRAY,)) + encode_length(len(elements)) + b"".join(elements))

    def of_classes(self, class_ids: set[int]) -> Encoded:
        """The part with these classes (selector 2)."""
        return self._encode([raw for key, raw in self._elements.items() if int.from_bytes(key[:2], "big") in class_ids])

    def of_objects(self, keys: set[bytes]) -> Encoded:
        """The part with these objects (selector 3)."""
        return self._encode([raw for key, raw in self._elements.items() if key in keys])


class AssociationObject(CosemObject):
    """Class 15. `instance` 0 shows the association through which it is read, others always their own.

    `change_secret` keeps a new secret in flash. Replies to HLS challenges are the server's own work.
    """

    INTERFACE = ASSOCIATION_LN
    __slots__ = ("_associations", "_change_secret", "_has_group_setup", "_instance", "_object_lists", "_server_sap")

    def __init__(
        self,
        obis: ObisCode,
        instance: int,
        associations: Mapping[int, Association],
        object_lists: Mapping[int, ObjectList],
        change_secret: Callable[[Association, bytes], None],
        *,
        server_sap: int = 1,
        has_group_setup: bool = False,
    ) -> None:
        super().__init__(obis)
        self._has_group_setup = has_group_setup
        self._instance = instance
        self._associations = associations
        self._object_lists = object_lists
        self._change_secret = change_secret
        self._server_sap = server_sap

    def read(self, attribute_id: int, selector: Selector | None, caller: Caller) -> Readable:
        association = self._association(caller)
        config = association.config
        if attribute_id == 2:
            return self._object_list(self._object_lists[config.instance], selector)
        if attribute_id == 3:
            return structure(integer(config.client_sap), long_unsigned(self._server_sap))
        if attribute_id == 4:
            context = ContextName.LN_CIPHERED if config.ciphered else ContextName.LN
            return octet_string(_CONTEXT_NAME + bytes((context,)))
        if attribute_id == 5:
            return self._context_info(association)
        if attribute_id == 6:
            return octet_string(_MECHANISM_NAME + bytes((config.mechanism,)))
        if attribute_id == 8:
            return enumerated(_ASSOCIATED if association is caller.association else 0)
        if attribute_id == 9:
            return octet_string(self._security_setup(config))
        if attribute_id == 10:
            return array(())
        if attribute_id == 11:
            return _NO_USER
        # The secret can be written, never read.
        raise AccessDenied(DataAccessResult.READ_WRITE_DENIED)

    def write(self, attribute_id: int, value: Data, caller: Caller) -> None:
        if attribute_id != 7:
            raise AccessDenied(DataAccessResult.READ_WRITE_DENIED)
        if len(value.value) not in _SECRET_BYTES:
            raise AccessDenied(DataAccessResult.OTHER_REASON, "a secret has 1 to 64 bytes")
        self._change_secret(self._association(caller), value.value)

    def invoke(self, method_id: int, argument: Data, caller: Caller) -> Data | None:
        raise AccessDenied(ActionResult.READ_WRITE_DENIED)

    def _association(self, caller: Caller) -> Association:
        if self._instance:
            association = self._associations.get(self._instance)
            if association is None:
                raise AccessDenied(DataAccessResult.OBJECT_UNAVAILABLE, "this meter does not offer it")
            return association
        if not isinstance(caller.association, Association):
            raise AccessDenied(DataAccessResult.OBJECT_UNAVAILABLE)
        return caller.association

    def _security_setup(self, config: AssociationConfig) -> bytes:
        if not config.ciphered:
            return bytes(6)
        return bytes(GROUP_SECURITY_SETUP if config.pre_established and self._has_group_setup else SECURITY_SETUP)

    def _context_info(self, association: Association) -> Data:
        config = association.config
        return structure(
            bit_string(f"{int(config.conformance):024b}"),
            long_unsigned(config.max_receive_pdu_bytes),
            long_unsigned(config.max_receive_pdu_bytes),
            unsigned(_DLMS_VERSION),
            integer(0),
            octet_string(b""),
        )

    @staticmethod
    def _object_list(objects: ObjectList, selector: Selector | None) -> Readable:
        if selector is None or (isinstance(selector, RawSelector) and selector.selector_id == 1):
            return objects.whole
        if not isinstance(selector, RawSelector):
            raise AccessDenied(DataAccessResult.SCOPE_OF_ACCESS_VIOLATED)
        data = selector.data
        if selector.selector_id == 2 and data.tag == Tag.ARRAY:
            return objects.of_classes({int(item.value) for item in data.value if item.tag == Tag.LONG_UNSIGNED})
        if selector.selector_id == 3 and data.tag == Tag.ARRAY:
            return objects.of_objects({_object_id(item) for item in data.value})
        raise AccessDenied(DataAccessResult.SCOPE_OF_ACCESS_VIOLATED)


def _object_id(item: Data) -> bytes:
    tags = [part.tag for part in item.value] if item.tag == Tag.STRUCTURE else []
    if tags != [Tag.LONG_UNSIGNED, Tag.OCTET_STRING]:
        raise AccessDenied(DataAccessResult.TYPE_UNMATCHED)
    class_id, obis = item.value
    return object_key(class_id.value, obis.value)


class SapAssignmentObject(CosemObject):
    """Class 17: the one logical device of this meter."""

    INTERFACE = SAP_ASSIGNMENT
    __slots__ = ("_name", "_server_sap")

    def __init__(self, obis: ObisCode, logical_device_name: bytes, *, server_sap: int = 1) -> None:
        super().__init__(obis)
        self._name = logical_device_name
        self._server_sap = server_sap

    def read(self, attribute_id: int, selector: Selector | None, caller: Caller) -> Readable:
        return array((structure(long_unsigned(self._server_sap), octet_string(self._name)),))
