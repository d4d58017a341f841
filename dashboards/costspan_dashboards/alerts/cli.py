"""`costspan alerts`."""

import argparse
import json
import re
import sys
from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from costspan.errors import Rejected
from costspan_reconcile import arguments

if TYPE_CHECKING:
    from costspan_collector.store import Store

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
    from costspan_dashboards.alerts.silences import end_silence, matchers, silence, silences

    now = datetime.now(UTC)
    if args.end and args.matcher:
        msg = f"--end {args.end} ends one silence, by its id; leave out {' '.join(args.matcher)}"
        raise Rejected(msg)
    if not args.end:
        about = matchers(args.matcher)
        with _writable() as store:
            made = silence(store, about, args.author, args.comment, now + args.duration, now)
    else:
        with _writable() as store:
            known = {one.silence_id: one for one in silences(store, now)}
            if args.end not in known:
                msg = f"no silence {args.end} goes on; known are {', '.join(known) or 'none'}"
                raise Rejected(msg)
            made = known[args.end]
            end_silence(store, made, now)
    said = {"silence_id": made.silence_id, "ends_at": (now if args.end else made.ends_at)}
    if args.json:
        print(json.dumps(said, default=datetime.isoformat))
    else:
        print(f"silence {made.silence_id} until {said['ends_at']:%Y-%m-%d %H:%M} UTC")
    return 0


def _ack(args: argparse.Namespace) -> int:
    from costspan_dashboards.alerts.incidents import members
    from costspan_dashboards.alerts.queries import live_alerts
    from costspan_dashboards.alerts.silences import act_on

    with _writable() as store:
        known = {one.alert_id: one for one in live_alerts(store)}
        if args.alert_id not in known:
            msg = f"no alert {args.alert_id} goes on; known are {', '.join(known) or 'none'}"
            raise Rejected(msg)
        kind = "close" if args.close else "acknowledge"
        alert = known[args.alert_id]
        incident = [alert, *(members(alert, known.values()) if alert.incident else ())]
        act_on(store, incident, kind, args.author, args.comment, datetime.now(UTC))
    ids = [one.alert_id for one in incident]
    if args.json:
        print(json.dumps({"alert_ids": ids, "kind": kind}))
    else:
        print(f"{', '.join(ids)}: {kind}; the next evaluation takes it up")
    return 0


@contextmanager
def _writable() -> Generator["Store"]:
    from costspan_reconcile.command_store import command_store

    with ExitStack() as stack:
        try:
            store = stack.enter_context(command_store(change=True))
        except Rejected as error:
            if not any(sign in str(error) for sign in ("in use by another", "can only be read")):
                raise
            held = str(error).partition(";")[0]
            msg = f"{held}: do it on the page Alerts of the `costspan serve` that has the store"
            raise Rejected(msg) from error
        yield store


def _known(rule: str) -> None:
    from costspan_dashboards.alerts.rules import RULES

    if rule and rule not in RULES:
        msg = f"{rule!r} is no rule; rules are {', '.join(RULES)}"
        raise Rejected(msg)
