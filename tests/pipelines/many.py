"""So many transforms that they are computed in batches."""

from __future__ import annotations

from entrepot import Pipeline, Table

many = Pipeline("many")


@many.ingest
def numbers() -> object:
    return [{"n": number} for number in range(3)]


def _add(number: int) -> None:
    def step(numbers: Table) -> Table:
        return numbers.mutate(m=numbers.n + number)

    step.__name__ = f"plus_{number}"
    many.transform(step)


for each in range(42):
    _add(each)
