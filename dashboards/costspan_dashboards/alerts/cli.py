"""`costspan alerts`."""

import argparse
import json
import re
import sys
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from costspan.errors import Rejected
from costspan_reconcile import arguments

if TYPE_CHECKING:
    from costspan_dashboards.alerts.desk import Asked, Done

_UNITS = {"m": timedelta(minutes=1), "h": timedelta(hours=1), "d": timedelta(days=1)}
_DURATION = re.compile(r"(\d{1,4})([mhd])")


def add_alerts(commands: Any) -> None:  # noqa: ANN401 - argparse keeps the type of its subparsers private
    """Add `costspan alerts`."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "alerts", help="evaluate, replay, silence and acknowledge alerts"
    )
    actions = parser.add_subparsers(required=True, metavar="ACTION")
    check = _action(actions, "check", _check, "evaluate now, print, and keep and tell nothing")
    check.add_argument("--rule", default="", help="only this rule")
    backtest = _action(
        actions, "backtest", _backtest, "say when a rule would have fired on stored calls"
    )
    backtest.add_argument("--rule", default="", help="only this rule")
    backtest.add_argument(
        "--days", type=arguments.days, default=30, help="how many days, up to now"
    )
    backtest.add_argument(
        "--every", type=_minutes, default=1, help="minutes between evaluations; serve takes 1"
    )
    _action(actions, "test-notify", _test_notify, "send a test message through every channel")
    silence = _action(actions, "silence", _silence, "tell nobody of some alerts for a while")
    silence.add_argument("matcher", nargs="*", help="name=value; * stands for any text")
    silence.add_argument("--for", dest="duration", type=_duration, default=timedelta(hours=1))
    silence.add_argument("--author", default="")
    silence.add_argument("--comment", default="")
    silence.add_argument("--end", default="", metavar="ID", help="end a silence before its time")
    ack = _action(actions, "ack", _ack, "say that you have an alert: it is not told again")
    ack.add_argument("alert_id")
    ack.add_argument("--author", default="")
    ack.add_argument("--comment", default="")
    ack.add_argument("--close", action="store_true", help="close it while the cause goes on")


def _action(actions: Any, name: str, run: Any, text: str) -> argparse.ArgumentParser:  # noqa: ANN401 - as above
    action: argparse.ArgumentParser = actions.add_parser(name, help=text)
    action.add_argument("--json", action="store_true", help="print for a machine")
    action.set_defaults(run=run)
    return action


def _minutes(text: str) -> int:
    return arguments.number(text, 1, 60, "minutes")


def _duration(text: str) -> timedelta:
    found = _DURATION.fullmatch(text)
    if not found or not int(found[1]):
        msg = f"{text!r} is not a time such as 30m, 4h or 7d"
        raise argparse.ArgumentTypeError(msg)
    return int(found[1]) * _UNITS[found[2]]


def _check(args: argparse.Namespace) -> int:
    from pydantic import TypeAdapter

    from costspan_collector.settings import Pricing, read_settings
    from costspan_dashboards.alerts.evaluate import frame_now
    from costspan_dashboards.alerts.finding import Finding
    from costspan_dashboards.alerts.queries import open_alerts
    from costspan_dashboards.alerts.rules import judge
    from costspan_dashboards.alerts.settings import Alerts
    from costspan_dashboards.alerts.state import Alert
    from costspan_reconcile.command_store import command_store

    settings, book, now = read_settings(Alerts), read_settings(Pricing).book(), datetime.now(UTC)
    _known(args.rule)
    with command_store(change=False) as store:
        frame = frame_now(store, settings, now, book)
        findings = judge(frame, settings.limits, only=args.rule)
        alerts = open_alerts(store)
    if args.json:
        seen, known = TypeAdapter(tuple[Finding, ...]), TypeAdapter(list[Alert])
        document = {
            "at": now.isoformat(),
            "findings": seen.dump_python(findings, mode="json"),
            "open_alerts": known.dump_python(alerts, mode="json"),
        }
        print(json.dumps(document))
        return 0
    for one in findings:
        print(f"{one.severity:<7}{one.rule:<15}{one.title}")
        for fact in one.facts:
            print(f"{'':<22}{fact}")
    print(f"{len(findings)} found now; {len(alerts)} open alerts")
    for alert in alerts:
        print(f"{alert.alert_id}  {alert.shown_state:<13}{alert.finding.title}")
    return 0


def _backtest(args: argparse.Namespace) -> int:
    from dataclasses import asdict

    from costspan_collector.settings import read_settings
    from costspan_dashboards.alerts.backtest import LEFT_OUT, backtest
    from costspan_dashboards.alerts.settings import Alerts
    from costspan_reconcile.columns import as_text
    from costspan_reconcile.command_store import command_store

    settings, until = read_settings(Alerts), datetime.now(UTC)
    _known(args.rule)
    with command_store(change=False) as store:
        found = backtest(
            store,
            settings,
            until - timedelta(days=args.days),
            until,
            only=args.rule,
            every=timedelta(minutes=args.every),
            progress=_show if sys.stderr.isatty() else lambda _: None,
        )
    if args.json:
        print(json.dumps({**asdict(found), "left_out": LEFT_OUT}, default=as_text))
        return 0
    for one in found.episodes:
        ended = f"{one.ended_at:%Y-%m-%d %H:%M}" if one.ended_at else "goes on"
        print(f"{one.firing_since:%Y-%m-%d %H:%M} - {ended:<16} {one.severity:<7}{one.rule}")
        print(f"    {one.title}")
    print(
        f"{len(found.episodes)} episodes from {found.since:%Y-%m-%d %H:%M} to "
        f"{found.until:%Y-%m-%d %H:%M} UTC; {found.pages_a_week:.2f} pages and "
        f"{found.tickets_a_week:.2f} tickets a week"
    )
    print(f"calls that came late are taken as in time; not replayed: {', '.join(LEFT_OUT)}")
    return 0


def _show(at: datetime) -> None:
    sys.stderr.write(f"\rreplayed up to {at:%Y-%m-%d %H:%M} UTC\r")
    sys.stderr.flush()


def _test_notify(args: argparse.Namespace) -> int:
    from costspan_collector.settings import read_settings
    from costspan_dashboards.alerts.alertmanager import ALERTMANAGER, push
    from costspan_dashboards.alerts.channels import open_channels
    from costspan_dashboards.alerts.message import trial_message
    from costspan_dashboards.alerts.settings import Alerts

    settings, now = read_settings(Alerts), datetime.now(UTC)
    message = trial_message(settings.dashboard_url, now)
    outcomes = {channel.name: channel.send(message) for channel in open_channels(settings)}
    if settings.alertmanager_url.get_secret_value():
        outcomes[ALERTMANAGER] = push(settings, (), now)
    if args.json:
        print(json.dumps({name: one.detail or "delivered" for name, one in outcomes.items()}))
    else:
        for name, one in outcomes.items():
            print(f"{name:<20}{one.detail or 'delivered'}")
    return 0 if all(one.delivered for one in outcomes.values()) else 1


def _silence(args: argparse.Namespace) -> int:
    from costspan_dashboards.alerts.desk import ToEnd, ToSilence

    if args.end and args.matcher:
        msg = f"--end {args.end} ends one silence, by its id; leave out {' '.join(args.matcher)}"
        raise Rejected(msg)
    if args.end:
        done = _done(ToEnd(args.end))
    else:
        seconds = args.duration.total_seconds()
        done = _done(ToSilence(tuple(args.matcher), seconds, args.author, args.comment))
    (silence_id,), ends_at = done.ids, done.ends_at
    if args.json:
        print(
            json.dumps({"silence_id": silence_id, "ends_at": ends_at}, default=datetime.isoformat)
        )
    else:
        print(f"silence {silence_id} until {ends_at:%Y-%m-%d %H:%M} UTC")
    return 0


def _ack(args: argparse.Namespace) -> int:
    from costspan_dashboards.alerts.desk import ToAct

    done = _done(ToAct(args.alert_id, args.close, args.author, args.comment))
    kind = "close" if args.close else "acknowledge"
    if args.json:
        print(json.dumps({"alert_ids": done.ids, "kind": kind}))
    else:
        print(f"{', '.join(done.ids)}: {kind}; the next evaluation takes it up")
    return 0


def _done(asked: "Asked") -> "Done":
    """Do it, or let the `costspan serve` that has the store do it."""
    from costspan_collector.settings import ClickHouse, read_settings
    from costspan_dashboards.alerts.desk import do, hand_over
    from costspan_reconcile.command_store import command_store

    try:
        with command_store(change=True) as store:
            return do(store, asked, datetime.now(UTC))
    except Rejected as error:
        held = str(error).partition(";")[0]
        if "can only be read" in held:
            msg = f"{held}: use COSTSPAN_CLICKHOUSE_URL=chdb:///directory where it is, or the page"
            raise Rejected(msg) from error
        if "in use by another" not in held:
            raise
        done = hand_over(read_settings(ClickHouse).url, asked)
        if done is None:
            msg = (
                f"{held}, and that is no `costspan serve` that answers here; do it on its page "
                "Alerts if it has one, or when it ended"
            )
            raise Rejected(msg) from error
        return done


def _known(rule: str) -> None:
    from costspan_dashboards.alerts.rules import RULES

    if rule and rule not in RULES:
        msg = f"{rule!r} is no rule; rules are {', '.join(RULES)}"
        raise Rejected(msg)
