"""Names on the wire: the span attributes that costspan writes and reads.

OpenTelemetry's names come first (Source: open-telemetry/semantic-conventions-genai, read
2026-11). What they lack is under `costspan.`. A span that carries a cost carries the id of
the price book it came from, so that any day can be priced again and compared.
"""

# OpenTelemetry, generative AI
OPERATION = "gen_ai.operation.name"
PROVIDER = "gen_ai.provider.name"
REQUEST_MODEL = "gen_ai.request.model"
REQUEST_STREAM = "gen_ai.request.stream"
RESPONSE_MODEL = "gen_ai.response.model"
RESPONSE_ID = "gen_ai.response.id"
FINISH_REASONS = "gen_ai.response.finish_reasons"
TIME_TO_FIRST_CHUNK = "gen_ai.response.time_to_first_chunk"
"""Seconds, float, streams only."""
INPUT_TOKENS = "gen_ai.usage.input_tokens"
"""All input tokens; cached and cache-written ones are inside."""
OUTPUT_TOKENS = "gen_ai.usage.output_tokens"
"""All output tokens; reasoning ones are inside."""
CACHED_TOKENS = "gen_ai.usage.cache_read.input_tokens"
CACHE_WRITE_TOKENS = "gen_ai.usage.cache_creation.input_tokens"
REASONING_TOKENS = "gen_ai.usage.reasoning.output_tokens"
AUDIO_INPUT_TOKENS = "gen_ai.usage.audio.input_tokens"
AUDIO_OUTPUT_TOKENS = "gen_ai.usage.audio.output_tokens"
IMAGE_INPUT_TOKENS = "gen_ai.usage.image.input_tokens"
IMAGE_OUTPUT_TOKENS = "gen_ai.usage.image.output_tokens"

# OpenTelemetry, OpenAI
API_TYPE = "openai.api.type"
"""chat_completions, responses, embeddings, completions, ..."""
REQUEST_TIER = "openai.request.service_tier"
RESPONSE_TIER = "openai.response.service_tier"
SYSTEM_FINGERPRINT = "openai.response.system_fingerprint"

# OpenTelemetry, general
ERROR_TYPE = "error.type"
SERVER_ADDRESS = "server.address"
SERVER_PORT = "server.port"
HTTP_METHOD = "http.request.method"
HTTP_STATUS = "http.response.status_code"
SERVICE_NAME = "service.name"
ENVIRONMENT = "deployment.environment.name"

# costspan: usage
USAGE = "costspan.usage."
"""Prefix; the rest is a meter that OpenTelemetry has no name for (`quantities.unspoken`), the value
a whole number or decimal text. Absent where it is 0."""
ACCEPTED_PREDICTION_TOKENS = "costspan.usage.accepted_prediction_tokens"
REJECTED_PREDICTION_TOKENS = "costspan.usage.rejected_prediction_tokens"
"""Both are inside the output tokens."""

# costspan: cost
COST_USD = "costspan.cost.usd"
"""Decimal dollars as text, twelve places at most. Absent where the cost is unknown."""
COST_PART = "costspan.cost.part."
"""Prefix; the rest is the meter, the value whole pico-dollars. Parts sum to the cost."""
PRICE_STATUS = "costspan.price.status"
PRICE_BOOK = "costspan.price.book"
PRICE_PATH = "costspan.price.path"
"""model/tier/context[/region] of the row that priced the call."""
BATCH = "costspan.batch"
"""On a line of a batch: the id of the batch, where it is known."""

# costspan: a call whose usage nobody saw (status `estimated`); none of it is measured
ESTIMATE = "costspan.estimate."
"""Prefix of all of them."""
ESTIMATE_INPUT_TOKENS = "costspan.estimate.input_tokens"
ESTIMATE_OUTPUT_TOKENS_LOW = "costspan.estimate.output_tokens_low"
"""The output that was seen."""
ESTIMATE_OUTPUT_TOKENS_HIGH = "costspan.estimate.output_tokens_high"
"""The longest output that the request allows. Absent where it names no bound."""
ESTIMATE_LOW_USD = "costspan.estimate.low_usd"
ESTIMATE_HIGH_USD = "costspan.estimate.high_usd"
"""Decimal dollars as text, as in `COST_USD`. The high one is absent where it is unknown."""
ESTIMATE_MISSING = "costspan.estimate.missing"
"""What is not counted: tools, images, audio, files, schemas, prediction, history, prompt, length
(texts beyond a mebi-character), reasoning, cache."""

# costspan: the call
REQUEST_ID = "costspan.request.id"
RETRIES = "costspan.request.retries"
"""Absent where there was none."""
ATTEMPT = "costspan.request.attempt"
"""On an HTTP span: 0 for the first attempt."""
ERROR_CODE = "costspan.error.code"
"""OpenAI's own code, such as `rate_limit_exceeded` or `context_length_exceeded`."""
ORGANIZATION = "costspan.organization"
PROJECT = "costspan.project"
KEY_FINGERPRINT = "costspan.key.fingerprint"
"""First 16 hex digits of SHA-256 of the key."""
KEY_HINT = "costspan.key.hint"
"""Last four characters, as OpenAI's own key list shows them."""
STREAM_OUTCOME = "costspan.stream.outcome"
"""completed, closed_early, abandoned or failed."""
STREAM_CHUNKS = "costspan.stream.chunks"
TIME_PER_CHUNK = "costspan.stream.time_per_chunk"
"""Seconds between output chunks after the first, mean."""
RATE_LIMIT_REMAINING_REQUESTS = "costspan.rate_limit.remaining_requests"
RATE_LIMIT_REMAINING_TOKENS = "costspan.rate_limit.remaining_tokens"

# costspan: of the scope of a batch, what became of the spans of its process so far
SENDER = "costspan.sender.id"
"""Random, of a process and its exporter."""
SENDER_MADE = "costspan.sender.made"
SENDER_EXPORTED = "costspan.sender.exported"
"""This batch included."""
SENDER_QUEUE_FULL = "costspan.sender.queue_full"
SENDER_FAILED = "costspan.sender.failed"
"""Given up, since no collector took them."""

# costspan: who it was for. The same names are the baggage keys.
TEAM = "costspan.team"
FEATURE = "costspan.feature"
USER = "costspan.user"
"""Hashed unless told otherwise."""
CUSTOMER = "costspan.customer"
PROMPT = "costspan.prompt"
ATTRIBUTION = (TEAM, FEATURE, USER, CUSTOMER, PROMPT)

# OpenTelemetry, content; only where the app asked for it
INPUT_MESSAGES = "gen_ai.input.messages"
OUTPUT_MESSAGES = "gen_ai.output.messages"
SYSTEM_INSTRUCTIONS = "gen_ai.system_instructions"
CONTENT_CUT = "costspan.content.cut"
"""True where a message was too long to be kept whole."""

# Metrics
TOKEN_TYPE = "gen_ai.token.type"  # noqa: S105
METRIC_DURATION = "gen_ai.client.operation.duration"
METRIC_TOKENS = "gen_ai.client.token.usage"
METRIC_FIRST_CHUNK = "gen_ai.client.operation.time_to_first_chunk"
METRIC_COST = "gen_ai.client.operation.cost"
"""Proposed to OpenTelemetry, not yet agreed (Source: semantic-conventions-genai#443)."""
METRIC_UNPRICED = "costspan.client.unpriced_calls"
