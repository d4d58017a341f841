"""What a call used, out of a response body, in one shape for every OpenAI API.

Source: openai-python 3.52.0, types `CompletionUsage`, `ResponseUsage`, `ToolUsage`,
`CreateEmbeddingResponse`, `ImagesResponse`, `Transcription`, `RealtimeResponseUsage`,
`live.SessionUsage`, `Decision`, `Video`, `FineTuningJob`, read 2026-11-20.
"""

from collections.abc import Mapping
from decimal import Decimal, InvalidOperation
from fractions import Fraction
from typing import Any, NamedTuple, cast

from costspan.errors import InvalidUsage

Quantity = int | Fraction


class Usage(NamedTuple):
    """What one call used, as OpenAI reports it.

    `input_tokens` holds the cached, cache-written, audio and image ones, `output_tokens` the
    reasoning, audio and image ones: a part is never added to its whole.
    """

    input_tokens: int
    output_tokens: int
    cached_tokens: int = 0
    cache_write_30m_tokens: int = 0
    cache_write_12h_tokens: int = 0
    reasoning_tokens: int = 0
    audio_input_tokens: int = 0
    audio_output_tokens: int = 0
    image_input_tokens: int = 0
    image_output_tokens: int = 0
    cached_audio_tokens: int = 0
    cached_image_tokens: int = 0
    is_decision: bool = False
    """All input of a decision has a rate of its own, and nothing else is charged."""
    metered: tuple[tuple[str, Quantity], ...] = ()
    """What is not a token: seconds, characters, searches; meter and quantity, never 0."""
    others: tuple["OtherModel", ...] = ()
    """Tokens of another model that worked for this call, outside of the ones above."""

    @property
    def cache_write_tokens(self) -> int:
        """All tokens written to the prompt cache."""
        return self.cache_write_30m_tokens + self.cache_write_12h_tokens

    def quantities(self) -> list[tuple[str, Quantity]]:
        """Return the disjoint quantities by meter, zeros left out."""
        (
            read, written, cached, kept_30m, kept_12h, _, audio_in, audio_out, image_in, image_out,
            cached_audio, cached_image, is_decision, metered, _,
        ) = self  # fmt: skip
        if is_decision:
            return [("decision_input", read)] if read else []
        found: list[tuple[str, Quantity]] = []
        cached_text = cached - cached_audio - cached_image
        text = read - cached_text - kept_30m - kept_12h - audio_in - image_in
        if text > 0:
            found.append(("input", text))
        if cached_text:
            found.append(("cached_input", cached_text))
        if kept_30m:
            found.append(("cache_write_30m", kept_30m))
        if kept_12h:
            found.append(("cache_write_12h", kept_12h))
        if written - audio_out - image_out:
            found.append(("output", written - audio_out - image_out))
        if audio_in or audio_out or image_in or image_out:
            found += [
                (meter, quantity)
                for meter, quantity in (
                    ("audio_input", audio_in - cached_audio),
                    ("cached_audio_input", cached_audio),
                    ("image_input", image_in - cached_image),
                    ("cached_image_input", cached_image),
                    ("audio_output", audio_out),
                    ("image_output", image_out),
                )
                if quantity
            ]
        return found + list(metered) if metered else found


class OtherModel(NamedTuple):
    """Tokens that are billed at the rates of `model`, whatever model the call asked for."""

    label: str
    """What it worked as: image_tool, svg."""
    model: str
    usage: Usage


def read_usage(body: Mapping[str, Any], request: Mapping[str, Any] | None = None) -> Usage | None:
    """Return the usage that a response body (or a stream's last event) reports; None if none.

    `request` is the JSON of the request, for the answers that tell nothing: tts-1 is billed by
    the characters it was sent. Only their number is kept.

    Raises:
        InvalidUsage: a count is not a whole number, is negative, or is larger than its whole.
    """
    reported = body.get("usage")
    if reported is None:
        return _without_usage(body, request)
    usage = _mapping(reported, "usage")
    counted = _tokens(usage)
    if counted is None:
        seconds = usage.get("seconds")
        return None if seconds is None else _metered("audio_seconds", _seconds(seconds))
    if "output" in body or "tool_usage" in body or "svg_usage" in body:
        calls, others = _tools(body)
        if calls or others:
            return counted._replace(metered=counted.metered + calls, others=others)
        return counted
    if "answers" in body:
        return counted._replace(is_decision=True)
    if body.get("type") == "speech.audio.done":
        return counted._replace(audio_output_tokens=counted.output_tokens)
    return counted


def _without_usage(body: Mapping[str, Any], request: Mapping[str, Any] | None) -> Usage | None:
    inner = body.get("response") or body.get("sample")
    if isinstance(inner, Mapping):  # a realtime event, an item of an evaluation
        return read_usage(cast("Mapping[str, Any]", inner))
    kind = body.get("object")
    if kind == "video":
        return _video(body)
    if kind == "fine_tuning.job" and body.get("trained_tokens") is not None:
        return _metered("trained_tokens", _count(body, "trained_tokens"))
    if "per_model_usage" in body:
        runs = (
            (str(run.get("model_name") or run.get("run_model_name")), _tokens(run))
            for run in _objects(body["per_model_usage"])
        )
        others = tuple(OtherModel(model, model, used) for model, used in runs if used)
        return Usage(0, 0, others=others) if others else None
    spoken = request and str(request.get("model")).startswith("tts-1") and request.get("input")
    return _metered("characters", len(spoken)) if isinstance(spoken, str) else None


def _tokens(usage: Mapping[str, Any]) -> Usage | None:
    """Return the counts of one `usage` object, None where it has no input tokens."""
    if usage.get("input_tokens") is not None:
        is_chat = False
        read, written = _count(usage, "input_tokens"), _count(usage, "output_tokens")
        of_input = usage.get("input_tokens_details") or usage.get("input_token_details")
        of_output = usage.get("output_tokens_details") or usage.get("output_token_details")
    elif usage.get("prompt_tokens") is not None:
        is_chat = True
        read, written = _count(usage, "prompt_tokens"), _count(usage, "completion_tokens")
        of_input = usage.get("prompt_tokens_details") or usage.get("prompt_token_details")
        of_output = usage.get("completion_tokens_details")
    else:
        return None
    cached = _count(usage, "cached_tokens")  # beside the totals in evaluations and the image tool
    kept_30m = kept_12h = reasoning = audio_in = audio_out = image_in = image_out = 0
    cached_audio = cached_image = 0
    metered: tuple[tuple[str, Quantity], ...] = ()
    if of_input:
        details = _mapping(of_input, "input details")
        cached = cached or _count(details, "cached_tokens")
        audio_in, image_in = _count(details, "audio_tokens"), _count(details, "image_tokens")
        kept_30m, kept_12h = _cache_writes(details)
        text = _count(details, "text_tokens")
        _fits(text + audio_in + image_in, "text, audio and image", read, "input")
        if is_chat:
            image_in = 0  # what a chat sees is ordinary input; only other APIs have a rate for it
        split = details.get("cached_tokens_details") or usage.get("cached_tokens_details")
        if split:
            cached_audio, cached_image = _cached(_mapping(split, "cached details"), cached)
            _fits(cached_audio, "cached audio", audio_in, "audio")
            _fits(cached_image, "cached image", image_in, "image")
        elif (audio_in or image_in) and cached and not (is_chat and cached <= read - audio_in):
            metered = (("unsplit_cached_input", cached),)  # of text or audio, nobody says
        if (audio_in or image_in) and not metered:
            kept_text = cached - cached_audio - cached_image + kept_30m + kept_12h
            _fits(kept_text, "cached or cache-written text", read - audio_in - image_in, "text")
    if cached or kept_30m or kept_12h:
        _fits(cached + kept_30m + kept_12h, "cached and cache-written", read, "input")
    if of_output:
        details = _mapping(of_output, "output details")
        reasoning = _count(details, "reasoning_tokens")
        audio_out, image_out = _count(details, "audio_tokens"), _count(details, "image_tokens")
        accepted = _count(details, "accepted_prediction_tokens")
        rejected = _count(details, "rejected_prediction_tokens")
        _fits(accepted + rejected, "predicted", written, "output")
        text = _count(details, "text_tokens")
        _fits(text + audio_out + image_out, "text, audio and image", written, "output")
        _fits(reasoning, "reasoning", written, "output")
    elif "image_tokens" in (usage.get("input_tokens_details") or ()):
        image_out = written  # the Images API, where nothing but images comes out
    return Usage(
        read, written, cached, kept_30m, kept_12h, reasoning, audio_in, audio_out,
        image_in, image_out, cached_audio, cached_image, False, metered,
    )  # fmt: skip


def _cache_writes(details: Mapping[str, Any]) -> tuple[int, int]:
    """Return the tokens written to the cache for 30 minutes and for 12 hours."""
    by_time = details.get("cache_write_tokens_details")
    if not by_time:
        return _count(details, "cache_write_tokens"), 0
    times = _mapping(by_time, "cache write details")
    for_30m, for_12h = _count(times, "ttl_30m_tokens"), _count(times, "ttl_12h_tokens")
    if details.get("cache_write_tokens") is None:
        return for_30m, for_12h
    written = _count(details, "cache_write_tokens")
    _fits(for_30m + for_12h, "30-minute and 12-hour", written, "cache-written")
    return written - for_12h, for_12h


def _cached(split: Mapping[str, Any], cached: int) -> tuple[int, int]:
    """Return the cached audio and image tokens; the image tool names them otherwise."""
    audio = _count(split, "audio_tokens")
    image = _count(split, "image_tokens") or _count(split, "cached_image_tokens")
    text = _count(split, "text_tokens") or _count(split, "cached_text_tokens")
    _fits(text + audio + image, "cached text, audio and image", cached, "cached")
    return audio, image


def _tools(
    body: Mapping[str, Any],
) -> tuple[tuple[tuple[str, Quantity], ...], tuple[OtherModel, ...]]:
    """Return the billable tool calls of a response, and the tokens of models that it set to work.

    `tool_usage` is the billable count; without it, searches are counted from the output, where
    opening or finding in a page is free.
    """
    output, tools = _objects(body.get("output")), _objects(body.get("tools"))
    used = _mapping(body.get("tool_usage"), "tool_usage")
    if used.get("web_search") is not None:
        searches = _count(_mapping(used["web_search"], "web_search"), "num_requests")
    else:
        searches = sum(item.get("type") == "web_search_call" and _searches(item) for item in output)
    preview = any(str(tool.get("type")).startswith("web_search_preview") for tool in tools)
    files = sum(item.get("type") == "file_search_call" for item in output)
    others: list[OtherModel] = []
    if used.get("image_gen"):
        drawn = _tokens(_mapping(used["image_gen"], "image_gen"))
        model = next((t.get("model") for t in tools if t.get("type") == "image_generation"), None)
        if drawn and (drawn.input_tokens or drawn.output_tokens):
            others.append(OtherModel("image_tool", str(model or ""), drawn))
    unmeasured = 0
    for item in (body, *output):
        if item.get("svg_usage"):
            vector = _mapping(item["svg_usage"], "svg_usage")
            if counted := _tokens(vector):
                others.append(OtherModel("svg", str(vector.get("model") or ""), counted))
        elif item.get("type") == "image_generation_call" and used.get("image_gen") is None:
            unmeasured += 1  # its tokens are told nowhere, so it has no price
    calls = (
        ("web_search_preview" if preview else "web_search", searches),
        ("file_search", files),
        ("image_tool_call", unmeasured),
    )
    return tuple(call for call in calls if call[1]), tuple(others)


def _searches(call: Mapping[str, Any]) -> bool:
    action = call.get("action")
    return not isinstance(action, Mapping) or (
        cast("Mapping[str, Any]", action).get("type") == "search"
    )


def _video(body: Mapping[str, Any]) -> Usage | None:
    """Return the seconds of a finished video by its shorter side; a failed one is not billed."""
    if body.get("status") == "failed":
        return Usage(0, 0)
    if body.get("status") != "completed":
        return None
    sides = str(body.get("size")).split("x")
    side = min((int(side) for side in sides if side.isdecimal()), default=0)
    return _metered(f"video_seconds_{side}", _seconds(body.get("seconds")))


def _metered(meter: str, quantity: Quantity) -> Usage:
    return Usage(0, 0, metered=((meter, quantity),) if quantity else ())


def _seconds(value: object) -> Quantity:
    """Return a duration, which may be a decimal number or text, exactly as it is written."""
    try:
        seconds = Fraction(Decimal(str(value)))
    except (InvalidOperation, ValueError, OverflowError):
        seconds = Fraction(-1)
    if isinstance(value, bool) or not 0 <= seconds <= _MOST:
        msg = f"seconds is {value!r}, not a duration"
        raise InvalidUsage(msg)
    return seconds.numerator if seconds.denominator == 1 else seconds


def _objects(value: object) -> list[Mapping[str, Any]]:
    items = cast("list[object]", value) if isinstance(value, list) else []
    return [cast("Mapping[str, Any]", item) for item in items if isinstance(item, Mapping)]


def _mapping(value: object, what: str) -> Mapping[str, Any]:
    if value is None:
        return {}
    if type(value) is not dict and not isinstance(value, Mapping):
        msg = f"{what} is a {type(value).__name__}, not an object"
        raise InvalidUsage(msg)
    return cast("Mapping[str, Any]", value)


def _count(counts: Mapping[str, Any], name: str) -> int:
    value = counts.get(name)
    if value is None:
        return 0
    if type(value) is not int or not 0 <= value <= _MOST:
        msg = f"{name} is {value!r}, not a count"
        raise InvalidUsage(msg)
    return value


def _fits(part: int, what: str, whole: int, of: str) -> None:
    if part > whole:
        msg = f"{part} {what} tokens are more than the {whole} {of} tokens they are part of"
        raise InvalidUsage(msg)


_MOST = 2**53
"""A count above this is no longer exact in every reader of JSON, and no call comes near it."""
