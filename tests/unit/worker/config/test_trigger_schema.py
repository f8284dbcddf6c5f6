"""Triggers in the tenant file: what they may say, who grants what, and loops."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from entrepot.errors import BadInput
from entrepot.protocol.triggers import TriggerSettings
from entrepot.worker.config import settings
from entrepot.worker.config.settings import Settings
from entrepot.worker.config.trigger_schema import loops

FILE = """
pipelines = { shop = "a.b:shop", flights = "a.b:flights", board = "a.b:board" }
[tenants.acme]
backend = { type = "duckdb", path = "acme.duckdb" }
[tenants.globex]
backend = { type = "duckdb", path = "globex.duckdb" }
"""


def load(folder: Path, text: str) -> Settings:
    (folder / "tenants.toml").write_text(FILE + text)
    return settings.load(str(folder / "tenants.toml"), str(folder / "state"))


def of(tenant: str, **triggers: str) -> str:
    return "".join(f"[tenants.{tenant}.settings.{name}]\n{text}\n" for name, text in triggers.items())


def test_a_trigger_as_its_workflow_is_told(tmp_path: Path) -> None:
    text = of(
        "acme",
        shop="",
        flights='trigger = { published = ["shop", "globex/shop", "acme/shop"], source = "5m", deployed = true, '
        'when = "all", debounce = "2m", quiet = "1h" }',
    ) + of("globex", shop='grants = ["acme"]')
    tenants = load(tmp_path, text).connect()
    assert tenants.tenants["acme"].pipelines["flights"].trigger == TriggerSettings(
        published=("acme/shop", "globex/shop"),
        source=300,
        deployed=True,
        when="all",
        debounce=120,
        quiet=3600,
    )


def test_a_publish_elsewhere_causes_nothing_so_it_closes_no_loop(tmp_path: Path) -> None:
    """What a pipeline publishes to `prod` may be the reason to run it in `dev`."""
    text = of(
        "acme",
        flights='trigger = { published = ["flights"], environment = "dev" }',
        shop="trigger = { promises = true }",
    )
    its = load(tmp_path, text).connect().tenants["acme"].pipelines
    assert its["flights"].trigger == TriggerSettings(published=("acme/flights",), environment="dev")
    assert its["shop"].trigger == TriggerSettings(promises=True)


BAD = {
    of("acme", flights="trigger = {}"): "at least one of `published`, `source`, `deployed` and `promises`",
    of("acme", flights='trigger = { promises = true, when = "all", deployed = true }'): "goes with when = 'any'",
    of("acme", flights='trigger = { promises = "yes" }'): "trigger.promises: must be true or false",
    of("acme", flights='trigger = { deployed = true, environment = "staging" }'): (
        "tenants.acme.settings.flights.trigger.environment: unknown environment 'staging'. Known: 'dev', 'pr_*', 'prod'"
    ),
    of("acme", flights='trigger = { deployed = true, environment = "Dev" }'): "'Dev' cannot be an environment",
    of("acme", flights='trigger = { published = ["nowhere"] }'): "unknown pipeline 'nowhere'",
    of("acme", flights='trigger = { published = ["x/shop"] }'): "unknown tenant 'x'",
    of("acme", flights='trigger = { published = ["a/b/c"] }'): "'a/b/c' is no pipeline",
    of("acme", flights='trigger = { published = ["Shop"] }'): "'Shop' is no pipeline",
    of("acme", flights='trigger = { published = ["globex/shop"] }'): (
        "tenants.acme.settings.flights.trigger.published: 'globex' has not granted 'shop' to 'acme': write "
        "grants = ['acme'] at [tenants.globex.settings.shop]"
    ),
    of("acme", flights='trigger = { source = "5s" }'): "'5s' is too often",
    of("acme", flights="trigger = { source = true }"): "trigger.source: must be text in quotes",
    of("acme", flights='trigger = { deployed = true, when = "some" }'): "'any' or 'all'",
    of("acme", flights='trigger = { publish = ["shop"] }'): "unknown setting 'publish'; did you mean 'published'",
    of("acme", shop='grants = ["nobody"]'): "unknown tenant 'nobody'",
    of("acme", shop='trigger = { published = ["shop"] }'): "acme/shop → acme/shop is a loop",
    of("acme", shop='trigger = { published = ["flights"] }', flights='trigger = { published = ["shop"] }'): (
        "acme/flights → acme/shop → acme/flights is a loop: each publish would cause the next, for ever"
    ),
    of("acme", shop='grants = ["globex"]\ntrigger = { published = ["globex/board"] }')
    + of("globex", board='grants = ["acme"]\ntrigger = { published = ["acme/shop"] }'): (
        "acme/shop → globex/board → acme/shop is a loop"
    ),
}


@pytest.mark.parametrize(("text", "said"), BAD.items(), ids=[str(n) for n in range(len(BAD))])
def test_what_is_wrong_is_said(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(BadInput) as caught:
        load(tmp_path, text)
    assert said in str(caught.value)


@given(st.dictionaries(st.sampled_from("abcdef"), st.lists(st.sampled_from("abcdef"), max_size=3, unique=True)))
def test_a_loop_is_found_where_there_is_one(waits: dict[str, list[str]]) -> None:
    """Against the obvious: who has nobody left to wait for is taken away, until only loops are left."""
    found = loops({name: tuple(others) for name, others in waits.items()})
    left = {name: set(others) for name, others in waits.items()}
    while free := [name for name, others in left.items() if not others & set(left)]:
        for name in free:
            del left[name]
    assert bool(found) == bool(left)
    for loop in found:
        for before, after in zip(loop, (*loop[1:], loop[0]), strict=True):
            assert before in waits[after]


def test_ten_thousand_in_a_row_are_no_loop() -> None:
    assert loops({str(n): (str(n + 1),) for n in range(10_000)}) == []
