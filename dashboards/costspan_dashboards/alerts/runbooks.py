"""What to do about an alert, by rule: where the link in a message leads."""

from collections.abc import Mapping

RUNBOOKS: Mapping[str, str] = {
    "errors": "Open the calls and read their error kind. server_error and timeout on all features "
    "are the provider's: look at its status page and fail over. One feature alone is ours: roll "
    "back what was deployed at the first failure. invalid_request is a request we build wrongly. What "
    "uses up the objective slowly is best told by the largest kind of error of the last days.",
    "rate_limited": "Lower the rate where the cause is, or ask for a higher limit of that model. "
    "Retries without a wait make it worse.",
    "latency": "See which signal it is: time to first token and speed are the provider's, more "
    "output tokens are a prompt's. Move to another model or a shorter answer.",
    "spend": "Open the calls, dearest first. Volume: find who calls. Price or model mix: find the "
    "deploy. Mark it as planned if it is meant.",
    "entity_spend": "One user, key or feature spends far more than before. Never seen before: take "
    "it for a leaked key and revoke it. A service account: look for a loop, and stop it.",
    "unit_cost": "A call costs more than before. Compare the prompt version and the model with "
    "those of last week.",
    "cache": "Less of the input comes from the cache. Look for something that changes at the "
    "beginning of the prompt, such as a date.",
    "price_change": "The price book has another price. Nothing to do, unless the budget is short.",
    "budget": "See who spends it on the page Spend. Lower that, or raise the budget in alerts.toml.",
    "retries": "Each call is tried more often. Look at the kind of error, and at the last change "
    "of the client's retries.",
    "no_data": "No call arrives: see whether the apps call at all, then whether the collector "
    "answers (/healthz), then what lies between. All other alerts about calls wait for it.",
    "traffic_drop": "A feature is hardly called. Close the alert if it was removed.",
    "unpriced": "The model has no price in the book. Add one with COSTSPAN_PRICING_OVERRIDES, or "
    "update costspan, then run `costspan reprice`.",
    "late": "Spans arrive after the watermark. Look at the exporters' queues and the network.",
    "clock": "A host's clock is wrong: mend its time service.",
    "channel_down": "Messages do not arrive through a channel. See its last answer below, and send "
    "a test with `costspan alerts test-notify`.",
    "collector_loss": "Spans were not kept. See the reasons in /metrics. What is in the quarantine, "
    "beside the spool, is tried again once it is moved back there; if apps gave spans up, see that "
    "they reach the collector.",
    "store_unhealthy": "The store takes no rows. See its disk, its log and /healthz; spans wait on "
    "the collector's disk meanwhile.",
    "price_book_old": "Look the prices up at OpenAI. Update costspan for a newer price book, or give "
    "them in COSTSPAN_PRICING_OVERRIDES; then run `costspan reprice`.",
    "reconciliation_drift": "Open the page Reconciliation on the days that are named.",
    "billing_key_failing": "See that COSTSPAN_RECONCILE_ADMIN_KEY is still valid and may read costs.",
    "rule_fails": "A rule of the alerts broke; the others go on. The server's log has the error: "
    "report it. Until it is mended, name the rule under `disabled` in alerts.toml.",
    "job_late": "A job did not run or fails. Its last answer is in the alert; see the server's log.",
}
