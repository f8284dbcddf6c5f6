"""Data products: what breaks one is refused while somebody depends on it; and files of their contracts."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from temporalio.client import ActivityFailureError
from temporalio.testing import WorkflowEnvironment

from entrepot.worker.config.tenant_schema import PipelineSection, TenantSection
from tests import datacontract
from tests.conftest import House, serving, settings

CODE = """
from pathlib import Path
from typing import Any

import pandera.ibis as pa
from entrepot import Dashboard, Panel, Pipeline, Product, Table

offered = Pipeline("offered", owner="sales@acme.example")


@offered.ingest(tables={{"raw": {{"id": "int64", "country": "string", "amount": "float64"}}}})
def source() -> Any:
    Path(__file__).with_suffix(".asked").open("a").write("x")
    yield [{{"id": number, "country": "CH", "amount": number / 4}} for number in range(10)]


contract = pa.DataFrameSchema(
    {{
        "id": pa.Column(int, unique=True),
        "amount": pa.Column(float, [pa.Check.ge({least})], nullable={nullable}),
    }}
)


@offered.transform(contract=contract, fresh_within="{fresh_within}", product={product})
def orders(raw: Table) -> Table:
    "What was ordered."
    return raw.select({columns})


@offered.check(orders)
def of_a_country(orders: Table) -> Table:
    "Every order is of a country."
    return orders.filter(orders.id < 0)
"""
PAGE = """

@offered.publish
def page(orders: Table) -> Dashboard:
    return Dashboard("Orders", panels=[Panel("All", orders)])
"""


class Offered:
    """A house whose pipeline is written anew."""

    def __init__(self, house: House, module: Path) -> None:
        self.house = house
        self._module = module

    def write(
        self,
        version: str = "1.0.0",
        consumers: tuple[str, ...] = ("finance",),
        columns: str = '"id", "country", "amount"',
        more: str = "",
        **said: object,
    ) -> None:
        its = {"least": 0, "nullable": False, "fresh_within": "2h"}
        its |= {"product": f"Product({version!r}, consumers={consumers!r})", "columns": columns, **said}
        self._module.write_text(CODE.format(**its) + more)

    async def run(self, **more: Any) -> str:
        return (await self.house.run("offered", **more)).outcome

    async def refused(self, **more: Any) -> str:
        failure = await self.house.fail(tenant="acme", pipeline="offered", **more)
        assert failure.type == "PipelineError"
        return failure.message

    async def promote(self) -> None:
        target = {"tenant": "acme", "pipeline": "offered", "like": "dev", "environment": "prod"}
        await (await self.house.start("Promote", target)).result()

    async def ask(self, activity: str, **value: Any) -> Any:
        return await self.house.client.execute_activity(
            activity,
            {"tenant": "acme", **value},
            id=uuid.uuid4().hex,
            task_queue=self.house.task_queue,
            result_type=list,
            start_to_close_timeout=timedelta(minutes=1),
        )

    def asked(self) -> int:
        """How often the source was."""
        return len(self._module.with_suffix(".asked").read_text())

    def shown(self, environment: str = "") -> list[str]:
        schema = f"offered__{environment}" if environment else "offered"
        return [row[0] for row in self.house.query(f"DESCRIBE {schema}.orders")]


@pytest_asyncio.fixture
async def offered(
    temporal: WorkflowEnvironment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Offered]:
    monkeypatch.syspath_prepend(tmp_path)
    module = f"offered_{uuid.uuid4().hex[:8]}"
    tenant = TenantSection(
        backend={"type": "duckdb", "path": "acme.duckdb"},
        pipelines=["offered"],
        settings={"offered": PipelineSection()},
    )
    loaded = settings(tmp_path / "state", {"offered": f"{module}:offered"}, acme=tenant)
    async with serving(temporal.client, loaded, reload=True) as house:
        yield Offered(house, tmp_path / f"{module}.py")


async def test_what_breaks_a_product_is_refused_while_somebody_depends_on_it(offered: Offered) -> None:
    offered.write()
    assert await offered.run() == "published"
    assert await offered.run(force="orders") == "published"
    # A column gone.
    offered.write(columns='"id", "amount"')
    said = await offered.refused()
    assert (
        "product 'orders' 1.0.0, as prod shows it, would break: column 'country' is gone. It has consumers: finance;"
        in said
    )
    assert "declare version '2.0.0'" in said
    assert await offered.refused(dry_run=True) == said
    assert offered.asked() == 2
    assert offered.shown() == ["id", "country", "amount"]
    # What adds is not asked for anything.
    offered.write(columns='"id", "country", "amount", more=raw.amount * 2', least=0)
    assert await offered.run() == "published"
    # A promise that is less, though no row changes.
    same = '"id", "country", "amount", more=raw.amount * 2'
    for change, why in (
        ({"nullable": True}, "column 'amount' may be NULL"),
        ({"least": -5}, "not promised any more: column 'amount' satisfies greater_than_or_equal_to(0)"),
        ({"fresh_within": "1d"}, "its data may be of 1d, and was promised within 2h"),
        (
            {"columns": '"id", "country", amount=raw.amount.cast("string"), more=raw.amount'},
            "column 'amount' is string, and was float64",
        ),
        ({"product": "None"}, "it is no product any more"),
    ):
        offered.write(**{"columns": same, **change})
        assert why in await offered.refused()
    # A new major version may break; a minor one may not.
    offered.write("1.9.0", columns='"id", "amount"')
    assert "declare version '2.0.0'" in await offered.refused()
    offered.write("2.0.0", columns='"id", "amount"')
    plan = (await offered.house.run("offered", dry_run=True)).plan
    assert plan is not None
    why = next(step.why for step in plan.steps if step.name == "orders")
    assert "product 'orders' 1.0.0 → 2.0.0, breaking: column 'country' is gone, column 'more' is gone" in why
    assert await offered.run() == "published"
    assert offered.shown() == ["id", "amount"]
    assert await offered.run() == "nothing to do"


@pytest.mark.fast
async def test_nobody_depends_on_it(offered: Offered) -> None:
    offered.write(consumers=())
    assert await offered.run() == "published"
    offered.write(consumers=(), columns='"id", "amount", n=1')
    assert await offered.run() == "published"
    # What is published of it depends on it, unless the new code has no such step.
    offered.write(consumers=(), columns='"id", "amount", n=1', more=PAGE)
    assert await offered.run() == "published"
    offered.write(consumers=(), columns='"id", "amount"', more=PAGE)
    assert "It has consumers: publish step 'page';" in await offered.refused()
    offered.write(product="None", columns='"id", "amount"')
    assert await offered.run() == "published"


async def test_a_contract_that_no_version_satisfies_is_told_before_anything_runs(offered: Offered) -> None:
    offered.write(columns='"id"')
    said = await offered.refused()
    assert "product 'orders': its contract demands 'amount', and it has 'id'" in said
    offered.write(least="5), pa.Check.le(4")
    said = await offered.refused(dry_run=True)
    assert "its contract demands of column 'amount' what no value satisfies" in said


async def test_an_environment_made_of_prod_has_its_products(offered: Offered) -> None:
    offered.write()
    assert await offered.run() == "published"
    created = await offered.house.start("Create", {"tenant": "acme", "pipeline": "offered", "environment": "pr_1"})
    await created.result()
    offered.write(columns='"id", "amount"')
    assert "as pr_1 shows it, would break: column 'country' is gone" in await offered.refused(environment="pr_1")
    # One that is not made of it promises nothing before; but prod is not made to show it.
    assert await offered.run(environment="dev") == "published"
    failure = await offered.house.fail("Promote", tenant="acme", pipeline="offered", like="dev", environment="prod")
    assert failure.type == "BadInput"
    assert "product 'orders' 1.0.0, as prod shows it, would break: column 'country' is gone" in failure.message
    offered.write("2.0.0", columns='"id", "amount"')
    assert await offered.run(environment="dev") == "nothing to do"
    await offered.promote()
    assert offered.shown() == ["id", "amount"]
    # A promise goes along, though no pointer moves.
    offered.write("2.1.0", columns='"id", "amount"')
    assert await offered.run(environment="dev") == "nothing to do"
    assert (await offered.ask("products"))[0]["version"] == "2.0.0"
    await offered.promote()
    assert (await offered.ask("products"))[0]["version"] == "2.1.0"
    # What was shown before promises what it did then.
    rolling = await offered.house.start("Rollback", {"tenant": "acme", "pipeline": "offered"})
    await rolling.result()
    offered.write(columns='"country", "amount", "id", n=1')
    assert await offered.run() == "published"


ORDERS: dict[str, Any] = {"pipeline": "offered", "table": "orders", "environment": "prod"}


async def test_products_are_listed_written_and_held_against_files(offered: Offered) -> None:
    offered.write("1.2.0", more=PAGE)
    (row,) = await offered.ask("products")
    assert (row["state"], row["version"], row["owner"]) == ("not published", "1.2.0", "sales@acme.example")
    assert await offered.ask("contracts") == []
    assert await offered.run() == "published"
    (row,) = await offered.ask("products", pipeline="offered")
    assert row.items() >= {**ORDERS, "state": "fresh", "fresh_within": "2h", "rows": 10, "version": "1.2.0"}.items()
    assert row["consumers"] == ["finance", "publish step 'page'"]
    assert row["description"] == "What was ordered."
    (file,) = await offered.ask("contracts")
    text = file["text"]
    assert await offered.ask("check_contracts", files={"orders.yaml": text}) == []
    # What is promised in more than what was published does not hold.
    for before, after, said in (
        ("name: country", "name: region", "column 'region' is missing; prod shows 'amount', 'country', 'id'"),
        ("physicalType: BIGINT", "physicalType: VARCHAR", "column 'id' is int64, not VARCHAR"),
        ("- name: country\n", "- name: country\n    required: true\n", "column 'country' is required, and may be NULL"),
        ("value: 2.0", "value: 1.0", "its data is to be of 1h, and it promises within 2h"),
        ("version: 1.2.0", "version: 1.3.0", "version 1.3.0 is wanted, and it is 1.2.0, as prod shows it"),
        ("min_value: 0", "min_value: 1", "not promised: column 'amount' satisfies greater_than_or_equal_to(0)"),
        ("name: of_a_country", "name: of_two", "no check 'of_two' stops its publish"),
    ):
        assert before in text, text
        found = await offered.ask("check_contracts", files={"orders.yaml": text.replace(before, after, 1)})
        assert [each["said"] for each in found] == [f"'orders': {said}"]
        assert {each["file"] for each in found} == {"orders.yaml"}


FOREIGN = """
apiVersion: v3.0.2
kind: DataContract
id: 53581432-6c55-4ba2-a65f-72344a91553b
version: 7.0.0
status: active
schema:
  - name: Raw sales
    physicalName: offered.raw
    properties:
      - {name: id, logicalType: integer, required: true}
      - {name: amount, logicalType: string}
      - {name: country, physicalType: VARCHAR(2)}
  - name: refunds
"""


async def test_files_of_others_are_held_against_any_table(offered: Offered) -> None:
    offered.write()
    assert await offered.run() == "published"
    found = await offered.ask("check_contracts", files={"sales.yaml": FOREIGN})
    assert [each["said"] for each in found] == [
        "'raw': column 'amount' is float64, not string",
        "'raw': column 'id' is required, and may be NULL",
        "prod shows no table 'refunds'. Known: 'orders', 'raw'",
    ]
    for text, said in (
        ("a: [", "is no Open Data Contract Standard file: while parsing"),
        ("- 1", "it has no `kind: DataContract`"),
        ("kind: Deployment", "its `kind` is 'Deployment', not 'DataContract'"),
        ("kind: DataContract\napiVersion: v2.2.2", "its `apiVersion` is 'v2.2.2'; files of v3 are read"),
        (FOREIGN.replace("id: 5", "identity: 5"), "`identity`: Extra inputs are not permitted"),
        ("kind: DataContract\napiVersion: v3.1.0", "its `schema` names no table"),
    ):
        with pytest.raises(ActivityFailureError) as caught:
            await offered.ask("check_contracts", files={"x.yaml": text})
        assert said in str(caught.value.cause), text
    with pytest.raises(ActivityFailureError) as caught:
        await offered.ask("products", environment="pr_7")
    assert "unknown environment 'pr_7'. Known: 'prod'" in str(caught.value.cause)


async def test_another_tool_finds_that_what_is_published_is_what_the_file_says(
    offered: Offered, tmp_path: Path
) -> None:
    datacontract.command()
    offered.write()
    assert await offered.run() == "published"
    (file,) = await offered.ask("contracts")
    ours = tmp_path / "orders.odcs.yaml"
    ours.write_text(file["text"])
    offered.house.tenants.get("acme").close()  # DuckDB's file is for one process at a time
    report = datacontract.tested(ours)
    assert report["result"] == "passed", report
    names = {check["name"] for check in report["checks"]}
    assert {"Check that field 'amount' is present", "Check that field id has no missing values"} <= names
    theirs = tmp_path / "other.odcs.yaml"
    theirs.write_text(file["text"].replace("logicalType: number", "logicalType: string").replace("DOUBLE", "TEXT"))
    assert datacontract.tested(theirs)["result"] == "failed"
    found = await offered.ask("check_contracts", files={"other.yaml": theirs.read_text()})
    assert [each["said"] for each in found] == ["'orders': column 'amount' is float64, not TEXT"]
