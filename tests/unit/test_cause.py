"""The cause: the values that explain a rise, derived by hand."""

from decimal import Decimal

from costspan_dashboards.alerts.cause import (
    Cell,
    Contributor,
    Leaf,
    error_leaves,
    explain,
    is_news,
    latency_leaves,
    spend_leaves,
    surprise,
)


def leaf(actual: str, expected: str, **values: str) -> Leaf:
    names = ("feature", "model", "team", "user", "project", "key", "error_type")
    return Leaf(tuple(values.get(name, "") for name in names), Decimal(actual), Decimal(expected))


def cell(**values: object) -> Cell:
    given: dict[str, object] = {
        **dict.fromkeys(("model", "team", "user", "project", "key", "error_type"), ""),
        **dict.fromkeys(("calls", "slow_calls", "usual_calls"), 0),
        **dict.fromkeys(("cost_usd", "usual_cost_usd"), Decimal(0)),
        **values,
    }
    return Cell(**given)  # pyright: ignore[reportArgumentType]


def test_one_feature_on_one_model_is_named_exactly_with_its_share() -> None:
    leaves = [
        leaf("40", "0.3", feature="agent", model="gpt-5.5"),
        leaf("2.9", "2.8", feature="agent", model="gpt-4.1"),
        leaf("6.1", "5.9", feature="chat", model="gpt-5.5"),
        leaf("6", "6", feature="chat", model="gpt-4.1"),
    ]
    (one,) = explain(leaves).contributors
    assert one.where == (("feature", "agent"), ("model", "gpt-5.5"))
    # Excess 39.7 of 39.7 + 0.1 + 0.2 + 0 in all.
    assert one.share == float(Decimal("39.7") / Decimal("40.0"))
    assert (one.actual, one.expected) == (Decimal(40), Decimal("0.3"))


def test_two_causes_are_both_named_the_larger_first() -> None:
    leaves = [
        leaf("30", "3", feature="agent", model="a"),
        leaf("25", "3", feature="review", model="b"),
        leaf("10", "10", feature="chat", model="a"),
        leaf("10", "10", feature="search", model="b"),
    ]
    one, two = explain(leaves).contributors
    assert (one.where, two.where) == ((("feature", "agent"),), (("feature", "review"),))
    assert one.share + two.share == 1.0


def test_a_rise_of_everything_has_no_single_cause() -> None:
    leaves = [leaf("30", "10", feature=name, model="m") for name in ("a", "b", "c", "d")]
    found = explain(leaves)
    assert found.contributors == ()
    assert found.shared == (("model", "m"),)


def test_what_the_cause_shares_besides_is_said_but_not_what_all_calls_share() -> None:
    leaves = [
        leaf("50", "1", feature="agent", user="loop", project="p"),
        leaf("0", "1", feature="agent", user="u1", project="p"),
        leaf("9", "9", feature="chat", user="u2", project="p"),
    ]
    (one,) = explain(leaves).contributors
    assert one.where == (("user", "loop"),)
    assert one.also == (("feature", "agent"),)


def test_a_fall_explains_nothing() -> None:
    assert surprise(3, 9) == 0
    assert explain([leaf("0", "9", feature="chat")]).contributors == ()
    assert explain([]).contributors == ()


def test_a_share_never_leaves_the_excess() -> None:
    # A fall elsewhere makes the net excess smaller than the cause: 20 of 27 - 10, not more.
    leaves = [leaf("27", "7", feature="a"), leaf("0", "10", feature="b"), leaf("5", "5")]
    (one,) = explain(leaves).contributors
    assert one.share == 1.0


def test_failures_are_explained_by_feature_and_kind() -> None:
    cells = [
        cell(feature="chat", calls=80, usual_calls=8000),
        cell(feature="chat", error_type="timeout", calls=1, usual_calls=80),
        cell(feature="review", calls=12, usual_calls=2000),
        cell(feature="review", error_type="timeout", calls=0, usual_calls=20),
        cell(feature="review", error_type="server_error", calls=8, usual_calls=0),
    ]
    leaves = error_leaves(cells, 0.01)
    timeouts = [one for one in leaves if one.values[-1] == "timeout"]
    # 101 calls, one in a hundred failing before, by timeouts only.
    assert 0.9 < float(sum(one.expected for one in timeouts)) < 1.1
    (one,) = explain(leaves).contributors
    assert one.where == (("feature", "review"), ("error_type", "server_error"))


def test_spend_is_expected_as_in_the_mean_of_the_same_slots() -> None:
    # 7 dollars in the hours of 14 days are 0.50 an hour: 0.125 in a quarter of one.
    (one,) = spend_leaves(
        [cell(feature="a", cost_usd=Decimal(2), usual_cost_usd=Decimal(7))],
        window_minutes=15,
        days=14,
    )
    assert (one.actual, one.expected) == (Decimal(2), Decimal("0.125"))


def test_one_call_in_twenty_is_expected_to_be_slow() -> None:
    (one,) = latency_leaves([cell(feature="a", calls=40, slow_calls=9)])
    assert (one.actual, one.expected) == (Decimal(9), Decimal(2))


def test_the_same_fault_seen_wider_or_narrower_is_no_news() -> None:
    chat = (("feature", "chat"),)
    timeout = ("error_type", "timeout")
    assert not is_news((*chat, timeout), (), [chat])
    assert not is_news((timeout,), chat, [chat])
    assert not is_news((("feature", "chat"), ("model", "m")), (), [(*chat, timeout)])
    assert not is_news(chat, (), [()])  # everything was told already
    assert is_news((("feature", "review"), timeout), (), [(*chat, timeout)])
    assert is_news((), (), [chat])  # from one feature to everything


def test_a_contributor_reads_as_a_condition() -> None:
    one = Contributor((("feature", "a"), ("model", "b")), (), Decimal(2), Decimal(1), 1.0)
    assert str(one) == "feature=a & model=b"
