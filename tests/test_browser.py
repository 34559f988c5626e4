"""The web chat in a real browser: Debian's Chromium on the page of a running `crashcart serve`.

Pictures of what was seen are kept in the run's temporary folder, or in $PICTURES. No console error and no request to
another machine is let pass by any test.
"""

from __future__ import annotations

import io
import os
import shutil
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, expect, sync_playwright

from assistant.threads import Threads, new_thread
from tests.loopback import serving as answering
from tests.serving import serving
from tests.test_probes_gpu import library  # noqa: F401 - a fixture: a libnvidia-ml.so.1 that plays a host

ROOT = Path(__file__).parent.parent
LOG = ROOT / "tests/fixtures/logs/vllm_v1_kv_cache.log"
METRICS = ROOT / "tests/fixtures/metrics/sglang.txt"
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
KV = "ValueError: The model's max seq len (131072) is larger than the maximum number of tokens that can be stored in KV cache (20304)."
WAIT_MILLISECONDS = 30_000
# Notes the order in which things come into the page.
WATCH = """
window.came = [];
new MutationObserver(() => {
  for (const [name, selector] of [['step', '#talk .thought-group'], ['answer', '#talk .badges']])
    if (!window.came.includes(name) && document.querySelector(selector)) window.came.push(name);
}).observe(document, { childList: true, subtree: true });
"""

Open = Callable[..., Any]
expect.set_options(timeout=WAIT_MILLISECONDS)
pytestmark = pytest.mark.skipif(not CHROMIUM, reason="no Chromium on this machine (Debian: apt-get install chromium)")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield running
        running.close()


@pytest.fixture(scope="module")
def server(home: Path, library: Path) -> Iterator[str]:  # noqa: F811
    """Crashcart on a host with a hot L40S and an engine that serves."""
    played = {"LD_LIBRARY_PATH": str(library), "FAKE_NVML_HOST": str(ROOT / "tests/fixtures/hosts/l40s-hot/nvml.txt")}
    pages = {
        "/metrics": METRICS.read_text(),
        "/health": "",
        "/v1/models": '{"data": [{"id": "m", "max_model_len": 8192}]}',
    }
    before = {name: os.environ.get(name) for name in played}
    os.environ.update(played)
    try:
        with answering(pages) as engine, serving(home, urls=engine.url) as url:
            yield url
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = Path(os.environ["PICTURES"]) if "PICTURES" in os.environ else tmp_path_factory.mktemp("pictures")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@pytest.fixture
def visit(browser: Browser, server: str) -> Open:
    """A visitor's browser on the page; what it must not do is looked at when it leaves."""

    @contextmanager
    def opened(address: str = "", width: int = 1280, **taste: Any) -> Iterator[Page]:
        context = browser.new_context(viewport={"width": width, "height": 900 if width > 500 else 800}, **taste)
        context.set_default_timeout(WAIT_MILLISECONDS)
        context.grant_permissions(["clipboard-read", "clipboard-write"], origin=server)
        context.add_init_script(WATCH)
        asked: list[str] = []
        wrong: list[str] = []
        context.on("request", lambda request: asked.append(request.url))
        context.on("console", lambda told: wrong.append(told.text) if is_error(told) else None)
        context.on("weberror", lambda error: wrong.append(str(error.error)))
        page = context.new_page()
        page.goto(server + address)
        expect(page.locator("#box textarea")).to_be_editable(timeout=WAIT_MILLISECONDS)
        expect(page.locator("#top button").first).not_to_be_empty()
        yield page
        context.close()
        assert wrong == []
        assert {urlsplit(url).hostname for url in asked if url.startswith("http")} == {"127.0.0.1"}
        assert {urlsplit(url).scheme for url in asked} <= {"http", "data", "blob"}

    return opened


def is_error(told: ConsoleMessage) -> bool:
    return told.type == "error"


def ask(page: Page, text: str, *logs: Path, others: int = 0) -> None:
    """Ask by the keyboard, and wait until the answer can be rated; `others` were asked in another window meanwhile."""
    before = page.locator("#talk .user-row").count() + others
    if logs:
        page.locator("#box input[type=file]").set_input_files(logs)
        expect(page.get_by_role("listitem", name="File thumbnail")).to_have_count(len(logs))
    page.locator("#box textarea").fill(text)
    page.locator("#box textarea").press("Enter")
    expect(page.locator("#talk .user-row")).to_have_count(before + 1, timeout=WAIT_MILLISECONDS)
    answered(page)


def answered(page: Page) -> None:
    expect(
        page.get_by_role("button", name="This helped").or_(page.get_by_role("button", name="有帮助", exact=True))
    ).to_be_visible(timeout=WAIT_MILLISECONDS)
    expect(page.get_by_test_id("submit-button")).to_be_visible()


def test_an_incident_from_the_question_to_the_case(visit: Open, home: Path, pictures: Path) -> None:
    with visit() as page:
        page.screenshot(path=pictures / "start.png")
        ask(page, "vLLM 0.11.0 stops, why? `vllm serve Qwen/Qwen2.5-7B --max-model-len 131072 --port 8000`", LOG)
        assert page.evaluate("came") == ["step", "answer"]
        page.screenshot(path=pictures / "answer.png")

        page.get_by_role("link", name="L1").first.click()
        expect(page.locator("details.evidence.L1 pre")).to_be_visible()
        expect(page.locator("details.evidence.L1 pre")).to_contain_text("4.54 GiB KV cache is needed")
        expect(page.locator("pre.diff").first).to_contain_text("13107249168")
        page.locator("pre.diff").first.scroll_into_view_if_needed()
        page.locator(".code_wrap", has_text="--port 8000").first.get_by_title("copy").click()
        copied = page.evaluate("navigator.clipboard.readText()")
        assert "vllm serve Qwen/Qwen2.5-7B --max-model-len 49168 --port 8000" in copied
        page.screenshot(path=pictures / "fix.png")

        page.locator("#top").get_by_role("button", name="中文").press("Enter")
        expect(page.get_by_role("button", name="新对话")).to_be_visible()
        page.reload()
        expect(page.get_by_role("button", name="新对话")).to_be_visible()
        expect(page.locator("#talk .badges")).to_be_visible()
        expect(page.locator("#thread-list label")).to_have_count(1)

        page.get_by_role("button", name="有帮助", exact=True).press("Enter")
        said = page.locator("#talk code", has_text=".yaml")
        expect(said).to_be_visible()
        case = Path(said.inner_text())
        assert case.parent == home / "cases" and "helped" in case.read_text() and LOG.name in case.read_text()

        with page.expect_download() as kept:
            page.get_by_role("button", name="保存证据包").click()
        with zipfile.ZipFile(io.BytesIO(Path(kept.value.path()).read_bytes())) as bundle:
            assert {"1/question.txt", "1/host.json", f"1/logs/{LOG.name}"} <= {*bundle.namelist()}
        with page.expect_download() as kept:
            page.get_by_role("button", name="保存为 Markdown").click()
        assert "## Diagnosis" in Path(kept.value.path()).read_text()


def test_a_conversation_is_followed_retried_taken_back_and_left(visit: Open) -> None:
    with visit() as page:
        ask(page, KV)
        ask(page, "It still fails.")
        page.get_by_role("button", name="Undo").last.click()
        expect(page.locator("#talk .user-row")).to_have_count(1)
        expect(page.locator("#box textarea")).to_have_value("It still fails.")
        page.locator("#talk .badges").evaluate("badges => { badges.dataset.old = '1'; }")
        page.get_by_role("button", name="Retry").last.click()
        expect(page.locator("#talk .badges[data-old]")).to_have_count(0)  # so the answer seen next is the new one
        answered(page)
        expect(page.locator("#talk .user-row")).to_have_count(1)
        first = page.url
        page.get_by_role("button", name="New conversation").click()
        expect(page.locator("#talk .user-row")).to_have_count(0)
        assert "thread" not in page.url
        ask(page, "vllm: error: unrecognized arguments: --swap-space 4")
        expect(page.locator("#thread-list label")).to_have_count(2)
        page.locator("#thread-list label").last.click()
        expect(page.locator("#talk .user-row")).to_contain_text("max seq len")
        assert page.url == first

        other = page.context.new_page()
        other.goto(first)
        expect(other.locator("#talk .badges")).to_be_visible()
        ask(other, "It still fails.")
        ask(page, "And now?", others=1)

        page.get_by_role("button", name="Delete this one").click()  # a dialog that nobody looks at is dismissed
        expect(page.locator("#talk .user-row")).not_to_have_count(0)
        page.once("dialog", lambda dialog: dialog.accept())
        page.get_by_role("button", name="Delete this one").click()
        expect(page.locator("#talk .user-row")).to_have_count(0)
        expect(page.locator("#thread-list label")).to_have_count(1)


def test_a_server_that_was_stopped_in_the_middle_and_a_thread_that_is_not_there(visit: Open, home: Path) -> None:
    name = new_thread()
    Threads.in_folder(home).begin(name, KV)
    with visit(f"/?thread={name}") as page:
        expect(page.locator("#talk .user-row")).to_contain_text("max seq len")
        page.get_by_role("button", name="Ask again").click()
        answered(page)
        expect(page.locator("#talk .user-row")).to_have_count(1)
    with visit("/?thread=%3Cimg%20src%3Dx%3E") as page:
        expect(page.locator("#talk")).to_contain_text("There is no conversation of this name")
        ask(page, KV)


def test_an_address_that_others_can_reach_asks_who_comes(browser: Browser, home: Path, pictures: Path) -> None:
    with serving(home, host="127.0.0.2", token="t", login="eng:secret") as url:
        context = browser.new_context(viewport={"width": 1280, "height": 900})
        page = context.new_page()
        asked: list[str] = []
        context.on("request", lambda request: asked.append(request.url))
        page.goto(url)
        name, password = page.locator("input[type=text]"), page.locator("input[type=password]")
        expect(password).to_be_visible(timeout=WAIT_MILLISECONDS)
        assert page.locator("#box").count() == 0
        page.screenshot(path=pictures / "login.png")
        for tried in ("wrong", "secret"):
            name.fill("eng")
            password.fill(tried)
            password.press("Enter")
            if tried == "wrong":
                expect(page.get_by_text("Incorrect")).to_be_visible()
        expect(page.locator("#box textarea")).to_be_editable(timeout=WAIT_MILLISECONDS)
        ask(page, KV)
        page.reload()
        expect(page.locator("#talk .badges")).to_be_visible()
        assert {urlsplit(each).hostname for each in asked if each.startswith("http")} == {"127.0.0.2"}
        address = page.url
        context.close()
        stranger = browser.new_context()
        page = stranger.new_page()
        page.goto(address)
        expect(page.locator("input[type=password]")).to_be_visible(timeout=WAIT_MILLISECONDS)
        stranger.close()


def test_what_logs_and_questions_bring_is_never_run(visit: Open, tmp_path: Path) -> None:
    bait = "<img src=x onerror='window.hit=1'><script>window.hit=1</script>![x](http://192.0.2.1/x.png)"
    log = tmp_path / "vllm.log"
    log.write_text(f"INFO vLLM API server version 0.10.2 {bait}\n{KV} {bait}\nExtra ``` {bait}\n")
    with visit() as page:
        ask(page, f"{bait} Why? `vllm serve m {bait} --max-model-len 131072`", log)
        page.locator("#talk details").evaluate_all("all => all.forEach((each) => { each.open = true })")
        page.wait_for_timeout(200)
        assert page.evaluate("window.hit") is None
        assert page.locator("#talk .prose :is(img, script, iframe)").count() == 0
        expect(page.locator("#talk .user-row")).to_contain_text("<img src=x")


def test_a_long_paste_becomes_a_file_and_is_read_whole(visit: Open) -> None:
    with visit() as page:
        page.locator("#box textarea").focus()
        page.evaluate(
            """(line) => {
              const text = Array.from({ length: 100000 }, (_, i) => i === 99998 ? line : `INFO 11-23 10:00:00 line ${i}`).join('\\n');
              const held = new DataTransfer();
              held.setData('text/plain', text);
              document.querySelector('#box textarea').dispatchEvent(
                new ClipboardEvent('paste', { clipboardData: held, bubbles: true, cancelable: true }));
            }""",
            KV,
        )
        expect(page.get_by_role("listitem", name="File thumbnail")).to_be_visible()
        assert page.locator("#box textarea").input_value() == ""
        page.wait_for_timeout(500)
        page.locator("#box textarea").press("Enter")
        answered(page)
        expect(page.locator("#talk .bot-row").last).to_contain_text(":99999")


def test_the_panel_of_this_host_draws_gpus_and_engines(visit: Open, pictures: Path) -> None:
    with visit(color_scheme="dark") as page:
        ask(page, KV)
        page.get_by_role("button", name="Conversations").first.click()
        page.get_by_role("button", name="This host").press("Enter")
        expect(page.locator("#findings .finding").first).to_be_visible(timeout=WAIT_MILLISECONDS)
        expect(page.get_by_role("img", name="GPU memory: GPU 0 89%")).to_be_visible()
        expect(page.get_by_role("img", name="GPU utilisation: GPU 0 100%")).to_be_visible()
        expect(page.get_by_role("img", name="KV cache in use")).to_be_visible()
        page.wait_for_timeout(500)
        page.screenshot(path=pictures / "host.png")


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_a_narrow_screen_in_chinese(visit: Open, pictures: Path, theme: str) -> None:
    with visit(width=400, locale="zh-CN", color_scheme=theme) as page:
        expect(page.get_by_role("button", name="本机状态").first).to_be_visible()
        page.screenshot(path=pictures / f"narrow-start-{theme}.png")
        page.locator("#talk .example").nth(2).click()
        answered(page)
        expect(page.locator("#talk .bot-row").last).to_contain_text("诊断")
        page.wait_for_timeout(300)
        page.screenshot(path=pictures / f"narrow-answer-{theme}.png")
        assert page.evaluate("document.documentElement.scrollWidth") <= 400
        page.get_by_role("button", name="历史对话").first.click()
        page.locator("#thread-list label").first.click()
        page.get_by_role("button", name="本机状态").first.click()
        expect(page.locator("#findings .finding").first).to_be_visible(timeout=WAIT_MILLISECONDS)
        page.wait_for_timeout(400)
        page.screenshot(path=pictures / f"narrow-host-{theme}.png")
