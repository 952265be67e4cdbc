"""Runs the benchmarks: `python -m benchmarks [--only NAME] [--json]`. Progress goes to stderr, results to stdout."""

from __future__ import annotations

import argparse
import importlib
import json
import pkgutil
import platform
import sys
import time
from dataclasses import asdict

import benchmarks
from benchmarks import Row

_PREFIX = "bench_"


def names() -> list[str]:
    """The benchmarks there are, in alphabetical order, without their prefix."""
    found = (module.name for module in pkgutil.iter_modules(benchmarks.__path__))
    return sorted(name.removeprefix(_PREFIX) for name in found if name.startswith(_PREFIX))


def run(name: str) -> list[Row]:
    """Run one benchmark. A missing optional package gives one row that says so."""
    try:
        module = importlib.import_module(f"benchmarks.{_PREFIX}{name}")
    except ModuleNotFoundError as error:
        return [Row("not run", 0.0, "", f"{error.name} is not installed")]
    rows: list[Row] = module.run()
    return rows


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 or value == int(value) else f"{value:,.3g}"


def _table(results: dict[str, list[Row]]) -> str:
    cells = [
        (benchmark, row.name, _number(row.value), row.unit, row.note)
        for benchmark, rows in results.items()
        for row in rows
    ]
    widths = [max(len(line[column]) for line in cells) for column in range(4)]
    return "\n".join(
        f"{benchmark:<{widths[0]}}  {name:<{widths[1]}}  {value:>{widths[2]}}  {unit:<{widths[3]}}  {note}".rstrip()
        for benchmark, name, value, unit, note in cells
    )


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Measure speed.")
    parser.add_argument("--only", action="append", choices=names(), help="run this benchmark alone; may be repeated")
    parser.add_argument("--json", action="store_true", help="results as JSON")
    options = parser.parse_args(arguments)
    results: dict[str, list[Row]] = {}
    for name in options.only or names():
        print(f"{name} ...", end="", file=sys.stderr, flush=True)
        started = time.perf_counter()
        results[name] = run(name)
        print(f" {time.perf_counter() - started:.1f} s", file=sys.stderr)
    if options.json:
        machine = {"python": platform.python_version(), "machine": platform.machine()}
        rows = {name: [asdict(row) for row in found] for name, found in results.items()}
        print(json.dumps({"machine": machine, "results": rows}, indent=2))
    else:
        print(_table(results))
    return 0


if __name__ == "__main__":
    sys.exit(main())
