"""The demo's truth: repeatable, shaped like a week, with its faults where they belong."""

from collections import Counter
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from costspan.pricing import default_book, price
from costspan.usage import Usage
from costspan_demo.bill import charges, total
from costspan_demo.ledger import Charge, Entry, Ledger
from costspan_demo.local_openai import billed_history
from costspan_demo.organization import (
    BURST_FEATURE,
    BURST_NEIGHBOUR,
    SERVED_AS,
    SPIKE_FEATURE,
    organization,
)
from costspan_demo.prices import meters
from costspan_demo.traffic import BURST, SPIKE, SPIKE_USER, Call, history
from costspan_demo.wire import Wire

NOW = datetime(2026, 11, 18, 14, 37, 12, 345678, UTC)
SEED = 7


@pytest.fixture(scope="module")
def calls() -> list[Call]:
    return history(organization(SEED), seed=SEED, now=NOW, days=14)


def test_the_same_seed_gives_the_same_calls(calls: list[Call]) -> None:
    assert history(organization(SEED), seed=SEED, now=NOW, days=14) == calls


def test_another_seed_gives_other_calls_and_other_keys(calls: list[Call]) -> None:
    other = organization(8)
    assert {key.secret for key in other.keys}.isdisjoint(key.secret for key in organization(7).keys)
    assert history(other, seed=8, now=NOW, days=1) != calls[: len(calls) // 14]


def test_all_calls_lie_in_the_days_before_now(calls: list[Call]) -> None:
    assert all(NOW - timedelta(days=14) <= call.started_at for call in calls)
    assert all(call.ended_at < NOW for call in calls)
    assert 1000 <= len(calls) / 14 <= 1500


def test_no_days_are_no_calls() -> None:
    assert history(organization(SEED), seed=SEED, now=NOW, days=0) == []


def test_days_are_fuller_than_nights_and_workdays_than_weekends(calls: list[Call]) -> None:
    normal = [call for call in calls if call.key.traced and call.started_at < NOW - SPIKE]
    hours = Counter(call.started_at.hour for call in normal)
    days = Counter(call.started_at.date() for call in normal)
    assert hours[10] > 4 * hours[3]
    saturday, tuesday = NOW.date() - timedelta(days=4), NOW.date() - timedelta(days=1)
    assert days[tuesday] > 1.5 * days[saturday]


def test_about_one_call_in_eighty_fails_before_the_burst(calls: list[Call]) -> None:
    before = [call for call in calls if call.started_at < NOW - BURST]
    assert 0.009 < sum(call.failure is not None for call in before) / len(before) < 0.015


def test_a_failed_call_used_nothing(calls: list[Call]) -> None:
    used = {
        (call.input_tokens, call.output_tokens, call.cached_tokens, call.reasoning_tokens)
        for call in calls
        if call.failure
    }
    assert used == {(0, 0, 0, 0)}


def test_parts_of_a_count_are_inside_it(calls: list[Call]) -> None:
    assert all(call.cached_tokens <= call.input_tokens for call in calls)
    assert all(call.reasoning_tokens <= call.output_tokens for call in calls)
    assert all(call.first_chunk is None or call.first_chunk <= call.duration for call in calls)


def test_the_spike_is_one_feature_and_one_user(calls: list[Call]) -> None:
    recent = [call for call in calls if call.started_at >= NOW - SPIKE]
    dear = [call for call in recent if call.input_tokens > 70_000]
    assert {(call.feature.name, call.user) for call in dear} == {(SPIKE_FEATURE, SPIKE_USER)}
    spent = sum((_usd(call) for call in dear), Decimal(0))
    others = sum((_usd(call) for call in recent), Decimal(0)) - spent
    assert spent > 25
    assert spent > 10 * others
    assert not any(call.input_tokens > 70_000 for call in calls if call not in recent)


def test_the_burst_is_one_feature_in_the_last_minutes(calls: list[Call]) -> None:
    recent = [call for call in calls if call.started_at >= NOW - BURST and call.failure]
    assert Counter(call.feature.name for call in recent).most_common(1)[0][0] == BURST_FEATURE
    assert sum(call.feature.name == BURST_FEATURE for call in recent) >= 30
    answered = [call for call in calls if call.started_at >= NOW - BURST and not call.failure]
    assert sum(call.feature.name == BURST_NEIGHBOUR for call in answered) >= 20


def test_the_untraced_key_is_used_every_night(calls: list[Call]) -> None:
    nights = {call.started_at.date() for call in calls if not call.key.traced}
    assert len(nights) >= 13


def test_the_bill_is_the_sum_of_its_requests() -> None:
    ledger = billed_history(seed=SEED, now=NOW, days=3)
    assert total(_by_key(ledger)) == sum((entry.usd for entry in ledger.entries), Decimal(0))


def test_a_refused_request_is_not_charged() -> None:
    ledger = Ledger(organization(SEED), NOW)
    ledger.add(_entry("gpt-4.1-2025-04-14", status=500, input_tokens=10))
    assert not _by_key(ledger)


def test_a_call_over_midnight_is_charged_to_the_day_it_ended() -> None:
    ledger = Ledger(organization(SEED), NOW)
    midnight = datetime(2026, 11, 18, tzinfo=UTC)
    ledger.add(_entry("gpt-4.1-2025-04-14", at=midnight, duration=timedelta(9), input_tokens=10))
    assert {each.day for each in _by_key(ledger)} == {midnight.date()}


def test_a_charge_is_exact() -> None:
    # 7 cached tokens at $0.075 a million
    entry = _entry("gpt-4o-mini-2024-07-18", input_tokens=7, cached_tokens=7)
    assert entry.usd == Decimal("0.000000525")


@pytest.mark.parametrize("model", sorted(SERVED_AS.values()))
def test_the_bill_and_the_price_book_agree_on_every_model(model: str) -> None:
    assert default_book().canonical(model)
    kinds = meters(model, "default", "short")
    usage = Usage(
        input_tokens=1_234_567 % 200_000,
        cached_tokens=12_345 if "cached_input" in kinds else 0,
        output_tokens=6_789 if "output" in kinds else 0,
    )
    entry = _entry(
        model,
        input_tokens=usage.input_tokens,
        cached_tokens=usage.cached_tokens,
        output_tokens=usage.output_tokens,
    )
    assert price(usage, model=model, at=NOW).usd == entry.usd


def _entry(model: str, **fields: Any) -> Entry:
    known: dict[str, Any] = {"request_id": "req_1", "key": organization(SEED).keys[0], "at": NOW}
    return Entry(model=model, **{**known, **fields})


def _by_key(ledger: Ledger) -> list[Charge]:
    return [each for each in charges(ledger, Wire(), NOW) if each.key_id]


def _usd(call: Call) -> Decimal:
    ledger = Ledger(organization(SEED), NOW)
    ledger.add_call(call)
    return ledger.entries[0].usd
