"""The messages of lists about data products, and of their Open Data Contract Standard files."""

from __future__ import annotations

from entrepot.language.names import DEFAULT_ENVIRONMENT, EnvironmentName
from entrepot.protocol.messages import Message, TenantInput


class ProductsInput(TenantInput):
    """The input of the activities `products` and `contracts`: whose products, and where they are shown."""

    environment: EnvironmentName = DEFAULT_ENVIRONMENT


class ProductRow(Message):
    """One data product, for people."""

    pipeline: str
    table: str
    environment: str
    version: str
    """Of its promise, as the environment shows it; as the code declares it, where it was not published yet."""
    owner: str
    description: str = ""
    fresh_within: str = ""
    """How old its data may be; empty: nothing is promised."""
    state: str
    """`fresh`, `late` or `unknown`, as of `freshness`; `published`, where no age is promised; or `not published`."""
    reason: str = ""
    """Why it is late or unknown."""
    consumers: tuple[str, ...] = ()
    """Who is known to depend on it."""
    rows: int | None = None
    published_at: str = ""
    """When a publish last moved it, in UTC."""


class ContractFile(Message):
    """The Open Data Contract Standard file of one product."""

    pipeline: str
    table: str
    text: str
    """YAML."""


class CheckContractsInput(ProductsInput):
    """The input of the activity `check_contracts`: the files that are held against what an environment shows."""

    files: dict[str, str]
    """File to its text, YAML or JSON."""


class ContractDifference(Message):
    """What does not hold of a file."""

    file: str
    said: str
    """In a sentence."""
