"""A table that others build on, declared as such: a data product."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from entrepot.errors import BadInput

_VERSION = re.compile(r"(0|[1-9][0-9]{0,8})\.(0|[1-9][0-9]{0,8})\.(0|[1-9][0-9]{0,8})", re.ASCII)


@dataclass(frozen=True, init=False)
class Product:
    """A table as a product: who answers for it, which version of its promise it keeps, and who depends on it.

    What it promises is said where it always is: its columns by the function, its rules by `contract` and blocking
    checks, its age by `fresh_within`. While somebody depends on it, a run that would break the promise is refused,
    unless MAJOR of the version is raised.

    Args:
        version: The version of the promise, `"MAJOR.MINOR.PATCH"`. Default: `"1.0.0"`.
        owner: Who answers for it. Default: the owner of the step or pipeline, one of which there has to be.
        description: What it is. Default: the description of the step.
        consumers: Names of teams and tools outside that depend on it. Publish steps that show it, and pipelines that
            run when it was published, need not be named. Default: none.

    Raises:
        BadInput: If the version is none, or the consumers are not names.

    Examples:
        ```python
        from entrepot import Pipeline, Product, Table

        shop = Pipeline("shop", owner="sales@acme.example")


        @shop.ingest(tables={"orders": {"country": "string", "amount": "float64"}})
        def orders(): ...


        @shop.transform(fresh_within="2h", product=Product("1.2.0", consumers=["finance"]))
        def sales(orders: Table) -> Table:
            return orders.group_by("country").agg(total=orders.amount.sum())
        ```
    """

    version: str
    owner: str
    description: str
    consumers: tuple[str, ...]

    def __init__(
        self, version: str = "1.0.0", *, owner: str = "", description: str = "", consumers: Iterable[str] = ()
    ) -> None:
        if major_of(version) is None:
            raise BadInput(f"a product's version is 'MAJOR.MINOR.PATCH', such as '1.0.0', not {version!r}")
        for what, text in (("owner", owner), ("description", description)):
            if not isinstance(text, str):
                raise BadInput(f"a product's {what} is a text, not {text!r}")
        names = (consumers,) if isinstance(consumers, str) else tuple(consumers)
        if wrong := [name for name in names if not isinstance(name, str) or not name.strip()]:
            raise BadInput(f"a product's consumers are names, not {wrong[0]!r}")
        for name, value in (("version", version), ("owner", owner), ("description", description)):
            object.__setattr__(self, name, value)
        object.__setattr__(self, "consumers", tuple(dict.fromkeys(names)))


def parts_of(version: object) -> tuple[int, ...] | None:
    """MAJOR, MINOR and PATCH of a version; None for what is none."""
    match = _VERSION.fullmatch(version) if isinstance(version, str) else None
    return tuple(map(int, match.groups())) if match else None


def major_of(version: object) -> int | None:
    """The part of a version that is raised by what breaks; None for what is no version."""
    parts = parts_of(version)
    return parts[0] if parts else None
