"""Every benchmark, or those named: ``python -m benchmarks [name ...]``."""

from __future__ import annotations

import argparse

from benchmarks import (
    backfills,
    chain,
    digest,
    endurance,
    environments,
    fairness,
    ingest,
    parts,
    planning,
    scoring,
    startup,
)

BENCHMARKS = {
    "startup": lambda: startup.main([]),
    "planning": lambda: planning.main([]),
    "environments": lambda: environments.main([]),
    "digest": lambda: digest.main([]),
    "parts": lambda: parts.main([]),
    "backfills": lambda: backfills.main([]),
    "scoring": lambda: scoring.main([]),
    "ingest": lambda: ingest.main([]),
    "fairness": lambda: fairness.main([]),
    "chain": lambda: chain.main([]),
    "endurance": lambda: endurance.main([]),
    "chain-1000": lambda: chain.main(["--width", "100", "--rounds", "1", "--peers", "sqlmesh"]),
}
"""In the order in which they run: the short ones first."""


def main(arguments: list[str] | None = None) -> None:
    """Prints their tables, one after another."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="name", help=f"which: {', '.join(BENCHMARKS)} (default: all)")
    names = parser.parse_args(arguments).names
    unknown = sorted(set(names) - set(BENCHMARKS))
    if unknown:
        parser.error(f"unknown benchmark: {', '.join(unknown)}; the benchmarks are {', '.join(BENCHMARKS)}")
    for name in names or BENCHMARKS:
        print(f"\n== {name}", flush=True)
        BENCHMARKS[name]()


if __name__ == "__main__":
    main()
