"""Image transfer: class 18."""

from __future__ import annotations

from meters.firmware.calendar import fields
from meters.firmware.image_update import BLOCK_BYTES, ImageRefused, ImageUpdate
from meters.firmware.objects.classes import IMAGE_TRANSFER
from protocols.dlms.data import (
    Data,
    Readable,
    Tag,
    array,
    bit_string,
    boolean,
    double_long_unsigned,
    enumerated,
    octet_string,
    structure,
)
from protocols.dlms.enums import ActionResult, DataAccessResult
from protocols.dlms.obis import ObisCode
from protocols.dlms.objects import AccessDenied, Caller, CosemObject
from protocols.dlms.selective import Selector
from protocols.errors import RemoteProtocolError


class ImageTransferObject(CosemObject):
    """New firmware in blocks: initiate, transfer, verify, activate."""

    INTERFACE = IMAGE_TRANSFER
    __slots__ = ("_update",)

    def __init__(self, obis: ObisCode, update: ImageUpdate) -> None:
        super().__init__(obis)
        self._update = update

    def read(self, attribute_id: int, selector: Selector | None, caller: Caller) -> Readable:
        update, staging = self._update, self._update.staging
        if attribute_id == 2:
            return double_long_unsigned(BLOCK_BYTES)
        if attribute_id == 3:
            return bit_string("" if staging is None else staging.bits())
        if attribute_id == 4:
            return double_long_unsigned(0 if staging is None else staging.first_missing)
        if attribute_id == 5:
            return boolean(update.enabled)
        if attribute_id == 6:
            return enumerated(update.status)
        return self._to_activate()

    def write(self, attribute_id: int, value: Data, caller: Caller) -> None:
        if attribute_id != 5:
            raise AccessDenied(DataAccessResult.READ_WRITE_DENIED)
        self._update.enable(bool(value.value))

    def invoke(self, method_id: int, argument: Data, caller: Caller) -> Data | None:
        try:
            if method_id == 1:
                self._update.initiate(*fields(argument, Tag.OCTET_STRING, Tag.DOUBLE_LONG_UNSIGNED))
            elif method_id == 2:
                self._update.take_block(*fields(argument, Tag.DOUBLE_LONG_UNSIGNED, Tag.OCTET_STRING))
            elif method_id == 3:
                self._update.verify()
            else:
                self._update.activate()
        except RemoteProtocolError as error:
            raise AccessDenied(ActionResult.TYPE_UNMATCHED, str(error)) from None
        except ImageRefused as refusal:
            raise AccessDenied(ActionResult.OTHER_REASON, str(refusal)) from None
        return None

    def _to_activate(self) -> Data:
        file = self._update.staged()
        if file is None:
            return array(())
        identification = file.manifest.identification.encode("ascii")
        size = double_long_unsigned(len(file.encode()))
        return array((structure(size, octet_string(identification), octet_string(file.head.signature)),))
