import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from entrepot.worker.schedules import cron


@pytest.mark.parametrize(
    ("written", "canonical"),
    [
        ("0 6 * * *", "0 6 * * *"),
        ("00 06 * * *", "0 6 * * *"),
        ("*/15 6 * * mon-fri", "*/15 6 * * 1-5"),
        ("0,15,30,45 6 * * MON,tue,3-5", "*/15 6 * * 1-5"),
        ("1/5 * * * *", "1-56/5 * * * *"),
        ("0 0 * * 7", "0 0 * * 0"),
        ("0 0 * * 5-7", "0 0 * * 0,5-6"),
        ("0 0 1,15 jan-mar *", "0 0 1,15 1-3 *"),
        ("0 0 29 2 *", "0 0 29 2 *"),
        (" @daily ", "0 0 * * *"),
        ("@yearly", "0 0 1 1 *"),
    ],
)
def test_reads_and_writes(written: str, canonical: str) -> None:
    assert cron.text(cron.parse(written)) == canonical


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("* * * *", "write minute, hour"),
        ("0 0 6 * * * *", "write minute, hour"),
        ("@every 5m", "write minute, hour"),
        ("60 * * * *", "the minute cannot be '60'; it takes 0-59"),
        ("0 24 * * *", "the hour cannot be '24'"),
        ("0 0 0 * *", "the day of the month cannot be '0'"),
        ("0 0 L * *", "the day of the month cannot be 'L'"),
        ("0 0 * 13 *", "the month cannot be '13'; it takes 1-12 or jan-dec"),
        ("0 0 * * 8", "the day of the week cannot be '8'; it takes 0-6 or sun-sat"),
        ("5-1 * * * *", "the minute cannot be '5-1'"),
        ("*/0 * * * *", "the minute cannot be '*/0'"),
        ("*/60 * * * *", "the minute cannot be '*/60'"),
        ("*/mon * * * *", "the minute cannot be '*/mon'"),
        ("0,,1 * * * *", "the minute cannot be ''"),
        ("5- * * * *", "the minute cannot be '5-'"),
        ("-5 * * * *", "the minute cannot be '-5'"),
        ("٣ * * * *", "the minute cannot be '٣'"),
        ("0 0 31 2,4 *", "never occurs: none of its months has a day 31"),
    ],
)
def test_says_which_field_is_wrong(written: str, said: str) -> None:
    with pytest.raises(ValueError, match=r"is not a valid cron expression|never occurs") as error:
        cron.parse(written)
    assert said in str(error.value)


def fields() -> st.SearchStrategy[list[str]]:
    def field(low: int, high: int) -> st.SearchStrategy[str]:
        number = st.integers(low, high)
        span = st.tuples(number, number).map(lambda pair: f"{min(pair)}-{max(pair)}")
        step = st.integers(1, high)
        part = st.one_of(
            st.just("*"),
            number.map(str),
            span,
            st.tuples(span, step).map(lambda pair: f"{pair[0]}/{pair[1]}"),
            step.map(lambda size: f"*/{size}"),
            st.tuples(number, step).map(lambda pair: f"{pair[0]}/{pair[1]}"),
        )
        return st.lists(part, min_size=1, max_size=3).map(",".join)

    return st.tuples(field(0, 59), field(0, 23), field(1, 28), field(1, 12), field(0, 6)).map(list)


@given(fields())
def test_means_the_same_after_it_was_written(words: list[str]) -> None:
    calendar = cron.parse(" ".join(words))
    again = cron.parse(cron.text(calendar))
    assert cron.text(again) == cron.text(calendar)
    for name in ("minute", "hour", "day_of_month", "month", "day_of_week"):
        values = [
            set(itertools.chain.from_iterable(range(r.start, r.end + 1, r.step) for r in getattr(each, name)))
            for each in (calendar, again)
        ]
        assert values[0] == values[1]
