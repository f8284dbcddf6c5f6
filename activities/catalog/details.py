"""What the catalog keeps of a version beside what all versions have, by kind; written and read as JSON here alone."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from entrepot.activities.catalog.growing_table import Segment
from entrepot.identity.version import Frozen
from entrepot.planning.slices import Content


class _Details(BaseModel):
    model_config = ConfigDict(frozen=True, extra="allow")
    """What a newer version of Entrepot keeps beside stays, when an older one writes details back."""


class ScoredModel(_Details):
    """How rows were scored by one model, and why so."""

    model: str
    version: str
    path: Literal["sql", "streamed"]
    why: str
    tolerance: float
    agreement: dict[str, Any] | None
    """How SQL and the fitted estimator agreed on a sample; None where they were not compared."""
    said: str


class Scoring(_Details):
    """How the rows of a table were scored."""

    said: str
    models: tuple[ScoredModel, ...]


class ByIntervals(_Details):
    """How a table was computed by intervals."""

    column: str
    """That with the time."""
    planned: dict[str, str]
    """Its columns, as its plan knew them: some warehouses make other types of them."""


class _RowsDetails(_Details):
    """Of rows, wherever they stand."""

    manifest: str | None = None
    """Of a raw table, the hash of its newest load's manifest in the lake."""
    scoring: Scoring | None = None
    """Of a view, that of its newest segment."""
    contents: dict[str, str] | None = None
    """The ids of its rows and columns; None, if it is known as a whole only."""
    same_as: str = ""
    """The version whose rows it has, found when it was made: its ids are that one's."""
    intervals: ByIntervals | None = None
    """How it was computed by intervals; None, if it was not."""
    frozen: Frozen | None = None
    """Which of its rows are another version's."""

    def content(self, version: str) -> Content:
        """What a version with these details contains, as what is made of it counts that."""
        return Content(version, self.contents, self.same_as)


class TableDetails(_RowsDetails):
    """Of a physical table."""

    kind: Literal["table"] = "table"


class GrowingTableDetails(_RowsDetails):
    """Of a view over segments."""

    kind: Literal["growing table"] = "growing table"
    segments: tuple[Segment, ...]


class ModelFile(_Details):
    """A fitted estimator in the lake."""

    path: str
    bytes: int
    sha256: str


class ModelDetails(_Details):
    """Of a model: what reads it needs, and how it was fitted and scored."""

    kind: Literal["model"] = "model"
    file: ModelFile
    features: tuple[str, ...]
    dtype: str
    """The type of its target."""
    classifier: bool
    types: dict[str, str] = {}
    """Feature to its type in the warehouse."""
    floats: tuple[str, ...] = ()
    """The features that were numbers with a fraction, or had a NULL."""
    target: str = ""
    classes: tuple[str, ...] = ()
    estimator: str = ""
    split: str = ""
    rows: dict[str, int] = {}
    """How many it learned from, and how many it was scored on."""
    scores: dict[str, float] = {}
    baseline: dict[str, float] = {}
    """The scores of a guess that ignores the features."""
    libraries: dict[str, str] = {}


class PageDetails(_Details):
    """Of a chart page in the lake."""

    kind: Literal["dashboard"] = "dashboard"
    path: str
    title: str
    sha256: str | None = None
    """The hash of the file; None, where an older version of Entrepot has made it."""


class FilesDetails(_Details):
    """Of a table exported into the lake."""

    kind: Literal["files"] = "files"
    path: str
    sha256: str | None = None
    """The hash of the file; None, where an older version of Entrepot has made it."""


class CopyDetails(_Details):
    """Of a copy: where it is shown."""

    kind: Literal["copy"] = "copy"
    schema_name: str
    name: str
    to: str = ""
    """The other warehouse that it stands in; empty: the pipeline's own."""
    digest: str | None = None
    """Of what arrived there."""


Details = TableDetails | GrowingTableDetails | ModelDetails | PageDetails | FilesDetails | CopyDetails

_DETAILS: TypeAdapter[Details] = TypeAdapter(Annotated[Details, Field(discriminator="kind")])


def parse(value: dict[str, Any]) -> Details:
    """Details from JSON."""
    return _DETAILS.validate_python(value)


def serialise(details: Details) -> dict[str, Any]:
    """Details as JSON."""
    return details.model_dump(mode="json")
