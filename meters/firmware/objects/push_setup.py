"""Push setup: class 40."""

from __future__ import annotations

from meters.firmware.objects.classes import PUSH_SETUP
from meters.firmware.push import Pusher
from protocols.dlms.data import Data, Readable, array, enumerated, long_unsigned, octet_string, structure, unsigned
from protocols.dlms.enums import ActionResult, DataAccessResult
from protocols.dlms.obis import ObisCode
from protocols.dlms.objects import AccessDenied, Caller, CosemObject
from protocols.dlms.selective import Selector

_UDP = 1
_XDLMS_APDU = 0
_NAMES = {5: "randomisation_s", 6: "retries", 7: "repetition_s"}


class PushSetupObject(CosemObject):
    """What is pushed to the concentrator over UDP, how spread out, and how often it is tried."""

    INTERFACE = PUSH_SETUP
    __slots__ = ("_pusher",)

    def __init__(self, obis: ObisCode, pusher: Pusher) -> None:
        super().__init__(obis)
        self._pusher = pusher

    def read(self, attribute_id: int, selector: Selector | None, caller: Caller) -> Readable:
        settings = self._pusher.settings
        values: dict[int, Data] = {
            2: array(item.to_data() for item in self._pusher.objects),
            # No address is set: the destination is the root of the mesh.
            3: structure(enumerated(_UDP), octet_string(b""), enumerated(_XDLMS_APDU)),
            4: array(()),
            5: long_unsigned(settings.randomisation_s),
            6: unsigned(settings.retries),
            7: long_unsigned(settings.repetition_s),
        }
        return values[attribute_id]

    def write(self, attribute_id: int, value: Data, caller: Caller) -> None:
        if attribute_id not in _NAMES:
            raise AccessDenied(DataAccessResult.READ_WRITE_DENIED)
        self._pusher.configure(**{_NAMES[attribute_id]: value.value})

    def invoke(self, method_id: int, argument: Data, caller: Caller) -> Data | None:
        if not self._pusher.push():
            raise AccessDenied(ActionResult.TEMPORARY_FAILURE, "there is nowhere to push to")
        return None
