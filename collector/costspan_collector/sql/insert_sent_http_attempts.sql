-- One row of `http_attempts` per span of a segment that is for it, as `normalise` makes it of the same
-- span. Fails where that might differ: what it would refuse or cut is for it.
-- parameters: path String
INSERT INTO http_attempts
(
    started_at, trace_id, span_id, parent_span_id, service_name, attempt, method, server_address,
    http_status, error_type, duration_us, received_at, ingest_id
)
SELECT
    fromUnixTimestamp64Micro(toInt64(intDiv(start_ns, 1000)), 'UTC'),
    toFixedString(trace_id, 16),
    toFixedString(span_id, 8),
    toFixedString(parent_span_id, 8),
    service_name,
    toUInt16(attempt),
    method,
    server_address,
    toUInt16(http_status),
    error_type,
    intDiv(end_ns - start_ns, 1000),
    fromUnixTimestamp64Micro(toInt64(received_us), 'UTC'),
    ingest_id + throwIf(
        is_more_than_read
        OR is_out_of_bounds
        OR has_odd_text
        OR has_odd_kind
        OR attempt NOT BETWEEN 0 AND 65535
        OR http_status NOT BETWEEN 0 AND 999,
        'a span is not as the shim makes them'
    )
FROM
(
    SELECT
        * EXCEPT (names, kinds, texts, counts, fractions, flags, lists),
        counts[indexOf(names, 'costspan.request.attempt')] AS attempt,
        texts[indexOf(names, 'http.request.method')] AS method,
        texts[indexOf(names, 'server.address')] AS server_address,
        counts[indexOf(names, 'http.response.status_code')] AS http_status,
        texts[indexOf(names, 'error.type')] AS error_type,
        -- A text that is empty may as well be of another type, and a long one is cut.
        arrayExists(
            (name, text) -> length(text) NOT BETWEEN 1 AND 1024
                AND name IN ('http.request.method', 'server.address', 'error.type'),
            names,
            texts
        ) AS has_odd_text,
        arrayExists(
            (name, kind) -> kind != 'count' AND name IN ('costspan.request.attempt', 'http.response.status_code'),
            names,
            kinds
        ) AS has_odd_kind
    FROM {sent_spans}
)
