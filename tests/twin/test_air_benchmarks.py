"""The benchmarks run, and what they measure is the work that they say."""

from __future__ import annotations

import json

import pytest

pytest.importorskip("scapy")
pytest.importorskip("benchmarks", reason="benchmarks are not in the wheel: run from the repository")

from benchmarks import Row, bench_codec
from benchmarks import __main__ as runner


def test_both_codecs_of_the_comparison_build_the_same_frame() -> None:
    assert bench_codec.scapy_build() == bench_codec.PSDU
    assert bench_codec.dissect(bench_codec.PSDU) == bench_codec.PAYLOAD


def test_results_are_printed_for_people_and_machines(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(bench_codec, "run", lambda: [Row("speed", 1234.5, "frames/s", "note")])
    assert runner.main(["--only", "codec"]) == 0
    assert capsys.readouterr().out.split() == ["codec", "speed", "1,234", "frames/s", "note"]
    assert runner.main(["--only", "codec", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["results"]["codec"]
    assert rows == [{"name": "speed", "value": 1234.5, "unit": "frames/s", "note": "note"}]
