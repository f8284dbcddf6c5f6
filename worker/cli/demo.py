"""`entrepot demo`."""

from __future__ import annotations

from entrepot.worker.cli.options import StateOption


def demo(state: StateOption = None) -> None:
    """Run the flights pipeline end to end on a Temporal server of its own.

    \b
    Example:
      entrepot demo --state /tmp/entrepot
    """
    from entrepot.worker.local.demo import main

    main(state)
