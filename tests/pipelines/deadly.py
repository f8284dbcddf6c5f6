"""Steps of every kind that harm the process that they run in: the parameter `where` says which, `what` how."""

from __future__ import annotations

import ctypes
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ibis
import pandera.ibis as pandera
import pyarrow as pa
from sklearn.linear_model import LinearRegression

from entrepot import Export, Model, Pipeline, Table

STARTS = """
import os, time
first = os.getpid()
if middle := os.fork():
    os.waitpid(middle, 0)
elif os.fork():
    os._exit(0)
else:
    os.setsid()
    print(first, os.getpid(), flush=True)
time.sleep(600)
"""
"""A process that starts another, which has lost its parent."""

deadly = Pipeline("deadly", parameters={"where": "", "what": "", "mark": ""})


def harm(step: str, where: str, what: str, mark: str) -> None:
    """Does what was asked for, if it was asked of this step; leaves its process's id in the file `mark`."""
    if step != where:
        return
    if mark:
        Path(mark).write_text(str(os.getpid()))
    if what == "hang":
        while True:
            time.sleep(60)
    elif what == "hold":
        re.match(r"(a+)+$", "a" * 60 + "b")  # holds the interpreter for years
    elif what == "exit":
        os._exit(3)
    elif what == "crash":
        ctypes.string_at(0)
    elif what == "eat":
        eaten = []
        while len(eaten) < 300:  # a machine of any size survives a test that fails
            eaten.append(bytearray(os.urandom(1 << 20) * 16))
    elif what == "leave":
        sys.exit(4)
    elif what == "start":
        child = subprocess.Popen([sys.executable, "-c", STARTS], start_new_session=True, stdout=subprocess.PIPE)
        assert child.stdout is not None
        Path(mark).write_bytes(child.stdout.readline())
    elif what == "look":
        raise LookupError(",".join(sorted(name for name in os.environ if name.startswith("DEADLY_"))))


@deadly.ingest(tables={"numbers": {"n": "int64"}})
def numbers(where: str, what: str, mark: str) -> list[dict[str, Any]]:
    harm("numbers", where, what, mark)
    return [{"n": number} for number in range(100)]


@deadly.transform(engine="python", schema={"n": "int64", "twice": "int64"})
def doubled(numbers: pa.RecordBatchReader, where: str, what: str, mark: str) -> Iterator[pa.Table]:
    harm("doubled", where, what, mark)
    for batch in numbers:
        yield pa.table({"n": batch["n"], "twice": [2 * n.as_py() for n in batch["n"]]})


@ibis.udf.scalar.python
def halved(twice: int) -> int:
    harm("halved", *asked)
    return twice // 2


asked = ["", "", ""]
"""What is asked of `halved`, which has no parameters of the pipeline's."""


def has_rows(data: Any) -> bool:
    """A contract's own check, which asks the warehouse itself; what it is to do stands in the environment."""
    harm("contract", *os.environ.get("HARM", "||").split("|"))
    return bool(data.table.count().execute() > 0)


def is_half_of_some(data: Any) -> Any:
    """A contract's own check that calls a function in Python."""
    return halved(data.table[data.key]) >= 0


@deadly.transform(
    memory="900MB",
    contract=pandera.DataFrameSchema(
        {"half": pandera.Column(checks=[pandera.Check(has_rows), pandera.Check(is_half_of_some)])}
    ),
)
def built(doubled: Table, where: str, what: str, mark: str) -> Table:
    asked[:] = [where, what, mark]
    harm("built", where, what, mark)
    return doubled.mutate(half=halved(doubled.twice))


@deadly.train(features=doubled, target="twice", score="r2")
def model(where: str, what: str, mark: str) -> LinearRegression:
    return Harmful(where, what, mark)


class Harmful(LinearRegression):
    """It harms as it learns: the step's function itself is also called to plan."""

    def __init__(self, where: str = "", what: str = "", mark: str = "") -> None:
        super().__init__()
        self.where = where
        self.what = what
        self.mark = mark

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Any:
        harm("model", self.where, self.what, self.mark)
        self.fitted_in_ = os.getpid()
        return super().fit(X, y, sample_weight)

    def predict(self, X: Any) -> Any:
        if os.getpid() != self.fitted_in_:
            harm("scored", self.where, self.what, self.mark)
        return super().predict(X)

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        if os.getpid() != self.fitted_in_:
            harm("read", self.where, self.what, self.mark)


@deadly.transform
def scored(model: Model, doubled: Table) -> Table:
    return model.predict(doubled, keep="n")


@deadly.publish
def file(doubled: Table, where: str, what: str, mark: str) -> Export:
    harm("file", where, what, mark)
    return Export(doubled)
