"""OTLP spans in, rows out. A bad span is refused alone, with a reason; nothing is guessed."""

import re
from collections import Counter
from collections.abc import Container, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal, localcontext

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import InstrumentationScope
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from costspan import semconv
from costspan.errors import InvalidUsage
from costspan.money import PICO_PER_USD, from_pico
from costspan.pricing import Book, Price, default_book, price
from costspan.pricing import Status as PriceStatus
from costspan.quantities import exact, flat, part_of, quantity, whole
from costspan.usage import Quantity, Usage, read_usage
from costspan_collector.attributes import MOST_ATTRIBUTES, Attributes, BadSpan, Reason
from costspan_collector.record import NO_PARENT, Call, HttpAttempt, SenderCount, Sent
from costspan_collector.senders import told

_OLD_SYSTEM = "gen_ai.system"
_OLD_REQUEST_TYPE = "llm.request.type"
_OLD_REQUEST_MODEL = "llm.request.model"
OPENINFERENCE = "openinference.span.kind"
GENAI = (semconv.OPERATION, _OLD_SYSTEM, _OLD_REQUEST_TYPE, _OLD_REQUEST_MODEL, OPENINFERENCE)
INPUT_TOKENS = (
    semconv.INPUT_TOKENS,
    "gen_ai.usage.prompt_tokens",
    "llm.usage.prompt_tokens",
    "llm.token_count.prompt",
)
ALL_TOKENS = ("gen_ai.usage.total_tokens", "llm.usage.total_tokens", "llm.token_count.total")
"""Of embeddings some tell no others; they have no output."""
OUTPUT_TOKENS = (
    semconv.OUTPUT_TOKENS,
    "gen_ai.usage.completion_tokens",
    "llm.usage.completion_tokens",
    "llm.token_count.completion",
)
CACHED_TOKENS = (
    semconv.CACHED_TOKENS,
    "gen_ai.usage.cache_read_input_tokens",
    "llm.token_count.prompt_details.cache_read",
)
CACHE_WRITE_TOKENS = (
    semconv.CACHE_WRITE_TOKENS,
    "gen_ai.usage.cache_creation_input_tokens",
    "llm.token_count.prompt_details.cache_write",
)
REASONING_TOKENS = (
    semconv.REASONING_TOKENS,
    "gen_ai.usage.reasoning_tokens",
    "llm.token_count.completion_details.reasoning",
)
AUDIO_INPUT_TOKENS = (semconv.AUDIO_INPUT_TOKENS, "llm.token_count.prompt_details.audio")
AUDIO_OUTPUT_TOKENS = (semconv.AUDIO_OUTPUT_TOKENS, "llm.token_count.completion_details.audio")
HTTP_METHOD = (semconv.HTTP_METHOD, "http.method")
HTTP_ADDRESS = (semconv.SERVER_ADDRESS, "net.peer.name")
HTTP_STATUS = (semconv.HTTP_STATUS, "http.status_code")
_ENVIRONMENT = (semconv.ENVIRONMENT, "deployment.environment")

_AROUND_CALLS = frozenset({"invoke_agent", "create_agent", "execute_tool", "invoke_workflow"})
"""Operations that hold calls and may carry the sum of their tokens: kept, they would count twice."""

_EMBEDDINGS = frozenset({"embeddings", "embedding"})
_KINDS = {"LLM": "chat", "EMBEDDING": "embeddings"}
"""Of OpenInference, as operations; its others hold calls, or are none."""

TEXTS: dict[str, tuple[str, ...]] = {
    "operation": (semconv.OPERATION, _OLD_REQUEST_TYPE),
    "api_type": (semconv.API_TYPE,),
    "provider": (semconv.PROVIDER, _OLD_SYSTEM, "llm.provider", "llm.system", "llm.vendor"),
    "server_address": (semconv.SERVER_ADDRESS,),
    "request_model": (
        semconv.REQUEST_MODEL,
        _OLD_REQUEST_MODEL,
        "llm.model_name",
        "embedding.model_name",
    ),
    "response_model": (semconv.RESPONSE_MODEL, "llm.response.model"),
    "request_tier": (semconv.REQUEST_TIER, "gen_ai.openai.request.service_tier"),
    "response_tier": (semconv.RESPONSE_TIER, "gen_ai.openai.response.service_tier"),
    "response_id": (semconv.RESPONSE_ID,),
    "request_id": (semconv.REQUEST_ID,),
    "organization": (semconv.ORGANIZATION,),
    "project": (semconv.PROJECT,),
    "key_fingerprint": (semconv.KEY_FINGERPRINT,),
    "key_hint": (semconv.KEY_HINT,),
    "team": (semconv.TEAM,),
    "feature": (semconv.FEATURE,),
    "user": (semconv.USER,),
    "customer": (semconv.CUSTOMER,),
    "prompt": (semconv.PROMPT,),
    "stream_outcome": (semconv.STREAM_OUTCOME,),
    "error_type": (semconv.ERROR_TYPE,),
    "error_code": (semconv.ERROR_CODE,),
}
"""Columns of `calls` that are texts, each with its attribute and older names of it."""

_MOST_TOKENS = 2**40
_MOST_UINT16 = 2**16 - 1
_MOST_PICO = 10**18 - 1
"""What Decimal(18, 12) holds: just under a million dollars, for one call."""
_NUMBER = re.compile(r"-?\d{1,40}(\.\d{1,40})?([eE][-+]?\d{1,2})?", re.ASCII)
METER = re.compile(r"[a-z0-9_]{1,64}", re.ASCII)
_QUANTITY = re.compile(r"\d{1,16}(\.\d{1,20})?", re.ASCII)
"""What Decimal(38, 20) holds: no call comes near 10^16 of anything."""
_QUANTITY_NAME = re.compile(r"([\w-]{1,64}/[!-~]{1,256}/)?[a-z0-9_]{1,64}", re.ASCII)
_DECISION = "decision_input"
PREDICTIONS = frozenset({semconv.ACCEPTED_PREDICTION_TOKENS, semconv.REJECTED_PREDICTION_TOKENS})
"""Named as quantities are, but inside the output."""

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_EARLIEST = datetime(2020, 1, 1, tzinfo=UTC)
_AHEAD = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Refused:
    """A span that can never be kept."""

    span: str
    """Which one: its place in the request and its ids."""
    reason: Reason
    detail: str

    def __str__(self) -> str:
        return f"{self.span}: {self.detail}"


@dataclass(frozen=True, slots=True)
class Normalised:
    """What became of the spans of one request: every span is in one of the first five."""

    received_at: datetime
    calls: list[Call] = field(default_factory=list[Call])
    attempts: list[HttpAttempt] = field(default_factory=list[HttpAttempt])
    sent: list[Sent] = field(default_factory=list[Sent])
    """Spans that the engine reads; what becomes of them is known then."""
    refused: list[Refused] = field(default_factory=list[Refused])
    passed_by: Counter[str] = field(default_factory=Counter[str])
    """Spans that are nothing of ours, by reason."""
    truncated: Counter[str] = field(default_factory=Counter[str])
    """Texts that were too long, by attribute."""
    clamped: Counter[str] = field(default_factory=Counter[str])
    """Spans whose end cannot be true, by reason. They are kept, as if they took no time."""
    fates: Counter[tuple[str, str, str]] = field(default_factory=Counter[tuple[str, str, str]])
    """All spans but those `sent`: by service, what became of them, and the reason."""
    senders: list[SenderCount] = field(default_factory=list[SenderCount])
    """What the apps say of their spans."""
    size_bytes: int = 0
    """Of the request, unpacked."""

    def __len__(self) -> int:
        """Return how many spans there were."""
        return self.fates.total() + sum(sent.spans for sent in self.sent)

    def refuse(self, refused: Refused, service_name: str = "") -> None:
        """Add a span that can never be kept."""
        self.refused.append(refused)
        self.fates[service_name, "refused", refused.reason] += 1

    def pass_by(self, reason: str, service_name: str) -> None:
        """Count a span that is nothing of ours."""
        self.passed_by[reason] += 1
        self.fates[service_name, "passed_by", reason] += 1


def normalise(
    request: ExportTraceServiceRequest,
    *,
    received_at: datetime,
    ingest_id: int,
    book: Book | None = None,
    without: Container[int] = (),
) -> Normalised:
    """Return the rows that the spans of `request` make, without those at some places in it.

    `book` prices the calls that come without a price, and holds what was negotiated.
    """
    book = book or default_book()
    result = Normalised(received_at, senders=list(told(request, received_at)))
    spans = _spans(request, without, result.truncated)
    for index, span, scope_name, resource, service in spans:
        reader = _Reader(span, scope_name, resource, received_at, ingest_id, book, result)
        own = reader.own
        try:
            reader.bound()
            if any(name in own for name in GENAI):
                if reader.is_around_calls():
                    result.pass_by("around_calls", service)
                else:
                    result.calls.append(reader.call())
                    result.fates[service, "calls", ""] += 1
            elif semconv.ATTEMPT in own:
                result.attempts.append(reader.attempt())
                result.fates[service, "http_attempts", ""] += 1
            else:
                result.pass_by("not_genai", service)
        except BadSpan as error:
            where = f"span {index} (trace {_hex(span.trace_id)}, span {_hex(span.span_id)})"
            result.refuse(Refused(where, error.reason, str(error)), service)
    return result


def _spans(
    request: ExportTraceServiceRequest, without: Container[int], truncated: Counter[str]
) -> Iterator[tuple[int, Span, str, Attributes, str]]:
    first = 0
    for resource_spans in request.resource_spans:
        resource = Attributes(resource_spans.resource.attributes, truncated)
        service = _service_name(resource)
        for scope_spans in resource_spans.scope_spans:
            name = resource.cut("scope.name", scope_spans.scope.name)
            following = first + len(scope_spans.spans)
            # By number: to make an object of a span that is left out costs more than all else here.
            for index in range(first, following):
                if index not in without:
                    yield index, scope_spans.spans[index - first], name, resource, service
            first = following


@dataclass(frozen=True, slots=True)
class Origin:
    """What the spans of one scope have in common."""

    service_name: str
    environment: str
    scope_name: str


def origin(resource: Resource, scope: InstrumentationScope) -> Origin | None:
    """Return whence the spans of a scope come; None where that cannot be kept as it is."""
    cut: Counter[str] = Counter()
    own = Attributes(resource.attributes, cut)
    try:
        found = Origin(
            own.text(semconv.SERVICE_NAME), own.text(*_ENVIRONMENT), own.cut("scope", scope.name)
        )
    except BadSpan:
        return None
    return None if cut or own.number > MOST_ATTRIBUTES else found


def times_taken(received_at: datetime) -> tuple[int, int]:
    """Return the earliest and the latest time, in nanoseconds, that a span may tell."""
    earliest, latest = (
        (time - EPOCH) // timedelta(microseconds=1) * 1000
        for time in (_EARLIEST, received_at + _AHEAD)
    )
    return earliest, latest


def _service_name(resource: Attributes) -> str:
    try:
        return resource.text(semconv.SERVICE_NAME)
    except BadSpan:  # each of its spans is refused for it
        return ""


@dataclass(slots=True)
class _Reader:
    """Reads one span."""

    span: Span
    scope_name: str
    resource: Attributes
    received_at: datetime
    ingest_id: int
    book: Book
    result: Normalised
    own: Attributes = field(init=False)

    def __post_init__(self) -> None:
        self.own = Attributes(self.span.attributes, self.result.truncated)

    def bound(self) -> None:
        for whose, some in (("it", self.own), ("its resource", self.resource)):
            if some.number > MOST_ATTRIBUTES:
                msg = f"{whose} has {some.number} attributes, more than {MOST_ATTRIBUTES}"
                raise BadSpan(Reason.TOO_MANY_ATTRIBUTES, msg)

    def is_around_calls(self) -> bool:
        if operation := self.own.text(*TEXTS["operation"]):
            return operation in _AROUND_CALLS
        return self.own.text(OPENINFERENCE) not in {"", *_KINDS}

    def call(self) -> Call:
        own = self.own
        trace_id, span_id, parent_span_id = self.ids()
        started_at, duration_us = self.times()
        texts = {column: own.text(*names) for column, names in TEXTS.items()}
        texts["operation"] = texts["operation"] or _KINDS.get(own.text(OPENINFERENCE), "")
        first_chunk_us = own.microseconds(semconv.TIME_TO_FIRST_CHUNK)
        or_all = ALL_TOKENS if texts["operation"] in _EMBEDDINGS else ()
        input_tokens = own.count(*INPUT_TOKENS, *or_all, most=_MOST_TOKENS)
        usage = self.usage(input_tokens)
        cost = self.cost()
        if cost.status:
            cost = self.negotiated(cost, usage, texts, started_at)
        elif input_tokens is not None and cost.usd is None:
            cost = self.price(usage, texts, started_at)
        return Call(
            started_at=started_at,
            trace_id=trace_id,
            span_id=span_id,
            parent_span_id=parent_span_id,
            service_name=self.resource.text(semconv.SERVICE_NAME),
            environment=self.resource.text(*_ENVIRONMENT),
            scope_name=self.scope_name,
            streamed=(
                own.flag(semconv.REQUEST_STREAM)
                or first_chunk_us is not None
                or bool(texts["stream_outcome"])
            ),
            finish_reasons=own.texts(semconv.FINISH_REASONS),
            duration_us=duration_us,
            time_to_first_chunk_us=first_chunk_us,
            retries=own.count(semconv.RETRIES, most=_MOST_UINT16) or 0,
            status="error" if self.failed() else "ok",
            input_tokens=input_tokens,
            cached_tokens=own.count(*CACHED_TOKENS, most=_MOST_TOKENS),
            cache_write_tokens=own.count(*CACHE_WRITE_TOKENS, most=_MOST_TOKENS),
            output_tokens=own.count(*OUTPUT_TOKENS, most=_MOST_TOKENS),
            reasoning_tokens=own.count(*REASONING_TOKENS, most=_MOST_TOKENS),
            quantities=_kept(usage, cost),
            cost_usd=cost.usd,
            list_cost_usd=cost.list_usd,
            cost_parts_usd=cost.parts_usd,
            price_status=cost.status,
            price_book=cost.book,
            price_path=cost.path,
            price_overrides=cost.overrides,
            estimate={
                name.removeprefix(semconv.ESTIMATE): ", ".join(own.texts(name))
                for name in own.starting_with(semconv.ESTIMATE)
            },
            received_at=self.received_at,
            ingest_id=self.ingest_id,
            **texts,
        )

    def attempt(self) -> HttpAttempt:
        own = self.own
        trace_id, span_id, parent_span_id = self.ids()
        started_at, duration_us = self.times()
        return HttpAttempt(
            started_at=started_at,
            trace_id=trace_id,
            span_id=span_id,
            parent_span_id=parent_span_id,
            service_name=self.resource.text(semconv.SERVICE_NAME),
            attempt=own.count(semconv.ATTEMPT, most=_MOST_UINT16) or 0,
            method=own.text(*HTTP_METHOD),
            server_address=own.text(*HTTP_ADDRESS),
            http_status=own.count(*HTTP_STATUS, most=999) or 0,
            error_type=own.text(semconv.ERROR_TYPE),
            duration_us=duration_us,
            received_at=self.received_at,
            ingest_id=self.ingest_id,
        )

    def failed(self) -> bool:
        return self.span.status.code == Status.STATUS_CODE_ERROR or semconv.ERROR_TYPE in self.own

    def ids(self) -> tuple[bytes, bytes, bytes]:
        span = self.span
        parent = span.parent_span_id or NO_PARENT
        for name, value, length in (
            ("trace id", span.trace_id, 16),
            ("span id", span.span_id, 8),
            ("parent span id", parent, 8),
        ):
            if len(value) != length:
                raise BadSpan(Reason.BAD_ID, f"its {name} has {len(value)} bytes, not {length}")
        if not any(span.trace_id) or not any(span.span_id):
            raise BadSpan(Reason.BAD_ID, "its trace id or span id is all zeros")
        return span.trace_id, span.span_id, parent

    def times(self) -> tuple[datetime, int]:
        start, end = self.span.start_time_unix_nano, self.span.end_time_unix_nano
        earliest, latest = times_taken(self.received_at)
        if not earliest <= start <= latest:
            # It decides the day and the price, and which call it is, so no other will do.
            raise BadSpan(Reason.BAD_TIME, "it starts before 2020 or more than a day from now")
        if not start <= end <= latest:
            self.result.clamped["ends_before_start" if end < start else "ends_ahead"] += 1
            end = start
        return EPOCH + timedelta(microseconds=start // 1000), (end - start) // 1000

    def cost(self) -> "_Cost":
        """Return the cost that came with the span."""
        own = self.own
        parts: dict[str, int] = {}
        for name in own.starting_with(semconv.COST_PART):
            meter = name.removeprefix(semconv.COST_PART)
            if not METER.fullmatch(meter):
                raise BadSpan(Reason.BAD_COST, f"a name after {semconv.COST_PART} is no meter")
            pico = own.count(name, most=_MOST_PICO)
            if pico is not None:
                parts[meter] = pico
        text = own.text(semconv.COST_USD)
        total = _pico(text) if text else None
        if total is not None and parts and sum(parts.values()) != total:
            raise BadSpan(
                Reason.BAD_COST,
                f"its cost parts sum to {sum(parts.values())} pico-USD, not to {total}",
            )
        cost = None if total is None else from_pico(total)
        return _Cost(
            cost,
            cost,
            {meter: from_pico(pico) for meter, pico in parts.items()},
            own.text(semconv.PRICE_STATUS),
            own.text(semconv.PRICE_BOOK),
            own.text(semconv.PRICE_PATH),
        )

    def negotiated(
        self, listed: "_Cost", usage: Usage | None, texts: dict[str, str], started_at: datetime
    ) -> "_Cost":
        """Return a list price that came with a span, or what was negotiated instead."""
        if not self.book.overrides or listed.status != PriceStatus.PRICED or usage is None:
            return listed
        found = _cost(self.priced(usage, texts, started_at))
        return found if found.overrides else listed

    def price(self, usage: Usage | None, texts: dict[str, str], started_at: datetime) -> "_Cost":
        """Return the price of a call that came with tokens only."""
        host = texts["server_address"]
        elsewhere = bool(host) and not host.endswith(_LISTED_HOSTS)
        if elsewhere or texts["provider"].lower() not in _LISTED_PROVIDERS:
            return _Cost(status=PriceStatus.UNKNOWN_MODEL)
        if usage is None:
            return _Cost(status=PriceStatus.INVALID_USAGE, book=self.book.version)
        return _cost(self.priced(usage, texts, started_at))

    def priced(self, usage: Usage, texts: dict[str, str], started_at: datetime) -> Price:
        tier = texts["response_tier"]
        return price(
            usage,
            model=texts["response_model"] or texts["request_model"],
            at=started_at,
            tier=tier or None,
            host=texts["server_address"] or _LISTED_HOSTS[0],
            batch=tier == "batch",
            book=self.book,
            project=texts["project"] or None,
        )

    def usage(self, input_tokens: int | None) -> Usage | None:
        """Return what the call used, as far as the span tells; None where it cannot be true."""
        unspoken = self.unspoken()

        def count(*names: str) -> int:
            return self.own.count(*names, most=_MOST_TOKENS) or 0

        def more(meter: str) -> int:
            return int(unspoken.pop(meter, 0))

        is_split = semconv.PRICE_STATUS in self.own and "unsplit_cached_input" not in unspoken
        kept_12h = more("cache_write_12h")
        split = {
            "audio_tokens": more("cached_audio_input"),
            "image_tokens": more("cached_image_input"),
        }
        written = count(*CACHE_WRITE_TOKENS)
        cached = count(*CACHED_TOKENS)
        reported = {
            "input_tokens": input_tokens or 0,
            "output_tokens": count(*OUTPUT_TOKENS),
            "input_tokens_details": {
                "cached_tokens": cached,
                "cache_write_tokens": written,
                "cache_write_tokens_details": kept_12h
                and {"ttl_30m_tokens": written - kept_12h, "ttl_12h_tokens": kept_12h},
                "audio_tokens": count(*AUDIO_INPUT_TOKENS),
                "image_tokens": count(semconv.IMAGE_INPUT_TOKENS),
                # The shim names the modality of what was cached, wherever it is not text.
                "cached_tokens_details": is_split and split,
            },
            "output_tokens_details": {
                "reasoning_tokens": count(*REASONING_TOKENS),
                "audio_tokens": count(*AUDIO_OUTPUT_TOKENS),
                "image_tokens": count(semconv.IMAGE_OUTPUT_TOKENS),
            },
        }
        try:
            tokens = read_usage({"usage": reported})
        except InvalidUsage:
            return None
        beside = whole({meter: value for meter, value in unspoken.items() if meter != _DECISION})
        return tokens and tokens._replace(
            is_decision=_DECISION in unspoken, metered=beside.metered, others=beside.others
        )

    def unspoken(self) -> dict[str, Quantity]:
        """Return the quantities that have no name in OpenTelemetry, by meter."""
        found: dict[str, Quantity] = {}
        for name in self.own.starting_with(semconv.USAGE):
            meter = name.removeprefix(semconv.USAGE)
            if name in PREDICTIONS:
                continue
            if not _QUANTITY_NAME.fullmatch(meter):
                raise BadSpan(Reason.BAD_USAGE, f"a name after {semconv.USAGE} is no meter")
            text = self.own.text(name)
            if not _QUANTITY.fullmatch(text):
                raise BadSpan(Reason.BAD_USAGE, f"{name} is not a quantity")
            found[meter] = quantity(text)
        return found


@dataclass(frozen=True, slots=True)
class _Cost:
    """The columns of `calls` that say what a call costs."""

    usd: Decimal | None = None
    list_usd: Decimal | None = None
    parts_usd: dict[str, Decimal] = field(default_factory=dict[str, Decimal])
    status: str = ""
    book: str = ""
    path: str = ""
    overrides: tuple[str, ...] = ()


def _cost(found: Price) -> _Cost:
    usd = found.contracted_usd
    if usd is None:
        return _Cost(status=found.status, book=found.book, path=found.path)
    if max(found.pico or 0, found.contracted_pico or 0) > _MOST_PICO:
        return _Cost(status=PriceStatus.INVALID_USAGE, book=found.book, path=found.path)
    parts: dict[str, int] = {}
    for part in found.parts if found.contracted is None else found.contracted:
        parts[part.meter] = parts.get(part.meter, 0) + part.pico
    return _Cost(
        usd,
        found.usd,
        {meter: from_pico(pico) for meter, pico in parts.items()},
        found.status,
        found.book,
        found.path,
        tuple(sorted(found.overrides)),
    )


def _kept(usage: Usage | None, cost: _Cost) -> dict[str, Decimal]:
    """Return what the call used; nothing if it was charged for more than the span tells."""
    used = flat(usage) if usage else {}
    if not cost.parts_usd.keys() <= {*map(part_of, used), *_WITHOUT_QUANTITY}:
        return {}
    return {meter: Decimal(exact(value)) for meter, value in used.items()}


_WITHOUT_QUANTITY = frozenset({"search_request", "search_content"})
"""Parts of a cost that follow from the others and the model."""
_LISTED_PROVIDERS = frozenset({"", "openai", "azure", "azure.ai.openai", "az.ai.openai"})
_LISTED_HOSTS = ("api.openai.com", ".openai.azure.com")
"""Where OpenAI's list holds; a span that does not say where it called is taken at its model."""


def _pico(text: str) -> int:
    if not _NUMBER.fullmatch(text):
        raise BadSpan(Reason.BAD_COST, f"{semconv.COST_USD} is not a decimal number")
    with localcontext() as context:
        context.prec = 200
        pico = Decimal(text) * PICO_PER_USD
        if pico < 0:
            raise BadSpan(Reason.BAD_COST, f"{semconv.COST_USD} is negative")
        if pico > _MOST_PICO:
            raise BadSpan(Reason.BAD_COST, f"{semconv.COST_USD} is a million dollars or more")
        if pico != pico.to_integral_value():
            raise BadSpan(
                Reason.BAD_COST, f"{semconv.COST_USD} has more than twelve decimal places"
            )
        return int(pico)


def _hex(value: bytes) -> str:
    return value[:16].hex() or "none"
