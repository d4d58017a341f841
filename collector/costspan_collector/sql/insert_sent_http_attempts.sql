-- One row of `http_attempts` per span in `http_attempts` of messages `Sent` (sent.proto), as
-- `normalise` makes it of the same span. Fails where that might differ: what it would refuse or cut
-- is for it.
-- parameters: path String
INSERT INTO http_attempts
(
    started_at, trace_id, span_id, parent_span_id, service_name, attempt, method, server_address,
    http_status, error_type, duration_us, received_at, ingest_id
)
SELECT
    fromUnixTimestamp64Micro(toInt64(intDiv(span.start_time_unix_nano, 1000)), 'UTC'),
    toFixedString(span.trace_id, 16),
    toFixedString(span.span_id, 8),
    toFixedString(span.parent_span_id, 8),
    service_name,
    toUInt16(attempt),
    method,
    server_address,
    toUInt16(http_status),
    error_type,
    intDiv(span.end_time_unix_nano - span.start_time_unix_nano, 1000),
    fromUnixTimestamp64Micro(toInt64(received_us), 'UTC'),
    ingest_id + throwIf(
        has_odd_text OR has_odd_kind OR attempt NOT BETWEEN 0 AND 65535 OR http_status NOT BETWEEN 0 AND 999,
        'a span is not as the shim makes them'
    )
FROM
(
    SELECT
        service_name,
        received_us,
        ingest_id,
        span,
        mapKeys(span.attributes) AS names,
        mapValues(span.attributes) AS found,
        found.string_value AS texts,
        found.int_value AS counts,
        -- What is missing is at 0, where an array has nothing.
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
            found.kind
        ) AS has_odd_kind
    FROM
    (
        SELECT * EXCEPT http_attempts, arrayJoin(http_attempts) AS span
        FROM file({path:String}, 'Protobuf', '
            service_name String, received_us UInt64, ingest_id UInt64,
            http_attempts Array(Tuple(
                trace_id String, span_id String, parent_span_id String,
                start_time_unix_nano UInt64, end_time_unix_nano UInt64,
                attributes Map(String, Tuple(
                    kind Enum8(\'none\' = 0, \'text\' = 1, \'flag\' = 2, \'count\' = 3,
                        \'fraction\' = 4, \'list\' = 5),
                    string_value String, int_value Int64))))')
    )
)
