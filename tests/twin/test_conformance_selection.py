"""--select, --shard and --target."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols.errors import BadInputError
from twin.conformance.library import all_cases
from twin.conformance.selection import Shard, compile_expression, select
from twin.conformance.targets import Saps, TargetKind, TargetSpec

KEYWORDS = ("SYMSEC_0_FraCount_1", "SEC-1", "UC-V.3")


@pytest.mark.parametrize(
    ("expression", "holds"),
    [
        ("", True),
        ("fracount", True),
        ("FRACOUNT", True),
        ("sec-1", True),
        ("UC-V.3", True),
        ("sec-2", False),
        ("not sec-2", True),
        ("not not sec-1", True),
        ("sec-1 and sec-2", False),
        ("sec-1 or sec-2", True),
        ("sec-2 or sec-1 and fracount", True),
        ("(sec-2 or sec-1) and hdlc", False),
        ("not (sec-2 or hdlc)", True),
        ("not sec-1 or fracount", True),
        ("\tsec-1\nand ( fracount )", True),
        ("android", False),
    ],
)
def test_expressions_mean_what_they_mean_to_pytest(expression: str, holds: bool) -> None:
    assert compile_expression(expression)(KEYWORDS) is holds


@pytest.mark.parametrize(
    ("expression", "place"),
    [
        ("and", "column 1"),
        ("sec and", "column 8"),
        ("(sec", "column 1"),
        ("sec)", "column 4"),
        ("sec hdlc", "column 5"),
        ("sec & hdlc", "column 5"),
        ("not", "column 4"),
        ("()", "column 2"),
        ("__import__('os')", "column 12"),
    ],
)
def test_a_wrong_expression_is_refused_with_its_place(expression: str, place: str) -> None:
    with pytest.raises(BadInputError, match=f"--select: .*{place}"):
        compile_expression(expression)


@given(st.text(max_size=60))
def test_any_text_is_an_expression_or_bad_input(text: str) -> None:
    try:
        predicate = compile_expression(text)
    except BadInputError:
        return
    assert predicate(KEYWORDS) in (True, False)


WORDS = st.sampled_from(["sec", "hdlc", "frame", "uc"])
TREES = st.recursive(
    WORDS,
    lambda inner: st.one_of(
        st.tuples(inner, st.sampled_from(["and", "or"]), inner).map(lambda parts: f"({' '.join(parts)})"),
        inner.map(lambda text: f"not {text}"),
    ),
    max_leaves=8,
)


@given(TREES, st.frozensets(WORDS))
def test_expressions_agree_with_python(text: str, keywords: frozenset[str]) -> None:
    values = {word: word in keywords for word in ("sec", "hdlc", "frame", "uc")}
    assert compile_expression(text)(tuple(keywords)) == eval(text, {}, values)  # noqa: S307 (our own words)


def test_a_selection_of_nothing_is_bad_input() -> None:
    with pytest.raises(BadInputError, match=r"selects none of \d+ cases"):
        select(all_cases(), "no-such-case", Shard())


@pytest.mark.requirement("VEND-3")
@given(st.integers(1, 9))
def test_shards_are_all_cases_each_once(count: int) -> None:
    parts = [select(all_cases(), "", Shard(index, count)) for index in range(1, count + 1)]
    names = [case.name for part in parts for case in part]
    assert sorted(names) == sorted(case.name for case in all_cases())
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


def test_an_empty_shard_is_said() -> None:
    with pytest.raises(BadInputError, match="part 2/2 is empty"):
        select(all_cases(), "OPEN_14", Shard(2, 2))


@pytest.mark.parametrize("text", ["0/2", "3/2", "1", "1/0", "a/b", "1/2/3", "-1/2", "", "\u0661/\u0662"])
def test_a_wrong_shard_is_bad_input(text: str) -> None:
    with pytest.raises(BadInputError, match="--shard"):
        Shard.parse(text)


def test_targets_are_read() -> None:
    assert TargetSpec.parse("twin").model == "ihm5000-1p"
    assert TargetSpec.parse("model:mine.yaml").model == "mine.yaml"
    spec = TargetSpec.parse("tcp://127.0.0.1:4059?management=5&server=17")
    assert (spec.kind, spec.host, spec.port) == (TargetKind.TCP, "127.0.0.1", 4059)
    assert spec.saps == Saps(management=5, server=17)
    assert TargetSpec.parse("udp://[::1]:4059").host == "::1"
    assert TargetSpec.parse("hdlc:/dev/ttyUSB0?server=1").device == "/dev/ttyUSB0"


@pytest.mark.parametrize(
    "text",
    ["", "meter", "tcp://host", "tcp://:1", "http://h:1", "tcp://h:99999", "hdlc:", "model:", "tcp://h:1/path",
     "tcp://h:1?admin=1", "tcp://h:1?server=x", "tcp://h:1?server=70000", "tcp://h:1?server", "tcp://[::1:5"],
)  # fmt: skip
def test_a_wrong_target_is_bad_input(text: str) -> None:
    with pytest.raises(BadInputError, match="--target"):
        TargetSpec.parse(text)


def test_container_targets_say_what_to_do_instead() -> None:
    with pytest.raises(BadInputError, match=r"not there yet.*tcp://HOST:PORT"):
        TargetSpec.parse("container:meter:latest")
