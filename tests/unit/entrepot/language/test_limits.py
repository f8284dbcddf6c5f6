"""Limits are data: a step's own come first, then its pipeline's, its tenant's and the defaults; no version has them."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from entrepot import BadInput, Pipeline
from entrepot.language.limits import DEFAULTS, StepLimits, duration, duration_text, own_limits, size, size_text
from entrepot.planning.resolve import resolve


def test_what_is_said_nearer_to_the_step_wins() -> None:
    of_step, of_pipeline = own_limits(timeout="10m"), own_limits(timeout="1h", attempts=3)
    of_tenant = own_limits(timeout="2h", attempts=2, backoff="30s")
    found = of_step.over(of_pipeline.over(of_tenant.over(DEFAULTS)))
    assert found == StepLimits(timeout=timedelta(minutes=10), attempts=3, backoff=timedelta(seconds=30))


@pytest.mark.parametrize(
    ("given", "what"),
    [
        ({"timeout": "10 minutes"}, "`timeout`: '10 minutes' is not a valid duration: write a number and s, m, h or d"),
        ({"timeout": "0s"}, "`timeout`: '0s' is not a valid duration"),
        ({"timeout": "31d"}, "`timeout`: '31d' is longer than 30 days"),
        ({"timeout": 600}, "`timeout`: 600 is not a valid duration"),
        ({"backoff": "often"}, "`backoff`: 'often' is not a valid duration"),
        ({"memory": "8 gigabytes"}, "`memory`: '8 gigabytes' is not a valid size: write a number and KB, MB, GB or TB"),
        ({"attempts": 0}, "`attempts` is a whole number from 1 to 1,000, not 0"),
        ({"attempts": True}, "`attempts` is a whole number from 1 to 1,000, not True"),
    ],
)
def test_a_limit_that_is_none_is_refused_in_a_sentence(given: dict[str, Any], what: str) -> None:
    pipeline = Pipeline("shop")
    with pytest.raises(BadInput) as caught:
        pipeline.transform(**given)(lambda t: t)
    assert str(caught.value).startswith("pipeline 'shop', '<lambda>': " + what)
    with pytest.raises(BadInput, match="pipeline 'shop': `"):
        Pipeline("shop", **given)


@pytest.mark.parametrize(
    ("written", "read"),
    [
        *[("5B", 5), ("20KB", 20_000), ("500 GB", 500 * 10**9), ("2TB", 2 * 10**12), ("500 gb", 500 * 10**9)],
        *[("1.5TiB", 3 * 2**39), ("1MiB", 2**20), ("1pb", 10**15), ("0.3KB", 300)],
    ],
)
def test_sizes_are_in_powers_of_ten_or_of_two(written: str, read: int) -> None:
    assert size(written) == read


def test_a_limit_is_no_part_of_a_version() -> None:
    def identities(**limits: Any) -> dict[str, str]:
        pipeline = Pipeline("shop")

        @pipeline.ingest(tables={"t": {"n": "int64"}}, **limits)
        def source() -> object: ...

        @pipeline.transform(**limits)
        def lazy(t: Any) -> Any:
            return t.filter(t.n > 1)

        @pipeline.transform(engine="python", schema={"n": "int64"}, **limits)
        def eager(t: pa.RecordBatchReader) -> Any:
            yield from t

        @pipeline.check(lazy, **limits)
        def some(lazy: Any) -> Any:
            return lazy.filter(lazy.n < 0)

        assert pipeline.graph.steps["lazy"].limits == own_limits(**limits)
        return dict(resolve(pipeline.graph, {}, {}).identities)

    assert identities() == identities(timeout="10m", memory="8GB", attempts=2, backoff="5s")


@given(st.integers(1, 10**9 - 1).map(lambda seconds: timedelta(seconds=seconds)))
def test_a_duration_is_written_as_it_is_read(span: timedelta) -> None:
    assert duration(duration_text(span)) == span


@given(st.integers(1, 10**14) | st.sampled_from([8 * 1000**3, 8 * 1024**3, 1024, 1000, 1536 * 1024**2]))
def test_a_size_is_written_as_it_is_read(size_: int) -> None:
    assert size(size_text(size_)) == size_


@pytest.mark.parametrize("text", ["8GB", "8GiB", "1TB", "1536MiB", "999B", "1KiB"])
def test_a_size_keeps_its_unit(text: str) -> None:
    assert size_text(size(text)) == text
