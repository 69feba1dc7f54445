"""The status page in a real browser, while a real swarm of processes fills it: what a person sees, hears and presses.

One swarm for all: an honest volunteer, one that skips its training, and a host that is killed on the way.
"""

import re
from pathlib import Path

import pytest
from support.swarms.stage import Stage
from support.swarms.watching import Watching, needs_browser, running_browser

SERIOUS = ("serious", "critical")

pytestmark = [pytest.mark.swarm, pytest.mark.timeout(400), needs_browser]


@pytest.fixture(scope="module")
def browser():
    with running_browser() as browser:
        yield browser


@pytest.fixture
def stage(tmp_path):
    stage = Stage(tmp_path)
    yield stage
    stage.close()


def page_url(stage):
    found = re.findall(r"watch it at (http://\S+)", stage.log("host"))
    return found[-1] if found else ""


def faults(page):
    """What axe-core finds of weight, a line each."""
    import axe_playwright_python

    page.evaluate((Path(axe_playwright_python.__file__).parent / "axe.min.js").read_text())
    found = page.evaluate("axe.run()")
    assert len(found["passes"]) > 20, "axe has looked at next to nothing"
    return [f"{one['id']}: {one['nodes'][0]['html']}" for one in found["violations"] if one["impact"] in SERIOUS]


def test_a_swarm_is_watched_from_its_first_network_to_its_last(stage, browser):
    campaign = stage.write_campaign(seeds=8, bundle=4, steps=600, segment=20)
    stage.host()
    seed(stage, campaign)
    seen = Watching(browser, page_url(stage), viewport={"width": 1100, "height": 900}, color_scheme="light")
    page = seen.page
    seen.wait_state("live")
    seen.wait("document.querySelector('#campaigns h3')", "the campaign")
    assert seen.number("admitted") == 0 and seen.number("waiting") == 4 and seen.points() == 0
    page.evaluate("window.sameDocument = true")

    stage.volunteer("mallory", cheat="skip")  # a rejected host appears with the reason
    seen.wait("/mallory[^]*convicted[^]*disagree/.test(document.getElementById('checks').innerText)", "the conviction")
    seen.wait("/banned\\s*mallory[^]*disagree/.test(document.getElementById('hosts').innerText)", "the ban")
    seen.wait("/1\\s*hosts banned/.test(document.getElementById('totals').innerText)", "their number")

    volunteer(stage, "alice")  # progress moves, the map gains points
    seen.wait("/16 of 16 networks admitted, 16 in the zoo/.test(document.getElementById('campaigns').innerText)", "all")
    seen.wait("document.querySelector('.zoomap')?.dataset.points === '16'", "every network on the map")
    assert seen.number("admitted") == 4 and seen.number("waiting") == 0 and seen.number("rejected") >= 1
    assert page.locator("#recent .curve path.training").count() == 12
    assert seen.said == []
    own_page(stage, browser, "16 of 16 networks admitted")

    stage.kill("host")  # the host goes away and comes back, and nobody reloads anything
    seen.wait_state("lost")
    assert "trying again" in page.inner_text("#connection")
    own_page(stage, browser, "16 of 16 networks admitted")
    stage.host()
    seen.wait_state("live")
    assert page.evaluate("window.sameDocument") is True
    more = campaign.with_name("more.toml")
    more.write_text(campaign.read_text().replace('"stage"', '"more"').replace('"0:8"', '"8:12"'))
    seed(stage, more)
    seen.wait("/8 of 8 networks admitted, 8 in the zoo/.test(document.getElementById('campaigns').innerText)", "more")
    seen.wait("document.querySelector('.zoomap').dataset.points === '24'", "more points on the map")
    assert page.evaluate("window.sameDocument") is True
    leaders = page.inner_text("#leaders")
    assert "alice @owls" in leaders and re.search(r"1\s+@owls", leaders) and "mallory" not in leaders

    assert seen.unexpected() == []
    origin = page_url(stage)
    assert all(url.startswith(origin) for url in seen.asked), "something was asked of somebody else"
    assert page.context.cookies() == [] and page.evaluate("localStorage.length + sessionStorage.length") == 0
    assert faults(page) == []
    keyboard(page)
    seen.close()
    other_eyes(browser, origin)


def volunteer(stage, name):
    """One that stays when all is done, and belongs to a team."""
    options = ["--dir", str(stage.path / name), "--name", f"{name} @owls", "--threads", "1", "--page", "0"]
    stage.start(name, "join", stage.address, *options)


def own_page(stage, browser, swarm):
    """What the volunteer's own page shows: itself, and what it hears of the swarm."""
    url = re.findall(r"your status page: (http://127.0.0.1:\S+)", stage.log("alice"))[-1]
    seen = Watching(browser, url, viewport={"width": 1100, "height": 900})
    seen.wait_state("live")
    seen.wait(f"document.getElementById('campaigns').innerText.includes({swarm!r})", "what it heard of the swarm")
    assert re.search(r"networks trained\s+16 ", seen.page.inner_text("#own"))
    assert seen.said == [] and faults(seen.page) == []
    seen.close()


def seed(stage, campaign):
    done = stage.run("seed", str(campaign), "--dir", str(stage.path / "host"))
    assert done.returncode == 0, done.stderr


def keyboard(page):
    """The first tab leads to the content; every link and scrolled table can be reached, and it is seen where one is."""
    page.evaluate("document.activeElement.blur(); window.scrollTo(0, 0)")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "To the content"
    assert page.evaluate("document.activeElement.getBoundingClientRect().left") >= 0, "the link shows when it has focus"
    reached = set()
    for _ in range(30):
        page.keyboard.press("Tab")
        reached.add(page.evaluate("document.activeElement.getAttribute('href') || document.activeElement.ariaLabel"))
        outlined = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
        assert outlined != "none" or page.evaluate("document.activeElement === document.body")
    assert {"#campaigns", "#checks", "/api/v1/state"} <= reached and any("Hosts" in (one or "") for one in reached)


def other_eyes(browser, url):
    """In the dark, on a phone, and without a script."""
    dark = Watching(browser, url, color_scheme="dark", viewport={"width": 1100, "height": 900})
    dark.wait_state("live")
    paper = dark.page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert max(map(int, re.findall(r"\d+", paper)[:3])) < 60
    assert faults(dark.page) == [] and dark.said == []
    for hidden, state in (("true", "static"), ("false", "live")):  # a tab that nobody sees rests
        dark.page.evaluate(f"Object.defineProperty(document, 'hidden', {{value: {hidden}, configurable: true}})")
        dark.page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
        dark.wait_state(state)
    dark.close()
    phone = Watching(browser, url, viewport={"width": 360, "height": 760}, is_mobile=True, has_touch=True)
    phone.wait_state("live")
    assert phone.page.evaluate("document.documentElement.scrollWidth") <= 360, "the page is wider than the phone"
    assert faults(phone.page) == [] and phone.said == []
    phone.close()
    plain = Watching(browser, url, java_script_enabled=False)
    text = plain.page.inner_text("main")
    assert "16 of 16 networks admitted" in text and "mallory" in text
    assert plain.page.locator("#connection").inner_text() == "Not live: reload for news"
    assert plain.page.locator("noscript").count() == 1 and plain.said == []
    plain.close()
