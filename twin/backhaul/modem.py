"""An emulated modem with two SIM slots: AT commands on its line, networks around it, and the verbs of a bench.

The networks decide what the cellular link is: down without a registered SIM and an active context, otherwise with the
profile of the technology that the modem is registered on.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from protocols.at import (
    AccessTechnology,
    EquipmentError,
    Final,
    LineStream,
    Operator,
    Registration,
    RegistrationStatus,
    SignalQuality,
    SimState,
    Technology,
    WirelessService,
    encode_line,
    fields_of,
)
from protocols.errors import BadInputError, RemoteProtocolError
from protocols.ports import ByteLink, Cancellable, Timers, Trace
from twin.backhaul.link import Backhaul

LEAST_RSS_DBM = -105
"""Below it a modem does not use a network."""
_ANSWER_S = 0.02
_REGISTER_S = 4.0
_HANDOVER_S = 1.5
_CONTEXT_S = 1.0
_PIN_TRIES = 3
_ACCESS = {
    Technology.G4: AccessTechnology.E_UTRAN,
    Technology.G3: AccessTechnology.UTRAN_HSPA,
    Technology.G2: AccessTechnology.GSM_EGPRS,
}


@dataclass(slots=True)
class SimCard:
    """A card and the network that its contract belongs to. `rss_dbm` is what the antenna gets of each technology.

    `dead` names technologies that register and carry nothing; `pin` is asked for if there is one.
    """

    operator: str
    pin: str | None = field(default=None, repr=False)
    rss_dbm: dict[Technology, int] = field(
        default_factory=lambda: {Technology.G4: -77, Technology.G3: -81, Technology.G2: -71}
    )
    dead: set[Technology] = field(default_factory=set)
    is_present: bool = True
    tries_left: int = _PIN_TRIES


class ModemLine:
    """The modem's serial line as the concentrator's end sees it."""

    def __init__(self, take: Callable[[bytes], None]) -> None:
        self._take = take
        self._receiver: Callable[[bytes], None] | None = None

    def write(self, data: bytes) -> None:
        self._take(data)

    def on_data(self, callback: Callable[[bytes], None]) -> None:
        self._receiver = callback

    def deliver(self, data: bytes) -> None:
        if self._receiver is not None:
            self._receiver(data)


class Modem:
    """Powered from the start. `line` is what a concentrator is connected to; `link` is the way that the modem opens.

    Slots count from 0.
    """

    def __init__(
        self, timers: Timers, link: Backhaul, sims: tuple[SimCard, SimCard] | None = None, *, trace: Trace | None = None
    ) -> None:
        self._timers = timers
        self._link = link
        self._trace = trace
        self._sims = sims or (SimCard("Safaricom"), SimCard("Airtel"))
        self._slot = 0
        self._is_on = True
        self._hangs = False
        self._stream = LineStream(self._command)
        self._line = ModemLine(self._received)
        self._reset()
        self._update_link()

    def _reset(self) -> None:
        """As after power-up."""
        self._echo = True
        self._numeric_errors = False
        self._report_mode = {"+CREG": 0, "+CEREG": 0}
        self._reports_events = False
        self._radio_on = True
        self._allowed = WirelessService.ANY
        self._unlocked = False
        self._access: Technology | None = None
        self._context = False
        self._apn = ""
        self._change: Cancellable | None = None
        self._look_for_network()

    # for benches and pictures

    @property
    def line(self) -> ByteLink:
        return self._line

    @property
    def slot(self) -> int:
        return self._slot

    def pin_tries_left(self, slot: int) -> int:
        """Before the card asks for its PUK."""
        return self._card(slot).tries_left

    @property
    def technology(self) -> Technology | None:
        """What it is registered on; None without a network."""
        return self._access

    @property
    def carries(self) -> bool:
        """Whether a packet would get through."""
        return self._context and self._access is not None and self._access not in self._sim.dead

    # verbs

    def remove_sim(self, slot: int) -> None:
        self._card(slot).is_present = False
        self._around(slot)

    def insert_sim(self, slot: int) -> None:
        self._card(slot).is_present = True
        self._unlocked = self._unlocked and slot != self._slot
        self._around(slot)

    def lock_sim(self, slot: int, pin: str) -> None:
        """From now on the card asks for a PIN, at once if it is in use."""
        card = self._card(slot)
        card.pin, card.tries_left = pin, _PIN_TRIES
        if slot == self._slot:
            self._unlocked = False
        self._around(slot)

    def signal(self, slot: int, technology: Technology | str, rss_dbm: int | None) -> None:
        """What the antenna gets of one technology of a SIM's network; None: there is none here."""
        card, kind = self._card(slot), Technology(technology)
        if rss_dbm is None:
            card.rss_dbm.pop(kind, None)
        else:
            card.rss_dbm[kind] = rss_dbm
        self._around(slot)

    def lose_network(self, slot: int) -> None:
        """No technology of that SIM's network can be heard any more."""
        self._card(slot).rss_dbm.clear()
        self._around(slot)

    def restore_network(self, slot: int) -> None:
        """Every technology is there again, and carries."""
        fresh = SimCard(self._card(slot).operator)
        self._card(slot).rss_dbm, self._card(slot).dead = fresh.rss_dbm, set()
        self._around(slot)

    def kill_data(self, slot: int, technology: Technology | str | None = None) -> None:
        """The network still registers the SIM, on one technology or on all, but carries nothing."""
        kinds = set(Technology) if technology is None else {Technology(technology)}
        self._card(slot).dead |= kinds
        self._update_link()

    def revive_data(self, slot: int) -> None:
        self._card(slot).dead.clear()
        self._update_link()

    def power_off(self) -> None:
        self._is_on = False
        self._cancel_change()
        self._access, self._context = None, False
        self._update_link()

    def power_on(self) -> None:
        if not self._is_on:
            self._is_on, self._hangs = True, False
            self._reset()
            self._update_link()

    def hang(self) -> None:
        """Its firmware stops answering, until the next power-up; what is open stays open."""
        self._hangs = True

    # networks

    @property
    def _sim(self) -> SimCard:
        return self._sims[self._slot]

    def _card(self, slot: int) -> SimCard:
        if slot not in (0, 1):
            raise BadInputError("there are slots 0 and 1", key=f"slot {slot}")
        return self._sims[slot]

    def _around(self, slot: int) -> None:
        self._note("modem.bench", slot=slot)
        if slot == self._slot:
            self._look_for_network()

    def _best(self) -> Technology | None:
        """What it would register on now."""
        sim = self._sim
        if not (self._is_on and self._radio_on and sim.is_present) or (sim.pin is not None and not self._unlocked):
            return None
        for kind in self._allowed.technologies:
            if sim.rss_dbm.get(kind, -200) >= LEAST_RSS_DBM:
                return kind
        return None

    def _look_for_network(self) -> None:
        """A network is lost at once, and found after a while."""
        best = self._best()
        self._cancel_change()
        if best is self._access:
            return
        if best is None:
            self._register(None)
            return
        delay_s = _REGISTER_S if self._access is None else _HANDOVER_S
        self._change = self._timers.call_at(self._timers.time() + delay_s, self._register, best)

    def _cancel_change(self) -> None:
        if self._change is not None:
            self._change.cancel()
            self._change = None

    def _register(self, access: Technology | None) -> None:
        self._change = None
        was_registered = self._access is not None
        self._access = access
        if access is None:
            self._context = False
            if was_registered and self._reports_events:
                self._say("+CGEV: NW DETACH")
        self._note("modem.registered", technology=access.value if access else None, slot=self._slot)
        for prefix, mode in self._report_mode.items():
            if mode and self._is_on:
                self._say(self._registration(prefix).encode())
        self._update_link()

    def _registration(self, prefix: str) -> Registration:
        """+CEREG speaks for 4G, +CREG for the others."""
        here = self._access is not None and (self._access is Technology.G4) == (prefix == "+CEREG")
        if not here or self._access is None:
            status = RegistrationStatus.SEARCHING if self._best() is not None else RegistrationStatus.IDLE
            return Registration(prefix, status)
        return Registration(prefix, RegistrationStatus.HOME, "1A2B", "01C0FFEE"[-7:], _ACCESS[self._access])

    def _update_link(self) -> None:
        if self.carries and self._access is not None:
            if self._link.profile.name != self._access.value:
                self._link.set_profile(self._access.value)
            self._link.restore()
        else:
            self._link.cut()

    def _note(self, kind: str, **fields: object) -> None:
        if self._trace is not None:
            self._trace(kind, **fields)

    # the line

    def _received(self, data: bytes) -> None:
        if self._is_on and not self._hangs:
            if self._echo:
                self._line.deliver(data)
            self._stream.feed(data)

    def _say(self, *lines: str, after_s: float = 0.0) -> None:
        data = b"".join(encode_line(line) for line in lines)
        self._timers.call_at(self._timers.time() + after_s, self._deliver, data)

    def _deliver(self, data: bytes) -> None:
        if self._is_on and not self._hangs:
            self._line.deliver(data)

    def _command(self, line: str) -> None:
        text = line.strip()
        if text[:2].upper() != "AT":
            return
        try:
            lines, result, after_s = self._answer(text[2:])
        except RemoteProtocolError:
            lines, result, after_s = [], Final(is_ok=False), _ANSWER_S
        if result.error is not None and not self._numeric_errors:
            result = Final(is_ok=False)
        self._say(*lines, result.encode(), after_s=after_s)

    def _answer(self, text: str) -> tuple[list[str], Final, float]:
        """Lines, result and delay of one command, without its AT. Raises RemoteProtocolError for what is not one."""
        name, sign, value = text.partition("=")
        good = Final(is_ok=True)
        if not sign:
            return self._query(text.upper()), *self._queried(text.upper())
        fields = fields_of(value)
        match name.upper(), fields:
            case "+CMEE", [level]:
                self._numeric_errors = level == "1"
            case ("+CREG" | "+CEREG") as prefix, ["0" | "1" | "2" as mode]:
                self._report_mode[prefix] = int(mode)
            case "+CGEREP", ["0" | "1" | "2" as mode, *_]:
                self._reports_events = mode != "0"
            case "+WS46", ["12" | "25" | "29" as service]:
                self._allowed = WirelessService(int(service))
                self._look_for_network()
            case "+CFUN", ["0" | "1" | "4" as level, *_]:
                self._radio_on = level == "1"
                self._look_for_network()
            case "+CPIN", [pin, *_]:
                return [], self._enter_pin(pin), _ANSWER_S
            case "+CSUS", ["0" | "1" as slot]:
                self._select(int(slot))
            case "+CGDCONT", ["1", _, apn, *_]:
                self._apn = apn
            case "+CGACT", ["0" | "1" as state, "1"]:
                return [], self._activate(state == "1"), _CONTEXT_S
            case _:
                raise RemoteProtocolError("not a command of this modem")
        return [], good, _ANSWER_S

    def _query(self, text: str) -> list[str]:
        match text:
            case "" | "E0" | "E1":
                if text:
                    self._echo = text == "E1"
                return []
            case "I":
                return ["INHEMETER", "IHM-4000 CELLULAR", "Revision: 1.0"]
            case "+CPIN?":
                state = self._sim_state()
                return [] if state is SimState.ABSENT else [f"+CPIN: {state.value}"]
            case "+CREG?" | "+CEREG?":
                prefix = text[:-1]
                return [self._registration(prefix).encode(mode=self._report_mode[prefix])]
            case "+COPS?":
                access = None if self._access is None else _ACCESS[self._access]
                return [Operator(self._sim.operator if access is not None else "", access).encode()]
            case "+CSQ":
                rss_dbm = None if self._access is None else self._sim.rss_dbm.get(self._access)
                return [SignalQuality(rss_dbm).encode()]
            case "+WS46?":
                return [f"+WS46: {self._allowed.value}"]
            case "+CSUS?":
                return [f"+CSUS: {self._slot}"]
            case "+CGACT?":
                return [f"+CGACT: 1,{int(self._context)}"]
            case _:
                raise RemoteProtocolError("not a command of this modem")

    def _queried(self, text: str) -> tuple[Final, float]:
        if text == "+CPIN?" and self._sim_state() is SimState.ABSENT:
            return Final(is_ok=False, error=EquipmentError.SIM_NOT_INSERTED), _ANSWER_S
        return Final(is_ok=True), _ANSWER_S

    def _sim_state(self) -> SimState:
        sim = self._sim
        if not sim.is_present:
            return SimState.ABSENT
        if sim.pin is None or self._unlocked:
            return SimState.READY
        return SimState.PIN if sim.tries_left else SimState.PUK

    def _enter_pin(self, pin: str) -> Final:
        sim = self._sim
        if self._sim_state() is not SimState.PIN:
            return Final(is_ok=False, error=EquipmentError.NOT_ALLOWED)
        if pin != sim.pin:
            sim.tries_left -= 1
            return Final(is_ok=False, error=EquipmentError.INCORRECT_PASSWORD)
        self._unlocked, sim.tries_left = True, _PIN_TRIES
        self._look_for_network()
        return Final(is_ok=True)

    def _select(self, slot: int) -> None:
        if slot != self._slot:
            self._slot, self._unlocked = slot, False
            self._note("modem.slot", slot=slot)
            self._register(None)
            self._look_for_network()

    def _activate(self, wanted: bool) -> Final:
        if wanted and self._access is None:
            return Final(is_ok=False, error=EquipmentError.NO_NETWORK)
        if wanted and not self._apn:
            return Final(is_ok=False, error=EquipmentError.NOT_ALLOWED)
        self._context = wanted
        self._update_link()
        return Final(is_ok=True)
