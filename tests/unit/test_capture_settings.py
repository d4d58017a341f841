"""The environment's word on capture: what is misspelt or unreadable is said, and stops nothing."""

import pytest

from costspan.settings import Settings, from_environment


def test_an_empty_environment_gives_the_defaults() -> None:
    assert from_environment({"PATH": "/bin"}) == Settings()


def test_each_setting_is_read() -> None:
    assert from_environment(
        {
            "COSTSPAN_CAPTURE_ENABLED": "no",
            "COSTSPAN_CAPTURE_HTTP_SPANS": "FALSE",
            "COSTSPAN_CAPTURE_STREAM_USAGE": "never",
            "COSTSPAN_CAPTURE_USER_HASH": "0",
            "COSTSPAN_CAPTURE_PRICED_HOSTS": "127.0.0.1, *.Example.com",
        }
    ) == Settings(False, False, "never", False, ("127.0.0.1", "*.example.com"))


def test_the_sdk_s_own_switch_is_honoured() -> None:
    assert not from_environment({"OTEL_SDK_DISABLED": "true"}).enabled


def test_a_misspelt_variable_is_reported_with_the_nearest_name(
    caplog: pytest.LogCaptureFixture,
) -> None:
    assert from_environment({"COSTSPAN_CAPTURE_HTTP_SPAN": "false"}) == Settings()
    (record,) = caplog.records
    assert record.getMessage() == (
        "costspan: unknown variable COSTSPAN_CAPTURE_HTTP_SPAN is ignored;"
        " did you mean COSTSPAN_CAPTURE_HTTP_SPANS?"
    )


def test_a_value_that_cannot_be_read_is_reported_and_the_default_holds(
    caplog: pytest.LogCaptureFixture,
) -> None:
    assert from_environment({"COSTSPAN_CAPTURE_ENABLED": "maybe"}).enabled
    assert "'maybe' is neither true nor false" in caplog.text


def test_hosts_are_priced_by_name_or_pattern() -> None:
    settings = Settings()
    assert settings.prices("api.openai.com")
    assert settings.prices("eu.api.openai.com")
    assert settings.prices("mine.openai.azure.com")
    assert not settings.prices("api.openai.com.evil.example")
    assert not settings.prices("localhost")
