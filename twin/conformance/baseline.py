"""Comparison with an earlier run: what got worse, and what got better."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from protocols.errors import BadInputError
from twin.conformance.verdicts import CaseResult, Verdict

_FAILURES = (Verdict.FAIL, Verdict.ERROR, Verdict.TIMEOUT)
_KEY = "--baseline"


@dataclass(frozen=True, slots=True)
class Change:
    """A case whose verdict is another one than before; `before` is None if the baseline does not have the case."""

    name: str
    before: Verdict | None
    after: Verdict

    def __str__(self) -> str:
        return f"{self.name}: {self.before or 'not in the baseline'} → {self.after}"


@dataclass(frozen=True, slots=True)
class Comparison:
    """Regressions (PASS before and not now, or a failure that is new), improvements (PASS now and not before), and
    how many failures were there before."""

    regressions: tuple[Change, ...]
    improvements: tuple[Change, ...]
    known_failures: int


@dataclass(frozen=True, slots=True)
class Baseline:
    """Verdicts of an earlier report.json of `twin conform`."""

    file: str
    model: str
    verdicts: Mapping[str, Verdict]

    @classmethod
    def load(cls, path: Path) -> Baseline:
        """Raises BadInputError if the file is not the JSON report of a conformance run."""
        try:
            document = json.loads(path.read_text(encoding="utf-8"))
            conditions, cases = document["conditions"], document["cases"]
            if conditions["run"] != "conform":
                raise BadInputError("is the report of another command", file=str(path), key=_KEY)
            verdicts = {str(item["name"]): Verdict(item["verdict"]) for item in cases}
            return cls(str(path), str(conditions["meter"]), verdicts)
        except OSError as error:
            raise BadInputError(f"cannot be read: {error.strerror}", file=str(path), key=_KEY) from None
        except (ValueError, KeyError, TypeError):
            raise BadInputError("is not a report.json of twin conform", file=str(path), key=_KEY) from None

    def check_fits(self, model: str, names: Sequence[str]) -> None:
        """Raises BadInputError if it is about another meter, or has no case in common with `names`."""
        if self.model != model:
            raise BadInputError(f"is about {self.model!r}, this run about {model!r}", file=self.file, key=_KEY)
        if not set(names) & set(self.verdicts):
            raise BadInputError("has no case in common with this run", file=self.file, key=_KEY)

    def compare(self, results: Sequence[CaseResult]) -> Comparison:
        """Only cases that ran now are looked at: a selection or a shard is compared with its part."""
        regressions, improvements, known_failures = [], [], 0
        for result in results:
            before, after = self.verdicts.get(result.name), result.verdict
            change = Change(result.name, before, after)
            is_failure = after in _FAILURES
            if (before is Verdict.PASS and after is not Verdict.PASS) or (is_failure and before not in _FAILURES):
                regressions.append(change)
            elif after is Verdict.PASS and before not in (Verdict.PASS, None):
                improvements.append(change)
            elif is_failure:
                known_failures += 1
        return Comparison(tuple(regressions), tuple(improvements), known_failures)
