"""The page as a reader meets it: in a browser, narrow and wide, light and dark."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from dataclasses import replace
from html.parser import HTMLParser
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from test_runs import TOYS, searched, toy_spec

from pipelines.see.formatting import format_number
from pipelines.see.page import format_page, write_page
from pipelines.see.run import load_run
from pipelines.see.summary import describe_best

NASTY = '</script><script>window.broken = true</script><img src=x onerror="window.broken=true">'
missing = [
    name
    for name, there in {
        "selenium": find_spec("selenium"),
        "chromium": shutil.which("chromium"),
        "chromedriver": shutil.which("chromedriver"),
    }.items()
    if not there
]
in_a_browser = pytest.mark.skipif(bool(missing), reason=f"needs {', '.join(missing)}")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("page") / "run"
    searched(folder, "digits", trials=60)
    write_page([folder], folder / "report.html")
    return folder


class Texts(HTMLParser):
    """The tags of a page, and the text between them."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.elsewhere: list[str] = []
        self.words = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.tags.append(tag)
        self.elsewhere += [value for name, value in attrs if name in ("src", "href")]

    def handle_data(self, data: str) -> None:
        self.words += data


def test_the_answer_comes_first_with_its_figures(run: Path) -> None:
    told = Texts(format_page([run])).words
    top = describe_best(load_run(run))
    assert top is not None
    begin = told.index("The answer")
    end = told.index("Best so far")
    answer = told[begin:end]
    assert f"Trial {top['trial']}, epoch {top['epoch']}" in answer
    for name in top["config"]:
        if f"unit_{name}" in load_run(run).trials:
            assert name in answer
    for split in ("validation", "test"):
        for name, value in top[split].items():
            told_ends = re.findall(rf"{format_number(value)} \(([\d.]+) to ([\d.]+)\)", answer)
            assert [*map(float, told_ends[0])] == pytest.approx(
                top["intervals"][split][name], rel=1e-3
            )


def test_nothing_on_it_comes_from_elsewhere(run: Path) -> None:
    text = format_page([run])
    assert Texts(text).elsewhere == []
    assert len(text) < 6e6


def test_what_a_user_named_stays_a_name(tmp_path: Path) -> None:
    data = tmp_path / "data.csv"
    frame = pd.DataFrame({"a": range(60), NASTY: [i % 2 for i in range(60)]})
    frame.to_csv(data, index=False)
    folder = searched(tmp_path / "run", str(data), trials=6, task="classification")
    known = load_run(folder)
    failed = known.events.iloc[[1]].assign(kind="fail", reason=NASTY, trial=0)
    nasty = replace(known, events=pd.concat([known.events, failed], ignore_index=True))
    plain = Texts(format_page([folder]))
    from pipelines.see import page as module

    drawn: dict[str, Any] = {}
    body = module._format_document(
        "x", module._format_failures(nasty) + module._format_code(nasty), drawn
    )
    for text in (format_page([folder]), body):
        assert "<script>window.broken" not in text
        assert "img" not in Texts(text).tags
    assert plain.tags.count("script") == 3
    assert NASTY in Texts(body).words


def test_a_run_that_failed_and_one_that_was_killed_have_pages_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(TOYS)
    failed = searched(tmp_path / "failed", spec_file=toy_spec(tmp_path, "Raising"), trials=6)
    assert "the second epoch is not for me" in Texts(format_page([failed])).words
    one = searched(tmp_path / "one", trials=1)
    assert "Too few trials" in Texts(format_page([one])).words


def test_of_several_runs_it_shows_them_side_by_side(tmp_path: Path) -> None:
    folders = [searched(tmp_path / str(seed), trials=6, seed=seed) for seed in range(2)]
    told = Texts(format_page(folders)).words
    assert told.index("Side by side") < told.index("The answer")
    for folder in folders:
        assert str(folder) in told
    assert "seed: 0 -> 1" in told


# ---------------------------------------------------------------------- in a browser


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium") or ""
    for flag in (
        "headless", "no-sandbox", "disable-gpu", "no-first-run", "disable-background-networking",
        "disable-component-update", "disable-sync", "disable-quic",
        f"user-data-dir={tmp_path_factory.mktemp('browser')}",
    ):  # fmt: skip
        options.add_argument(f"--{flag}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options, Service(shutil.which("chromedriver")))
    yield driver
    driver.quit()


def opened(browser: Any, path: Path, *, width: int = 1400, scheme: str = "light") -> None:
    browser.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False},
    )
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
    browser.get(path.as_uri())
    assert browser.execute_script("return document.documentElement.dataset.drawn") == "yes"


@in_a_browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [400, 1400])
def test_every_chart_is_drawn_with_data_and_nothing_overflows(
    browser: Any, run: Path, width: int, scheme: str
) -> None:
    opened(browser, run / "report.html", width=width, scheme=scheme)
    found = browser.execute_script(
        """return [...document.querySelectorAll('.chart')].map(c => ({id: c.id,
             traces: (c.data || []).length, drawn: !!c.querySelector('.main-svg'),
             points: (c.data || []).reduce((n, t) =>
               n + ((t.x || t.values || (t.dimensions || [{}])[0].values || []).length), 0)}))"""
    )
    assert len(found) > 10
    for chart in found:
        assert chart["drawn"] and chart["traces"] and chart["points"], chart
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width
    errors = [e for e in browser.get_log("browser") if e["level"] == "SEVERE"]
    assert errors == []
    paper = browser.execute_script("return getComputedStyle(document.body).backgroundColor")
    ink = browser.execute_script("return getComputedStyle(document.body).color")
    assert contrast(paper, ink) > 7  # WCAG's AAA


@in_a_browser
def test_another_pair_is_drawn_when_it_is_chosen(browser: Any, run: Path) -> None:
    opened(browser, run / "report.html")
    read = "return document.getElementById('r0-pair').{}"
    before = browser.execute_script(read.format("data[0].x"))
    names = browser.execute_script(
        "return [...document.getElementById('r0-pair-x').options].map(o => o.value)"
    )
    other = names[-1]
    browser.execute_script(
        "const s = document.getElementById('r0-pair-x'); s.value = arguments[0];"
        "s.dispatchEvent(new Event('change'))",
        other,
    )
    after = browser.execute_script(read.format("data[0].x"))
    assert after != before
    assert browser.execute_script(read.format("layout.xaxis.title.text")) == other
    shapes = browser.execute_script(read.format("layout.shapes"))
    assert len(shapes) == (load_run(run).events["kind"] == "zoom").sum()


@in_a_browser
def test_several_runs_open_one_by_one(browser: Any, run: Path, tmp_path: Path) -> None:
    other = searched(tmp_path / "other", "digits", trials=20, seed=1)
    write_page([run, other], tmp_path / "both.html")
    opened(browser, tmp_path / "both.html")
    browser.execute_script("document.querySelectorAll('details').forEach(d => d.open = true)")
    assert browser.execute_script("return document.getElementById('over').data.length") >= 1
    errors = [e for e in browser.get_log("browser") if e["level"] == "SEVERE"]
    assert errors == []


def contrast(a: str, b: str) -> float:
    """Of two CSS colours, as WCAG 2 defines it."""

    def luminance(colour: str) -> float:
        channels = [int(c) / 255 for c in re.findall(r"\d+", colour)[:3]]
        linear = [c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    low, high = sorted((luminance(a), luminance(b)))
    return (high + 0.05) / (low + 0.05)


def test_the_charts_data_cannot_end_its_script(run: Path) -> None:
    text = format_page([run])
    data = text.partition('<script id=drawn type="application/json">')[2].partition("</script>")[0]
    assert "<" not in data
    assert json.loads(data)
