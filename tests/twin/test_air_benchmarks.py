"""The benchmarks run, and what they measure is the work that they say."""

from __future__ import annotations

import json

import pytest

pytest.importorskip("scapy")
pytest.importorskip("benchmarks", reason="benchmarks are not in the wheel: run from the repository")

from benchmarks import Row, bench_air, bench_codec
from benchmarks import __main__ as runner


def test_both_codecs_of_the_comparison_build_the_same_frame() -> None:
    assert bench_codec.scapy_build() == bench_codec.PSDU
    assert bench_codec.dissect(bench_codec.PSDU) == bench_codec.PAYLOAD


def test_convergecast_load_is_delivered_and_repeats_itself() -> None:
    def run() -> tuple[int, int, int]:
        race = bench_air.Race(seed=3, nodes=30, duration_s=32.0)
        race.run()
        return race.offered, race.delivered, race.air.statistics().receptions

    offered, delivered, receptions = run()
    assert offered == 29 * 2
    assert delivered >= 0.95 * offered
    assert (offered, delivered, receptions) == run()


def test_tree_has_the_hops_of_the_race() -> None:
    parents = bench_air.tree(100)
    hops = []
    for node in range(100):
        count, here = 0, node
        while (parent := parents[here]) is not None:
            count, here = count + 1, parent
        hops.append(count)
    assert hops.count(0) == 1
    assert sum(hops) / 99 == pytest.approx(3.384, abs=0.001)
    assert max(hops) == 5


def test_results_are_printed_for_people_and_machines(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(bench_codec, "run", lambda: [Row("speed", 1234.5, "frames/s", "note")])
    assert runner.main(["--only", "codec"]) == 0
    assert capsys.readouterr().out.split() == ["codec", "speed", "1,234", "frames/s", "note"]
    assert runner.main(["--only", "codec", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["results"]["codec"]
    assert rows == [{"name": "speed", "value": 1234.5, "unit": "frames/s", "note": "note"}]
