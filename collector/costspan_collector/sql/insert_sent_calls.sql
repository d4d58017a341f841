-- One row of `calls` per span in `calls` of messages `Sent` (sent.proto), as `normalise` makes it of
-- the same span. Fails where that might differ: what it would refuse, cut, price or pass by is for it.
-- In steps, since the engine analyses a name anew wherever the same step uses it.
-- parameters: path String
INSERT INTO calls
(
    started_at, trace_id, span_id, parent_span_id, service_name, environment, scope_name,
    operation, api_type, provider, server_address, request_model, response_model, request_tier,
    response_tier, response_id, request_id, organization, project, key_fingerprint, key_hint, team,
    feature, user, customer, prompt, streamed, stream_outcome, finish_reasons, duration_us,
    time_to_first_chunk_us, retries, status, error_type, error_code, input_tokens, cached_tokens,
    cache_write_tokens, output_tokens, reasoning_tokens, quantities, cost_usd, list_cost_usd,
    cost_parts_usd, price_status, price_book, price_path, received_at, ingest_id
)
SELECT
    fromUnixTimestamp64Micro(toInt64(intDiv(start_ns, 1000)), 'UTC'),
    toFixedString(trace_id, 16),
    toFixedString(span_id, 8),
    toFixedString(parent_span_id, 8),
    service_name,
    environment,
    scope_name,
    operation,
    api_type,
    provider,
    server_address,
    request_model,
    response_model,
    request_tier,
    response_tier,
    response_id,
    request_id,
    organization,
    project,
    key_fingerprint,
    key_hint,
    team,
    feature,
    user,
    customer,
    prompt,
    is_stream OR at_first_chunk > 0 OR stream_outcome != '',
    stream_outcome,
    reasons,
    intDiv(end_ns - start_ns, 1000),
    if(at_first_chunk > 0, toUInt64(round(first_chunk_seconds * 1000000)), NULL),
    toUInt16(retries),
    if(status_code = 2 OR error_type != '', 'error', 'ok'),
    error_type,
    error_code,
    if(at_input > 0, toUInt64(input), NULL),
    if(at_cached > 0, toUInt64(cached), NULL),
    if(at_written > 0, toUInt64(written), NULL),
    if(at_output > 0, toUInt64(output), NULL),
    if(at_reasoning > 0, toUInt64(reasoning), NULL),
    -- Nothing where it was charged for more than the span tells.
    if(
        hasAll(arrayConcat(used.1, ['search_request', 'search_content']), meters),
        mapFromArrays(used.1, arrayMap(quantity -> toDecimal128(quantity, 20), used.2)),
        map()
    ),
    cost,
    cost,
    mapFromArrays(meters, arrayMap(pico -> reinterpret(pico, 'Decimal(18, 12)'), parts)),
    price_status,
    price_book,
    price_path,
    fromUnixTimestamp64Micro(toInt64(received_us), 'UTC'),
    -- Added up and multiplied: so far out, the engine thinks about each AND and OR for a millisecond.
    -- A part is no more than the cost, where none is below zero and they sum to it. A reason of more
    -- than 125 bytes is_more_than_read finds.
    ingest_id + throwIf(
        (
            is_more_than_read
            + is_out_of_bounds
            + has_odd_text
            + has_odd_count
            + has_odd_part
            + has_odd_kind
            + has(reasons, '')
            + (operation IN ('invoke_agent', 'create_agent', 'execute_tool', 'invoke_workflow'))
            + (retries > 65535)
            + (at_first_chunk > 0) * (NOT first_chunk_seconds > 0)
            + (at_first_chunk > 0) * (NOT first_chunk_seconds < 1000000000)
            + arrayExists(pico -> pico < 0, parts)
            + (cost_text != '') * (NOT match(cost_text, '^[0-9]{1,6}(\\.[0-9]{1,12})?\\z'))
            + notEmpty(parts) * isNull(cost)
            + notEmpty(parts)
                * (arraySum(pico -> toInt128(pico), parts) != reinterpret(assumeNotNull(cost), 'Int64'))
        ) > 0,
        'a span is not as the shim makes them'
    )
FROM
(
    SELECT
        *,
        toDecimal64OrNull(cost_text, 12) AS cost,
        arrayFilter(
            quantity -> quantity.2 > 0 AND cached + written <= input AND reasoning <= output,
            [
                ('input', input - cached - written), ('cached_input', cached),
                ('cache_write_30m', written), ('output', output)
            ]
        ) AS used
    FROM
    (
        SELECT
            * EXCEPT (names, kinds, texts, counts, fractions, flags, lists),
            texts[indexOf(names, 'gen_ai.operation.name')] AS operation,
            texts[indexOf(names, 'openai.api.type')] AS api_type,
            texts[indexOf(names, 'gen_ai.provider.name')] AS provider,
            texts[indexOf(names, 'server.address')] AS server_address,
            texts[indexOf(names, 'gen_ai.request.model')] AS request_model,
            texts[indexOf(names, 'gen_ai.response.model')] AS response_model,
            texts[indexOf(names, 'openai.request.service_tier')] AS request_tier,
            texts[indexOf(names, 'openai.response.service_tier')] AS response_tier,
            texts[indexOf(names, 'gen_ai.response.id')] AS response_id,
            texts[indexOf(names, 'costspan.request.id')] AS request_id,
            texts[indexOf(names, 'costspan.organization')] AS organization,
            texts[indexOf(names, 'costspan.project')] AS project,
            texts[indexOf(names, 'costspan.key.fingerprint')] AS key_fingerprint,
            texts[indexOf(names, 'costspan.key.hint')] AS key_hint,
            texts[indexOf(names, 'costspan.team')] AS team,
            texts[indexOf(names, 'costspan.feature')] AS feature,
            texts[indexOf(names, 'costspan.user')] AS user,
            texts[indexOf(names, 'costspan.customer')] AS customer,
            texts[indexOf(names, 'costspan.prompt')] AS prompt,
            texts[indexOf(names, 'costspan.stream.outcome')] AS stream_outcome,
            texts[indexOf(names, 'error.type')] AS error_type,
            texts[indexOf(names, 'costspan.error.code')] AS error_code,
            texts[indexOf(names, 'costspan.price.status')] AS price_status,
            texts[indexOf(names, 'costspan.price.book')] AS price_book,
            texts[indexOf(names, 'costspan.price.path')] AS price_path,
            texts[indexOf(names, 'costspan.cost.usd')] AS cost_text,
            indexOf(names, 'gen_ai.request.stream') AS at_stream,
            flags[at_stream] AS is_stream,
            indexOf(names, 'gen_ai.response.finish_reasons') AS at_reasons,
            lists[at_reasons] AS reasons,
            indexOf(names, 'gen_ai.response.time_to_first_chunk') AS at_first_chunk,
            fractions[at_first_chunk] AS first_chunk_seconds,
            counts[indexOf(names, 'costspan.request.retries')] AS retries,
            indexOf(names, 'gen_ai.usage.input_tokens') AS at_input,
            indexOf(names, 'gen_ai.usage.cache_read.input_tokens') AS at_cached,
            indexOf(names, 'gen_ai.usage.cache_creation.input_tokens') AS at_written,
            indexOf(names, 'gen_ai.usage.output_tokens') AS at_output,
            indexOf(names, 'gen_ai.usage.reasoning.output_tokens') AS at_reasoning,
            counts[at_input] AS input,
            counts[at_cached] AS cached,
            counts[at_written] AS written,
            counts[at_output] AS output,
            counts[at_reasoning] AS reasoning,
            arrayMap(name -> startsWith(name, 'costspan.cost.part.'), names) AS is_part,
            arrayFilter((count, is_one) -> is_one, counts, is_part) AS parts,
            arrayMap(
                name -> substring(name, 20),
                arrayFilter((name, is_one) -> is_one, names, is_part)
            ) AS meters,
            -- A text that is empty may as well be of another type, and a long one is cut.
            arrayExists(
                (name, text) -> length(text) NOT BETWEEN 1 AND 1024 AND name IN (
                    'gen_ai.operation.name', 'openai.api.type', 'gen_ai.provider.name',
                    'server.address', 'gen_ai.request.model', 'gen_ai.response.model',
                    'openai.request.service_tier', 'openai.response.service_tier',
                    'gen_ai.response.id', 'costspan.request.id', 'costspan.organization',
                    'costspan.project', 'costspan.key.fingerprint', 'costspan.key.hint',
                    'costspan.team', 'costspan.feature', 'costspan.user', 'costspan.customer',
                    'costspan.prompt', 'costspan.stream.outcome', 'error.type',
                    'costspan.error.code', 'costspan.price.status', 'costspan.price.book',
                    'costspan.price.path', 'costspan.cost.usd'
                ),
                names,
                texts
            ) AS has_odd_text,
            -- Numbers of four bytes and eight might be of another type too, which protobuf passes by.
            -- Those of the parts of a cost are held against their sum.
            arrayExists(
                (name, kind, count) -> (kind != 'count' OR count NOT BETWEEN 0 AND 2097151) AND name IN (
                    'gen_ai.usage.input_tokens', 'gen_ai.usage.cache_read.input_tokens',
                    'gen_ai.usage.cache_creation.input_tokens', 'gen_ai.usage.output_tokens',
                    'gen_ai.usage.reasoning.output_tokens', 'costspan.request.retries'
                ),
                names,
                kinds,
                counts
            ) AS has_odd_count,
            arrayExists((kind, is_one) -> is_one AND kind != 'count', kinds, is_part) AS has_odd_part,
            (at_stream > 0 AND kinds[at_stream] != 'flag')
                OR (at_reasons > 0 AND (kinds[at_reasons] != 'list' OR length(reasons) > 128)) AS has_odd_kind
        FROM {sent_spans}
    )
)
