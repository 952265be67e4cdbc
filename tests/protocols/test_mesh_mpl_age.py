"""How long a multicast was on its way: an option that forwarders keep, and that others skip."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mesh_bench import Bench

from protocols.errors import RemoteProtocolError
from protocols.mesh.events import DatagramReceived
from protocols.mesh.ipv6 import ALL_MPL_FORWARDERS, ExtensionHeader, Protocol
from protocols.mesh.mpl.messages import AGE_MAX_MS, MplOption
from protocols.mesh.timers import BENCH, FAN_LARGE, TimersProfile

seeds = st.sampled_from((0, 2, 8, 16)).flatmap(lambda size: st.binary(min_size=size, max_size=size))
ages = st.none() | st.integers(0, AGE_MAX_MS)
options = st.builds(MplOption, seeds, st.integers(0, 255), st.booleans(), ages)


@given(options)
def test_the_option_with_an_age_round_trips(option: MplOption) -> None:
    header = option.encode()
    assert len(header.body) % 8 == 6
    assert MplOption.decode(header) == option


@given(options, st.data())
def test_every_truncation_is_refused_or_has_lost_the_padding_alone(option: MplOption, data: st.DataObject) -> None:
    body = option.encode().body
    cut = data.draw(st.integers(0, len(body) - 1))
    try:
        found = MplOption.decode(ExtensionHeader(Protocol.HOP_BY_HOP, body[:cut]))
    except RemoteProtocolError:
        return
    assert found in (None, option, MplOption(option.seed, option.sequence, option.is_largest))


def test_an_age_beyond_what_the_option_holds_stays_at_its_end() -> None:
    assert MplOption.decode(MplOption(b"", 1, age_ms=AGE_MAX_MS + 5).encode()) == MplOption(b"", 1, age_ms=AGE_MAX_MS)


def test_an_age_of_another_length_is_skipped_as_an_unknown_option_is() -> None:
    body = MplOption(b"12345678", 3).encode().body[:12] + bytes((0x3E, 2, 1, 1)) + bytes((1, 4)) + bytes(4)
    assert MplOption.decode(ExtensionHeader(Protocol.HOP_BY_HOP, body)) == MplOption(b"12345678", 3)


@pytest.mark.requirement("UC-VI.2", "NET-4")
@pytest.mark.parametrize("profile", [BENCH, FAN_LARGE])
def test_every_receiver_knows_how_long_a_multicast_was_on_its_way(profile: TimersProfile) -> None:
    """Six hops, each with its own random wait: seconds in one profile, most of a minute in the other."""
    bench = Bench([(hop, hop + 1) for hop in range(6)], profile=profile)
    bench.power_on_all()
    bench.run_until(bench.joined, 3600)
    bench.run_for(300)
    sent_at = bench.now
    bench.send(0, ALL_MPL_FORWARDERS, b"the time")
    bench.run_for(400)
    ways_s = []
    for number in range(1, 7):
        ((at, event),) = [
            (at, event)
            for at, event in bench.events[number]
            if isinstance(event, DatagramReceived) and event.payload == b"the time"
        ]
        ways_s.append(at - sent_at)
        assert event.age_s == pytest.approx(at - sent_at, abs=0.03 * number)
    assert ways_s[-1] > 2 * profile.mpl.data.imin_s


def test_unicast_has_no_age() -> None:
    bench = Bench([(0, 1)])
    bench.power_on_all()
    bench.run_until(bench.joined, 120)
    bench.send(0, 1, b"hello")
    bench.run_for(10)
    assert [event.age_s for event in bench.of(1, DatagramReceived)] == [0.0]
