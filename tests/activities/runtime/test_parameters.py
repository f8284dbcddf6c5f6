"""A pipeline's parameters: its defaults, the tenant's, the run's; merged once, and carried by the run."""

from __future__ import annotations

import datetime
import json

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from entrepot import Pipeline
from entrepot.activities.runtime.tenant import PipelineSettings, Tenant, Tenants, parameter_values
from entrepot.errors import BadInput
from entrepot.registry import Registry

SHOP = Pipeline("shop", parameters={"text": "", "count": 1, "share": 0.5, "flag": False, "any": None})
VALUES = st.fixed_dictionaries(
    {},
    optional={
        "text": st.text(),
        "count": st.integers(),
        "share": st.floats(allow_nan=False, allow_infinity=False) | st.integers(-1000, 1000),
        "flag": st.booleans(),
        "any": st.text() | st.integers() | st.booleans(),
    },
)


def tenants(**own: object) -> Tenants:
    acme = Tenant("acme", {"type": "duckdb"}, "lake", {"shop": PipelineSettings("shop", own)})
    return Tenants({"acme": acme}, Registry({}))


@settings(max_examples=100)
@given(VALUES, VALUES)
def test_the_run_s_count_over_the_tenant_s_and_these_over_defaults(
    own: dict[str, object], run: dict[str, object]
) -> None:
    if "any" in own and "any" in run:  # the default has no type, so the tenant's counts
        run = {**run, "any": own["any"]}
    carried = json.loads(json.dumps(tenants(**own).parameters("acme", SHOP, run)))
    values = parameter_values(SHOP, carried)
    del values["nominal_time"]
    assert values == {**SHOP.parameters, **own, **run}
    assert {name: type(value) for name, value in values.items() if name != "any"} == {
        "text": str, "count": int, "share": float, "flag": bool,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("own", "run", "said"),
    [
        ({"cuont": 1}, {}, "pipeline 'shop', set by tenant 'acme': unknown parameter 'cuont'; did you mean 'count'?"),
        ({}, {"count": True}, "pipeline 'shop': the parameter 'count' is a int, and the run sets it to True"),
        ({"count": "2"}, {"count": 2}, "pipeline 'shop': the parameter 'count' is a int, and tenant 'acme' sets it"),
        ({}, {"nominal_time": "noon"}, "pipeline 'shop': the parameter 'nominal_time' is a datetime"),
        ({"any": 1}, {"any": "x"}, "pipeline 'shop': the parameter 'any' is a int, and the run sets it to 'x'"),
    ],
)
def test_what_does_not_fit_is_refused(own: dict[str, object], run: dict[str, object], said: str) -> None:
    with pytest.raises(BadInput) as caught:
        tenants(**own).parameters("acme", SHOP, run)
    assert str(caught.value).startswith(said)


def test_the_tenant_s_type_counts_where_the_default_has_none() -> None:
    assert tenants(any=1).parameters("acme", SHOP, {"any": 2}) == {"any": 2}
    assert tenants().parameters("acme", SHOP, {"any": "x"}) == {"any": "x"}


def test_of_what_a_run_carries_nobody_knows_who_set_it() -> None:
    with pytest.raises(BadInput, match="and the run or its tenant sets it to 'x'"):
        parameter_values(SHOP, {"count": "x"})


def test_a_nominal_time_is_a_time_in_utc() -> None:
    values = parameter_values(SHOP, {"nominal_time": "2026-03-01T10:00:00+02:00"})
    assert values["nominal_time"] == datetime.datetime(2026, 3, 1, 8)
