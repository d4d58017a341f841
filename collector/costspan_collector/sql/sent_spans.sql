-- One row per span in `{table}` of messages `Sent` (sent.proto). What an array misses is at 0.
-- A span that takes more bytes than what was read of it does, as protobuf writes that, holds
-- something else; then nothing can be said of it here. One field twice is such a thing, a length not
-- written in the fewest bytes another. It is the same for what is not common: texts of 16 kB, names
-- of 128 bytes, lists of anything but texts, values that are empty. Nothing counts for more than it
-- takes, but what is written as another type than it is, by nobody who means well: so ids and times
-- are looked at again.
-- parameters: path String
SELECT
    * EXCEPT (trace_state, name, kind, span_flags, parent, outcome, bytes),
    bytes != 46
        + if(parent = 'none', 0, 2 + length(parent_span_id))
        + if(empty(trace_state), 0, 2 + (length(trace_state) > 127) + length(trace_state))
        + if(empty(name), 0, 2 + (length(name) > 127) + length(name))
        + 2 * (kind != 0)
        + 2 * (outcome != 'none')
        + 2 * (status_code != 0)
        + 6 * (span_flags != 0)
        + arraySum(
            pair -> 2 + (pair > 127) + pair,
            arrayMap(
                (name, value) -> 2 * notEmpty(name) + length(name) + 2 * (value > 0) + (value > 127) + value,
                names,
                arrayMap(
                    -- A count takes a byte for seven bits. How many bits there are a double keeps,
                    -- exactly where no two of them stand side by side.
                    (kind, text, count, list) -> 2 * (kind != 'none')
                        + (length(text) > 127) + length(text)
                        + intDiv(
                            bitShiftRight(
                                reinterpretAsUInt64(toFloat64(bitAnd(
                                    toUInt64(bitOr(count, 1)),
                                    bitNot(bitShiftRight(toUInt64(bitOr(count, 1)), 1))
                                ))),
                                52
                            ) - 1023,
                            7
                        )
                        + 7 * (kind = 'fraction')
                        + arraySum(text -> 2 + 2 * notEmpty(text) + length(text), list)
                        + (arraySum(text -> 2 + 2 * notEmpty(text) + length(text), list) > 127),
                    kinds,
                    texts,
                    counts,
                    lists
                )
            )
        ) AS is_more_than_read,
    length(trace_id) != 16
        OR length(span_id) != 8
        OR length(parent_span_id) NOT IN (0, 8)
        OR start_ns > end_ns
        OR start_ns < toUnixTimestamp(toDateTime('2020-01-01', 'UTC')) * 1000000000
        OR end_ns > (received_us + 86400000000) * 1000 AS is_out_of_bounds
FROM
(
    SELECT
        service_name,
        environment,
        scope_name,
        received_us,
        ingest_id,
        span.trace_id AS trace_id,
        span.span_id AS span_id,
        span.parent AS parent,
        span.parent_span_id AS parent_span_id,
        span.trace_state AS trace_state,
        span.name AS name,
        span.kind AS kind,
        span.flags AS span_flags,
        span.start_time_unix_nano AS start_ns,
        span.end_time_unix_nano AS end_ns,
        span.outcome AS outcome,
        span.status.code AS status_code,
        mapKeys(span.attributes) AS names,
        mapValues(span.attributes) AS found,
        found.kind AS kinds,
        found.string_value AS texts,
        found.int_value AS counts,
        found.double_value AS fractions,
        found.bool_value AS flags,
        found.array_value.values.string_value AS lists,
        bytes
    FROM
    (
        SELECT * EXCEPT pair, pair.1 AS span, pair.2 AS bytes
        FROM
        (
            SELECT * EXCEPT ({table}, {table}_bytes), arrayJoin(arrayZip({table}, {table}_bytes)) AS pair
            FROM file({path:String}, 'Protobuf', '
                service_name String, environment String, scope_name String,
                received_us UInt64, ingest_id UInt64, {table}_bytes Array(UInt32),
                {table} Array(Tuple(
                    trace_id String, span_id String, trace_state String,
                    parent Enum8(\'none\' = 0, \'parent\' = 4), parent_span_id String, name String,
                    kind UInt64, flags UInt32,
                    start_time_unix_nano UInt64, end_time_unix_nano UInt64,
                    attributes Map(String, Tuple(
                        kind Enum8(\'none\' = 0, \'text\' = 1, \'flag\' = 2, \'count\' = 3,
                            \'fraction\' = 4, \'list\' = 5),
                        string_value String, bool_value Bool, int_value Int64,
                        double_value Float64,
                        array_value Tuple(values Nested(string_value String)))),
                    outcome Enum8(\'none\' = 0, \'status\' = 15),
                    status Tuple(code Int32)))')
        )
    )
)
