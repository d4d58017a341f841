from collections import Counter
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from costspan.pricing import default_book
from costspan.pricing.overrides import read_overrides
from costspan_collector.attributes import LONGEST_TEXT, Reason
from costspan_collector.normalise import Normalised, normalise
from costspan_collector.record import NO_PARENT, Call, HttpAttempt


def read(wire: Any, *spans: Span) -> Normalised:
    return normalise(wire.request(*spans), received_at=wire.now, ingest_id=7)


def read_call(wire: Any, span: Span) -> Call:
    result = read(wire, span)
    assert not result.refused
    (call,) = result.calls
    return call


def test_a_call_of_the_shim_fills_every_column(wire: Any) -> None:
    span = wire.span(
        1,
        parent_span_id=b"parent__",
        **{
            "openai.api.type": "chat_completions",
            "server.address": "api.openai.com",
            "openai.request.service_tier": "auto",
            "openai.response.service_tier": "default",
            "gen_ai.response.id": "chatcmpl-1",
            "costspan.request.id": "req_1",
            "costspan.organization": "org-1",
            "costspan.project": "proj_1",
            "costspan.key.fingerprint": "0123456789abcdef",
            "costspan.key.hint": "wxyz",
            "costspan.team": "search",
            "costspan.feature": "rerank",
            "costspan.user": "u-1",
            "costspan.customer": "acme",
            "costspan.prompt": "rerank-v2",
            "gen_ai.request.stream": True,
            "costspan.stream.outcome": "completed",
            "gen_ai.response.finish_reasons": ["stop", "length"],
            "gen_ai.response.time_to_first_chunk": 0.2503,
            "costspan.request.retries": 2,
            "gen_ai.usage.cache_read.input_tokens": 400,
            "gen_ai.usage.cache_creation.input_tokens": 5,
            "gen_ai.usage.reasoning.output_tokens": 30,
            "costspan.price.book": "book-1",
            "costspan.price.path": "gpt-4o-mini/standard/short",
        },
    )
    assert read_call(wire, span) == Call(
        started_at=wire.now - timedelta(hours=1) + timedelta(microseconds=1),
        trace_id=bytes(15) + b"\x01",
        span_id=bytes(7) + b"\x02",
        parent_span_id=b"parent__",
        service_name="shop",
        environment="production",
        scope_name="costspan",
        operation="chat",
        api_type="chat_completions",
        provider="openai",
        server_address="api.openai.com",
        request_model="gpt-4o-mini",
        response_model="gpt-4o-mini-2024-07-18",
        request_tier="auto",
        response_tier="default",
        response_id="chatcmpl-1",
        request_id="req_1",
        organization="org-1",
        project="proj_1",
        key_fingerprint="0123456789abcdef",
        key_hint="wxyz",
        team="search",
        feature="rerank",
        user="u-1",
        customer="acme",
        prompt="rerank-v2",
        streamed=True,
        stream_outcome="completed",
        finish_reasons=("stop", "length"),
        duration_us=1_500_000,
        time_to_first_chunk_us=250_300,
        retries=2,
        input_tokens=1000,
        cached_tokens=400,
        cache_write_tokens=5,
        output_tokens=100,
        reasoning_tokens=30,
        quantities={
            "input": Decimal(595),
            "cached_input": Decimal(400),
            "cache_write_30m": Decimal(5),
            "output": Decimal(100),
        },
        cost_usd=Decimal("0.00021"),
        list_cost_usd=Decimal("0.00021"),
        cost_parts_usd={"input": Decimal("0.00015"), "output": Decimal("0.00006")},
        price_status="priced",
        price_book="book-1",
        price_path="gpt-4o-mini/standard/short",
        received_at=wire.now,
        ingest_id=7,
    )


def test_an_attempt_is_a_row_of_its_own(wire: Any) -> None:
    span = wire.plain_span(
        3,
        {
            "costspan.request.attempt": 1,
            "http.request.method": "POST",
            "server.address": "api.openai.com",
            "http.response.status_code": 429,
            "error.type": "429",
        },
        parent_span_id=b"parent__",
    )
    assert read(wire, span).attempts == [
        HttpAttempt(
            started_at=wire.now - timedelta(hours=1) + timedelta(microseconds=3),
            trace_id=bytes(15) + b"\x01",
            span_id=bytes(7) + b"\x04",
            parent_span_id=b"parent__",
            service_name="shop",
            attempt=1,
            method="POST",
            server_address="api.openai.com",
            http_status=429,
            error_type="429",
            duration_us=1_500_000,
            received_at=wire.now,
            ingest_id=7,
        )
    ]


def test_spans_of_others_are_passed_by_and_counted(wire: Any) -> None:
    result = read(
        wire,
        wire.plain_span(1, {"http.request.method": "GET"}),
        wire.plain_span(2, {}, trace_id=b""),
        wire.span(3, **{"gen_ai.operation.name": "invoke_agent"}),
    )
    assert result == Normalised(
        wire.now,
        passed_by=Counter(not_genai=2, around_calls=1),
        fates=Counter(
            {("shop", "passed_by", "not_genai"): 2, ("shop", "passed_by", "around_calls"): 1}
        ),
    )


def test_what_was_not_reported_is_unknown_and_not_zero(wire: Any) -> None:
    call = read_call(wire, wire.plain_span(1, {"gen_ai.operation.name": "chat"}))
    assert (call.input_tokens, call.output_tokens, call.cost_usd) == (None, None, None)
    assert (call.time_to_first_chunk_us, call.price_status) == (None, "")
    assert call.parent_span_id == NO_PARENT


def test_a_null_attribute_is_as_good_as_absent(wire: Any) -> None:
    call = read_call(wire, wire.span(1, **{"gen_ai.usage.output_tokens": AnyValue()}))
    assert call.output_tokens is None


@pytest.mark.parametrize(
    "fields", [{"status": Status(code=Status.STATUS_CODE_ERROR)}, {"error.type": "TimeoutError"}]
)
def test_a_failed_span_is_an_error(wire: Any, fields: dict[str, Any]) -> None:
    assert read_call(wire, wire.span(1, **fields)).status == "error"
    assert read_call(wire, wire.span(1)).status == "ok"


def test_a_number_as_a_user_becomes_text(wire: Any) -> None:
    assert read_call(wire, wire.span(1, **{"costspan.user": 42})).user == "42"


def test_long_texts_are_cut_and_counted(wire: Any) -> None:
    long = "é" * (LONGEST_TEXT + 1)
    span = wire.span(
        1, **{"costspan.feature": long, "gen_ai.response.finish_reasons": [long, "ok"] * 100}
    )
    result = read(wire, span)
    assert result.calls[0].feature == long[:LONGEST_TEXT]
    assert len(result.calls[0].finish_reasons) == 128
    assert result.truncated == {"costspan.feature": 1, "gen_ai.response.finish_reasons": 65}


def test_a_sender_cannot_choose_what_is_counted(wire: Any) -> None:
    long = "x" * (LONGEST_TEXT + 1)
    chosen = {f"costspan.estimate.{number}": long for number in range(50)}
    assert read(wire, wire.span(1, **chosen)).truncated == {"costspan.estimate.": 50}


@pytest.mark.parametrize(
    ("changes", "reason", "says"),
    [
        ({"trace_id": bytes(16)}, Reason.BAD_ID, "all zeros"),
        ({"trace_id": b"short"}, Reason.BAD_ID, "trace id has 5 bytes"),
        ({"span_id": b""}, Reason.BAD_ID, "span id has 0 bytes"),
        ({"span_id": bytes(8)}, Reason.BAD_ID, "all zeros"),
        ({"parent_span_id": b"x"}, Reason.BAD_ID, "parent span id has 1 bytes"),
        ({"start_time_unix_nano": 0}, Reason.BAD_TIME, "before 2020"),
        ({"start_time_unix_nano": 2**64 - 1}, Reason.BAD_TIME, "more than a day from now"),
        ({"gen_ai.usage.input_tokens": "12"}, Reason.WRONG_TYPE, "string where a whole number"),
        ({"gen_ai.usage.input_tokens": 1.5}, Reason.WRONG_TYPE, "double where a whole number"),
        ({"gen_ai.usage.input_tokens": True}, Reason.WRONG_TYPE, "bool where a whole number"),
        ({"gen_ai.usage.output_tokens": -1}, Reason.OUT_OF_RANGE, "output_tokens is -1"),
        ({"gen_ai.usage.output_tokens": 2**40 + 1}, Reason.OUT_OF_RANGE, "not within"),
        ({"costspan.request.retries": 70000}, Reason.OUT_OF_RANGE, "retries"),
        ({"gen_ai.request.model": ["a"]}, Reason.WRONG_TYPE, "array where text"),
        ({"gen_ai.response.finish_reasons": [1]}, Reason.WRONG_TYPE, "a list of texts"),
        ({"gen_ai.request.stream": "yes"}, Reason.WRONG_TYPE, "true or false"),
        ({"gen_ai.response.time_to_first_chunk": "1"}, Reason.WRONG_TYPE, "seconds"),
        ({"gen_ai.response.time_to_first_chunk": float("nan")}, Reason.OUT_OF_RANGE, "nan"),
        ({"gen_ai.response.time_to_first_chunk": -0.1}, Reason.OUT_OF_RANGE, "-0.1"),
        ({"costspan.cost.usd": "free"}, Reason.BAD_COST, "not a decimal number"),
        ({"costspan.cost.usd": "NaN"}, Reason.BAD_COST, "not a decimal number"),
        ({"costspan.cost.usd": "٣"}, Reason.BAD_COST, "not a decimal number"),
        ({"costspan.cost.usd": "-0.1"}, Reason.BAD_COST, "negative"),
        ({"costspan.cost.usd": "1e6"}, Reason.BAD_COST, "a million dollars"),
        ({"costspan.cost.usd": "0.0000000000001"}, Reason.BAD_COST, "twelve decimal places"),
        ({"costspan.cost.usd": 0.1}, Reason.WRONG_TYPE, "double where text"),
        ({"costspan.cost.usd": "0.00022"}, Reason.BAD_COST, "sum to 210000000 pico-USD"),
        ({"costspan.cost.part.input": "1"}, Reason.WRONG_TYPE, "cost.part.input"),
        ({"costspan.cost.part.IN PUT": 1}, Reason.BAD_COST, "is no meter"),
        ({"costspan.usage.web_search": -1}, Reason.BAD_USAGE, "is not a quantity"),
        ({"costspan.usage.audio_seconds": "1e3"}, Reason.BAD_USAGE, "is not a quantity"),
        ({"costspan.usage.Web Search": 1}, Reason.BAD_USAGE, "is no meter"),
    ],
)
def test_a_bad_span_is_refused_with_what_is_wrong_and_where(
    wire: Any, changes: dict[str, Any], reason: Reason, says: str
) -> None:
    result = read(wire, wire.span(1), wire.span(2, **changes), wire.span(3))
    assert len(result.calls) == 2
    (refused,) = result.refused
    assert refused.reason is reason
    assert says in refused.detail
    assert refused.span.startswith("span 1 (trace ")


def test_a_bad_resource_refuses_its_spans_only(wire: Any) -> None:
    request = wire.request(wire.span(1))
    request.resource_spans[0].resource.attributes[0].value.CopyFrom(AnyValue(bool_value=True))
    request.MergeFrom(wire.request(wire.span(2)))
    result = normalise(request, received_at=wire.now, ingest_id=1)
    assert [call.span_id[-1] for call in result.calls] == [3]
    assert [refused.reason for refused in result.refused] == [Reason.WRONG_TYPE]


def test_what_a_refused_attribute_held_is_not_repeated(wire: Any) -> None:
    secret = "sk-very-secret"
    for name in ("gen_ai.usage.input_tokens", "costspan.cost.usd", "gen_ai.request.stream"):
        (refused,) = read(wire, wire.span(1, **{name: secret})).refused
        assert secret not in str(refused)


@pytest.mark.parametrize("text", ["0", "0.000471", "4.71E-4", "999999.999999999999"])
def test_a_cost_is_kept_to_its_last_digit(wire: Any, text: str) -> None:
    without = ("costspan.cost.part.input", "costspan.cost.part.output")
    call = read_call(wire, wire.span(1, *without, **{"costspan.cost.usd": text}))
    assert call.cost_usd == Decimal(text)


OTHERS = (
    "gen_ai.provider.name",
    "gen_ai.usage.input_tokens",
    "gen_ai.usage.output_tokens",
    "costspan.cost.usd",
    "costspan.cost.part.input",
    "costspan.cost.part.output",
    "costspan.price.status",
)


def test_an_older_instrumentation_is_understood_and_priced_here(wire: Any) -> None:
    span = wire.span(
        1,
        *OTHERS,
        "gen_ai.operation.name",
        **{
            "gen_ai.system": "openai",
            "llm.request.type": "chat",
            "gen_ai.usage.prompt_tokens": 1000,
            "gen_ai.usage.completion_tokens": 100,
        },
    )
    call = read_call(wire, span)
    assert (call.operation, call.provider) == ("chat", "openai")
    assert (call.input_tokens, call.output_tokens) == (1000, 100)
    assert call.cost_usd == Decimal("0.00021")
    assert call.cost_parts_usd == {"input": Decimal("0.00015"), "output": Decimal("0.00006")}
    assert call.price_status == "priced"
    assert call.price_book == default_book().version
    assert call.price_path == "gpt-4o-mini/standard/short"


OF_OPENINFERENCE = {
    "openinference.span.kind": "LLM",
    "llm.system": "openai",
    "llm.model_name": "gpt-4o-mini",
    "llm.token_count.prompt": 1000,
    "llm.token_count.prompt_details.cache_read": 200,
    "llm.token_count.completion": 100,
    "llm.token_count.completion_details.reasoning": 40,
    "llm.token_count.total": 1100,
}
BEFORE_GEN_AI = {
    "llm.vendor": "OpenAI",
    "llm.request.model": "gpt-4o-mini",
    "llm.response.model": "gpt-4o-mini-2024-07-18",
    "llm.usage.prompt_tokens": 1000,
    "llm.usage.completion_tokens": 100,
    "llm.usage.total_tokens": 1100,
}


@pytest.mark.parametrize(
    ("attributes", "row"),
    [
        (OF_OPENINFERENCE, ("chat", "openai", 1000, 200, 100, 40, Decimal("0.000195"))),
        (BEFORE_GEN_AI, ("", "OpenAI", 1000, None, 100, None, Decimal("0.00021"))),
        (
            {
                "openinference.span.kind": "EMBEDDING",
                "embedding.model_name": "text-embedding-3-small",
                "llm.token_count.total": 1000,
            },
            ("embeddings", "", 1000, None, None, None, Decimal("0.00002")),
        ),
    ],
    ids=["OpenInference", "before gen_ai", "embeddings that tell a total only"],
)
def test_names_from_before_and_beside_opentelemetry_are_understood_and_priced_here(
    wire: Any, attributes: dict[str, Any], row: tuple[Any, ...]
) -> None:
    call = read_call(wire, wire.plain_span(1, attributes))
    assert row == (
        call.operation,
        call.provider,
        call.input_tokens,
        call.cached_tokens,
        call.output_tokens,
        call.reasoning_tokens,
        call.cost_usd,
    )


def test_a_step_of_openinference_that_holds_calls_is_passed_by(wire: Any) -> None:
    steps = [
        wire.plain_span(number, {**OF_OPENINFERENCE, "openinference.span.kind": kind})
        for number, kind in enumerate(("CHAIN", "AGENT", "TOOL"))
    ]
    result = read(wire, *steps)
    assert (result.calls, result.passed_by) == ([], {"around_calls": 3})


@pytest.mark.parametrize(("ends", "reason"), [(0, "ends_before_start"), (2**64 - 1, "ends_ahead")])
def test_a_call_whose_end_cannot_be_true_is_kept_and_counted(
    wire: Any, ends: int, reason: str
) -> None:
    result = read(wire, wire.span(1, end_time_unix_nano=ends))
    (call,) = result.calls
    assert (call.duration_us, call.cost_usd) == (0, Decimal("0.00021"))
    assert (result.clamped, result.refused) == ({reason: 1}, [])


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({"gen_ai.response.model": "gpt-unheard-of"}, "unknown_model"),
        ({"server.address": "llm.example.com"}, "unknown_model"),
        ({"gen_ai.provider.name": "anthropic"}, "unknown_model"),
        ({"openai.response.service_tier": "scale"}, "prepaid_tier"),
        ({"gen_ai.usage.cache_read.input_tokens": 1001}, "invalid_usage"),
        (
            {"gen_ai.response.model": "gpt-4.1", "gen_ai.usage.input_tokens": 2**40},
            "invalid_usage",
        ),
    ],
)
def test_what_cannot_be_priced_has_no_cost_and_says_why(
    wire: Any, changes: dict[str, Any], status: str
) -> None:
    tokens = {"gen_ai.usage.input_tokens": 1000, "gen_ai.usage.output_tokens": 100}
    call = read_call(wire, wire.span(1, *OTHERS, **{**tokens, **changes}))
    assert (call.cost_usd, call.cost_parts_usd, call.price_status) == (None, {}, status)


NEGOTIATED = default_book().contracted(
    read_overrides('[[override]]\nname = "acme"\nmatch = { model = "gpt-4o*" }\npercent_off = "10"')
)


@pytest.mark.parametrize("without", [(), OTHERS], ids=["priced by the shim", "tokens only"])
def test_a_negotiated_price_is_the_cost_and_the_list_price_stays_beside_it(
    wire: Any, without: tuple[str, ...]
) -> None:
    tokens = {"gen_ai.usage.input_tokens": 1000, "gen_ai.usage.output_tokens": 100}
    span = wire.span(1, *without, **tokens)
    result = normalise(wire.request(span), received_at=wire.now, ingest_id=1, book=NEGOTIATED)
    (call,) = result.calls
    assert (call.cost_usd, call.list_cost_usd) == (Decimal("0.000189"), Decimal("0.00021"))
    assert call.cost_parts_usd == {"input": Decimal("0.000135"), "output": Decimal("0.000054")}
    assert (call.price_overrides, call.price_book) == (("acme",), NEGOTIATED.version)


def test_a_call_that_no_negotiated_price_holds_for_is_as_it_came(wire: Any) -> None:
    span = wire.span(1, **{"gen_ai.response.model": "gpt-5.4", "costspan.price.book": "book-1"})
    result = normalise(wire.request(span), received_at=wire.now, ingest_id=7, book=NEGOTIATED)
    assert result.calls == [read_call(wire, span)]
    assert result.calls[0].price_book == "book-1"


def test_quantities_that_have_no_opentelemetry_name_are_kept_exactly(wire: Any) -> None:
    span = wire.span(
        1,
        *OTHERS[3:],
        **{
            "costspan.price.status": "unknown_model",
            "gen_ai.usage.cache_creation.input_tokens": 30,
            "costspan.usage.cache_write_12h": 20,
            "costspan.usage.audio_seconds": "8.470000267028809",
            "costspan.usage.web_search": 3,
            "costspan.usage.image_tool/gpt-image-2/image_output": 272,
            "costspan.usage.accepted_prediction_tokens": 40,
        },
    )
    assert read_call(wire, span).quantities == {
        "input": Decimal(970),
        "cache_write_30m": Decimal(10),
        "cache_write_12h": Decimal(20),
        "output": Decimal(100),
        "audio_seconds": Decimal("8.470000267028809"),
        "web_search": Decimal(3),
        "image_tool/gpt-image-2/image_output": Decimal(272),
    }


def test_a_cost_for_more_than_the_span_tells_has_no_quantities_to_price_again(wire: Any) -> None:
    span = wire.span(1, **{"costspan.cost.part.web_search": 10**10, "costspan.cost.usd": "0.01021"})
    call = read_call(wire, span)
    assert (call.cost_usd, call.quantities) == (Decimal("0.01021"), {})


def test_cached_tokens_of_no_known_modality_stay_without_a_price(wire: Any) -> None:
    span = wire.span(
        1,
        *OTHERS[3:],
        **{
            "costspan.price.status": "unpriced_component",
            "gen_ai.usage.audio.input_tokens": 900,
            "gen_ai.usage.cache_read.input_tokens": 500,
            "costspan.usage.unsplit_cached_input": 500,
        },
    )
    assert read_call(wire, span).quantities["unsplit_cached_input"] == 500


def test_a_status_that_was_sent_is_not_priced_over(wire: Any) -> None:
    without = [name for name in OTHERS if not name.startswith("gen_ai")]
    call = read_call(wire, wire.span(1, *without, **{"costspan.price.status": "unknown_tier"}))
    assert (call.cost_usd, call.price_status) == (None, "unknown_tier")


def test_the_bounds_of_an_estimate_stand_beside_a_cost_that_is_unknown(wire: Any) -> None:
    span = wire.span(
        1,
        *OTHERS,
        **{
            "costspan.price.status": "estimated",
            "costspan.estimate.input_tokens": 12,
            "costspan.estimate.low_usd": "0.0000018",
            "costspan.estimate.missing": ["tools", "images"],
        },
    )
    call = read_call(wire, span)
    assert (call.cost_usd, call.input_tokens, call.price_status) == (None, None, "estimated")
    assert call.estimate == {
        "input_tokens": "12",
        "low_usd": "0.0000018",
        "missing": "tools, images",
    }


def test_times_are_whole_microseconds(wire: Any) -> None:
    start = int(datetime(2026, 11, 20, 11, tzinfo=UTC).timestamp()) * 10**9 + 123_456_789
    call = read_call(
        wire, wire.span(1, start_time_unix_nano=start, end_time_unix_nano=start + 1_999)
    )
    assert call.started_at == datetime(2026, 11, 20, 11, 0, 0, 123_456, tzinfo=UTC)
    assert call.duration_us == 1
