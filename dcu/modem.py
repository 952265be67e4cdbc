"""The cellular modem's driver: brings a SIM into a network and opens a way over it, and finds another when told so."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable
from enum import StrEnum

from dcu.config import ModemPolicy
from protocols.at import (
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
    decode_sim_state,
    encode_command,
    fields_of,
)
from protocols.errors import RemoteProtocolError, TwinError
from protocols.ports import ByteLink, Trace

_LOG = logging.getLogger(__name__)
_LOOK_S = 15.0
"""How often to look while something is missing; what changes is told unsolicited anyway."""
_SILENT_RETRY_S = 10.0
_LONGEST_FORBID = 16
_LONGEST_SEARCH = 8
_EXPECTED = {
    "AT+CREG?": "+CREG:", "AT+CEREG?": "+CEREG:", "AT+CSQ": "+CSQ:", "AT+COPS?": "+COPS:", "AT+CPIN?": "+CPIN:",
    "AT+CGACT?": "+CGACT:",
}  # fmt: skip
"""What the answer to a query begins with."""
_START = ("ATE0", "AT+CMEE=1", "AT+CREG=2", "AT+CEREG=2", "AT+CGEREP=2,0")
_ALLOWED_BELOW = {
    None: WirelessService.ANY,
    Technology.G4: WirelessService.GSM_UTRAN,
    Technology.G3: WirelessService.GSM,
}
"""What the modem may use while this technology, and every better one, is forbidden."""


class ModemState(StrEnum):
    """SILENT: it does not answer. READY: registered, and its way is open."""

    SILENT = "silent"
    NO_SIM = "no-sim"
    PIN_LOCKED = "pin-locked"
    SEARCHING = "searching"
    READY = "ready"


class ModemError(TwinError):
    """A command was refused (with the modem's code, if it gave one) or not answered in time."""

    def __init__(self, message: str, code: EquipmentError | None = None) -> None:
        super().__init__(message)
        self.code = code


class NoAnswerFromModemError(ModemError):
    """Nothing came in time."""


class ModemDriver:
    """Keeps the modem attached for as long as it runs. `on_change` is called whenever what it knows changes.

    An unusable SIM, or one that finds no network in `register_timeout_s`, gives way to the next slot. A PIN is
    entered once: a second try with a wrong one would lock the card.
    """

    def __init__(
        self,
        line: ByteLink,
        policy: ModemPolicy,
        *,
        loop: asyncio.AbstractEventLoop,
        on_change: Callable[[], None],
        trace: Trace,
    ) -> None:
        self._line = line
        self._policy = policy
        self._loop = loop
        self._on_change = on_change
        self._trace = trace
        self._stream = LineStream(self._line_came)
        self._pending: asyncio.Future[list[str]] | None = None
        self._asked = ""
        self._information: list[str] = []
        self._wake = asyncio.Event()
        self._is_initialised = False
        self._wanted_slot = 0
        self._refused_pins: set[int] = set()
        self._searching_since_s = loop.time()
        self._forbidden: Technology | None = None
        self._forbidden_until_s = 0.0
        self._forbid_factor = 1
        self._search_factor = 1
        self._allowed: WirelessService | None = None
        self._registrations: dict[str, Registration] = {}
        self._context_open = False
        self.state = ModemState.SILENT
        self.slot = 0
        self.operator = ""
        self.rss_dbm: int | None = None
        self.counters: Counter[str] = Counter()

    @property
    def technology(self) -> Technology | None:
        """What it is registered on; None without a network."""
        for found in self._registrations.values():
            if found.status.is_registered and found.access is not None:
                return found.access.technology
        return None

    @property
    def is_ready(self) -> bool:
        return self.state is ModemState.READY

    def describe(self) -> dict[str, str]:
        """SIM, state and technology, for the head-end."""
        technology = self.technology
        shown = "none" if technology is None or not self.is_ready else technology.value
        return {"sim": str(self.slot + 1), "state": self.state.value, "technology": shown}

    async def run(self) -> None:
        """Until cancelled."""
        self._line.on_data(self._stream.feed)
        try:
            while True:
                self._wake.clear()
                await self._try_step()
                await self._pause()
        finally:
            self._line.on_data(lambda _: None)

    def carried_nothing(self) -> None:
        """What is attached does not reach the head-end: try an older technology, and below the oldest the other SIM."""
        technology = self.technology
        if not self.is_ready or technology is None:
            return
        self.counters["carried_nothing"] += 1
        if technology is Technology.G2:
            self._next_slot("it carries nothing")
        else:
            self._forbidden = technology
            self._forbidden_until_s = self._loop.time() + self._policy.forbid_technology_s * self._forbid_factor
            self._forbid_factor = min(2 * self._forbid_factor, _LONGEST_FORBID)
            _LOG.warning("%s carries nothing and is not used for a while", technology.value)
            self._trace("dcu-modem", state="forbidden", technology=technology.value)
        self._wake.set()

    # one look at the modem

    async def _try_step(self) -> None:
        try:
            await self._step()
        except NoAnswerFromModemError as error:
            self.counters["timeouts"] += 1
            self._is_initialised = False
            self._registrations.clear()
            self._context_open = False
            _LOG.warning("the modem is silent: %s", error)
            self._set(ModemState.SILENT)
        except (ModemError, RemoteProtocolError) as error:
            self.counters["errors"] += 1
            _LOG.warning("the modem: %s", error)

    async def _pause(self) -> None:
        wait_s = {ModemState.READY: self._policy.poll_s, ModemState.SILENT: _SILENT_RETRY_S}.get(self.state, _LOOK_S)
        if self._forbidden is not None:
            wait_s = min(wait_s, max(self._forbidden_until_s - self._loop.time(), 0.1))
        try:
            async with asyncio.timeout(wait_s):
                await self._wake.wait()
        except TimeoutError:
            return

    async def _step(self) -> None:
        """Everything that is not yet as it should be."""
        if not self._is_initialised:
            for command in _START:
                await self._ask(command)
            self._is_initialised, self._allowed = True, None
            self._context_open = False
        if self._wanted_slot != self.slot:
            await self._select(self._wanted_slot)
        if not await self._sim_is_ready():
            return
        await self._allow()
        await self._look()
        if self.technology is None:
            self._not_registered()
        elif not self._context_open:
            await self._open_context()
        else:
            self._set(ModemState.READY)

    async def _select(self, slot: int) -> None:
        """Another card: with the radio off, as modems want it."""
        self._registrations.clear()
        self._context_open = False
        self._set(ModemState.SEARCHING)
        await self._ask("AT+CFUN=4")
        await self._ask(self._policy.select_sim.format(slot=slot))
        await self._ask("AT+CFUN=1")
        self.slot = slot
        self.counters["sim_switches"] += 1
        self._searching_since_s = self._loop.time()
        self._trace("dcu-modem", state="slot", slot=slot)
        self._on_change()

    async def _sim_is_ready(self) -> bool:
        try:
            (line,) = await self._query("AT+CPIN?")
            sim = decode_sim_state(line)
        except NoAnswerFromModemError:
            raise
        except ModemError as error:
            if error.code is EquipmentError.SIM_PIN_REQUIRED:
                sim = SimState.PIN
            elif error.code is EquipmentError.SIM_PUK_REQUIRED:
                sim = SimState.PUK
            else:
                sim = SimState.ABSENT
        if sim is SimState.PIN and await self._enter_pin():
            return True
        if sim is SimState.READY:
            return True
        self._registrations.clear()
        self._context_open = False
        self._set(ModemState.NO_SIM if sim is SimState.ABSENT else ModemState.PIN_LOCKED)
        self._next_slot(self.state.value)
        return False

    async def _enter_pin(self) -> bool:
        pin = self._policy.sims[self.slot].pin
        if pin is None or self.slot in self._refused_pins:
            return False
        try:
            await self._ask(f'AT+CPIN="{pin}"', shown="AT+CPIN=")
        except NoAnswerFromModemError:
            raise
        except ModemError:
            self._refused_pins.add(self.slot)
            _LOG.error("the PIN of SIM %d is wrong; it is not tried again", self.slot + 1)
            return False
        return True

    async def _allow(self) -> None:
        """Which technologies the modem may use now."""
        if self._forbidden is not None and self._loop.time() >= self._forbidden_until_s:
            self._forbidden = None
        wanted = _ALLOWED_BELOW[self._forbidden]
        if wanted is not self._allowed:
            await self._ask(f"AT+WS46={wanted.value}")
            self._allowed = wanted

    async def _look(self) -> None:
        for command in ("AT+CREG?", "AT+CEREG?"):
            for line in await self._query(command):
                self._registered(Registration.decode(line, is_answer=True))
        for line in await self._query("AT+CSQ"):
            self.rss_dbm = SignalQuality.decode(line).rss_dbm
        for line in await self._query("AT+COPS?"):
            self.operator = Operator.decode(line).name

    def _not_registered(self) -> None:
        self._context_open = False
        self._set(ModemState.SEARCHING)
        if self._loop.time() - self._searching_since_s > self._policy.register_timeout_s * self._search_factor:
            # With each round of the slots a little more patience: nobody is helped by a modem that never listens.
            self._search_factor = min(self._search_factor * (2 if self.slot else 1), _LONGEST_SEARCH)
            self._next_slot("no network")

    async def _open_context(self) -> None:
        apn = self._policy.sims[self.slot].apn
        await self._ask(f'AT+CGDCONT=1,"IP","{apn}"')
        await self._ask("AT+CGACT=1,1", timeout_s=self._policy.connect_timeout_s)
        self._context_open, self._search_factor = True, 1
        self._set(ModemState.READY)

    def _next_slot(self, why: str) -> None:
        count = len(self._policy.sims)
        self._searching_since_s = self._loop.time()
        if count < 2:
            return
        self._wanted_slot = (self.slot + 1) % count
        self._forbidden, self._forbid_factor = None, 1
        _LOG.warning("SIM %d: %s; SIM %d is next", self.slot + 1, why, self._wanted_slot + 1)

    def _set(self, state: ModemState) -> None:
        if state is not self.state:
            self.state = state
            if state is ModemState.SEARCHING:
                self._searching_since_s = self._loop.time()
            self._say_state()

    def _say_state(self) -> None:
        technology = self.technology
        self._trace(
            "dcu-modem",
            state=self.state.value,
            slot=self.slot,
            technology=None if technology is None else technology.value,
            rss_dbm=self.rss_dbm,
        )
        self._on_change()

    # the line

    async def _query(self, command: str) -> list[str]:
        """The lines of an answer that are what was asked for."""
        return [line for line in await self._ask(command) if line.startswith(_EXPECTED[command])]

    async def _ask(self, command: str, *, timeout_s: float | None = None, shown: str = "") -> list[str]:
        """Send a command; gives the lines before its OK. Raises ModemError; `shown` stands for it in error texts."""
        name = shown or command
        timeout_s = timeout_s or self._policy.command_timeout_s
        self._pending, self._asked, self._information = self._loop.create_future(), command, []
        self._line.write(encode_command(command))
        try:
            async with asyncio.timeout(timeout_s):
                return await self._pending
        except TimeoutError:
            raise NoAnswerFromModemError(f"no answer to {name} within {timeout_s:g} s") from None
        except ModemError as error:
            raise ModemError(f"{name}: {error}", error.code) from None
        finally:
            self._pending = None

    def _line_came(self, line: str) -> None:
        try:
            self._take(line)
        except RemoteProtocolError as error:
            self.counters["malformed"] += 1
            _LOG.debug("a line of the modem was dropped: %s", error)

    def _take(self, line: str) -> None:
        if self._is_unsolicited(line):
            self._unsolicited(line)
            return
        if self._pending is None or self._pending.done() or line == self._asked:
            return
        final = Final.decode(line)
        if final is None:
            self._information.append(line)
        elif final.is_ok:
            self._pending.set_result(self._information)
        else:
            code = final.error
            self._pending.set_exception(ModemError("refused" if code is None else code.name.lower(), code))

    def _is_unsolicited(self, line: str) -> bool:
        """Registration comes unsolicited without the mode that an answer begins with: one or four parameters."""
        if line.startswith("+CGEV:"):
            return True
        prefix, colon, rest = line.partition(":")
        return bool(colon) and prefix in Registration.PREFIXES and len(fields_of(rest)) in (1, 4)

    def _unsolicited(self, line: str) -> None:
        self.counters["unsolicited"] += 1
        if line.startswith("+CGEV:"):
            self._context_open = self._context_open and not line.endswith("DETACH")
            self._wake.set()
            return
        self._registered(Registration.decode(line, is_answer=False))
        self._wake.set()

    def _registered(self, found: Registration) -> None:
        before = self.technology
        self._registrations[found.prefix] = found
        if found.status is RegistrationStatus.DENIED:
            self.counters["denied"] += 1
        after = self.technology
        if before is not after and after is not None and self.is_ready:
            self._say_state()
