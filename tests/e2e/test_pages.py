"""Each page in a real browser, over the demo: real figures are read off it and compared."""

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from decimal import Decimal

import httpx2
import pytest
from playwright.sync_api import Page, Request, expect, sync_playwright

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(240)]

FIRST_PAINT_MS = 90_000


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Give the address of a demo that runs for all tests here."""
    process = subprocess.Popen(
        [sys.executable, "-m", "costspan", "demo", "--json", "--port=0"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=os.environ | {"TMPDIR": str(tmp_path_factory.mktemp("demo"))},
        text=True,
    )
    try:
        assert process.stdout is not None
        yield json.loads(process.stdout.readline())["url"]
    finally:
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)


@pytest.fixture(scope="module")
def browser_page() -> Iterator[Page]:
    """Give a page of Debian's Chromium that reports what it asked other hosts for."""
    flags = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-background-networking"]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=flags)
        page = browser.new_page(viewport={"width": 1440, "height": 1600})
        page.set_default_timeout(FIRST_PAINT_MS)
        expect.set_options(timeout=FIRST_PAINT_MS)
        yield page
        browser.close()


@pytest.fixture
def page(browser_page: Page, url: str) -> Iterator[Page]:
    """Give the page, and fail if it asked anyone but the server under test, or shows an error."""
    asked: list[str] = []

    def note(request: Request) -> None:
        asked.append(request.url)

    browser_page.on("request", note)
    yield browser_page
    browser_page.remove_listener("request", note)
    elsewhere = [each for each in asked if not each.startswith((url, "data:", "blob:", "about:"))]
    assert elsewhere == []
    expect(browser_page.get_by_test_id("stException")).to_have_count(0)


def stored(url: str) -> int:
    """Return how many calls the store has taken."""
    text = httpx2.get(f"{url}/metrics").text
    found = re.findall(r'^costspan_spans_stored_total\{table="calls"\} (\d+)', text, re.MULTILINE)
    return int(found[0])


def figure(page: Page, label: str) -> str:
    """Return the value of the metric whose label starts with `label`."""
    metric = page.get_by_test_id("stMetric").filter(has_text=label)
    return metric.get_by_test_id("stMetricValue").inner_text()


def dollars(text: str) -> Decimal:
    return Decimal(text.replace("$", "").replace(",", ""))


def test_home_counts_the_calls_that_arrived_and_the_open_alerts(page: Page, url: str) -> None:
    before = stored(url)
    page.goto(f"{url}/?range=last+30+days")
    expect(page.get_by_text(re.compile(r"[2-9] open alerts"))).to_be_visible()
    shown = int(figure(page, "Calls in this range").replace(",", ""))
    assert before <= shown <= stored(url)
    assert shown > 15_000
    assert dollars(figure(page, "Spend in this range")) > 100


def test_spend_shows_the_spike_by_feature_and_in_tokens(page: Page, url: str) -> None:
    page.goto(f"{url}/spend?range=last+24+hours&by=feature")
    total = page.get_by_text(re.compile(r"^\$[\d,.]+ estimated"))
    expect(total).to_be_visible()
    assert dollars(total.inner_text().split()[0]) > 40
    expect(page.locator("canvas").first).to_be_visible()
    page.get_by_text("tokens", exact=True).first.click()
    expect(page.get_by_text(re.compile(r"^[\d,.]+ .*tokens"))).to_be_visible()


def test_the_filters_stay_in_the_url_when_the_page_changes(page: Page, url: str) -> None:
    page.goto(f"{url}/spend?range=last+24+hours&feature=agent")
    expect(page.get_by_text(re.compile(r"\$[\d,.]+ estimated, USD"))).to_be_visible()
    page.get_by_role("link", name="Calls", exact=True).click()
    expect(page.get_by_text(re.compile(r"^[\d,]+ of [\d,]+ calls"))).to_be_visible()
    expect(page).to_have_url(re.compile("feature=agent"))


def test_an_alert_names_its_cause_and_leads_to_a_call_in_two_clicks(page: Page, url: str) -> None:
    page.goto(url)
    page.get_by_role("link", name=re.compile("see why")).first.click()
    spike = page.get_by_role(
        "heading", name=re.compile(r"^Spend of (feature=agent|user=\w+) is \$")
    )
    burst = page.get_by_role("heading", name=re.compile("of .* failed with server_error"))
    expect(spike.first).to_be_visible()
    expect(burst.first).to_be_visible()
    expect(page.get_by_text(re.compile(r"excess.* .*agent")).first).to_be_visible()
    expect(page.locator('a[href*="/calls?"][href*="recommendations"]').first).to_be_visible()

    with page.expect_popup() as opened:
        page.locator('a[href*="/calls?"][href*="feature=agent"]').first.click()
    calls = opened.value
    expect(calls.get_by_text(re.compile(r"^[\d,]+ of [\d,]+ calls"))).to_be_visible()
    expect(calls.get_by_test_id("stStatusWidget")).to_have_count(0)
    table = calls.get_by_test_id("stDataFrame").first.bounding_box()
    assert table is not None
    first_row = table["x"] + 20, table["y"] + 54  # the tables are drawn, not made of elements
    calls.mouse.move(*first_row)
    calls.mouse.click(*first_row)

    expect(calls.get_by_text("Timeline of the trace")).to_be_visible()
    expect(calls).to_have_url(re.compile(r"trace=[0-9a-f]{32}"))
    assert dollars(figure(calls, "Cost, USD, estimated")) > 0
    expect(calls.get_by_text(re.compile("Price row gpt-5.5/standard/short"))).to_be_visible()

    link = calls.url  # that can be sent to somebody
    calls.close()
    page.goto(link)
    expect(page.get_by_text("HTTP attempts of this call")).to_be_visible()


def test_reconciliation_names_the_uninstrumented_key_and_its_figures_add_up(
    page: Page, url: str
) -> None:
    page.goto(f"{url}/reconciliation?range=last+14+days")
    warning = page.get_by_test_id("stAlert").filter(has_text="nightly-export")
    expect(warning).to_be_visible()
    assert dollars(re.findall(r"\$[\d,.]+\d", warning.inner_text())[0]) > 1
    billed, estimated, difference = (
        dollars(figure(page, label)) for label in ("Billed", "Estimated", "Difference")
    )
    # Three figures, each rounded to a cent for display.
    assert abs(billed - estimated - difference) <= Decimal("0.01")
    assert billed > estimated > 0
