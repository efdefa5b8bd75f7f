"""The page in a headless Chromium. Without Gradio, Playwright or a browser, tests are skipped, saying why.

The browser is the system's, from PATH or named by the variable CHROMIUM; Debian has it as `apt-get install
chromium`. Playwright only drives it, and fetches none of its own.
"""

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT, make_model
from looks import LOOKS

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
SLOW = 180_000  # milliseconds: a loaded machine is slow, not wrong
FLAGS = (
    "--no-sandbox",  # which a root user's Chromium cannot have
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """A headless Chromium."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="Playwright is missing: make test-browser")
    path = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)
    if path is None:
        pytest.skip("there is no Chromium here: `apt-get install chromium` (Debian), or name one by CHROMIUM")
    with sync_api.sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=path, args=list(FLAGS))
        yield chromium
        chromium.close()


@pytest.fixture(scope="session")
def serve(browser, tmp_path_factory) -> Iterator[Callable[..., str]]:
    """Starts the page in a process of its own, which can reach no Hub, and returns its address."""
    pytest.importorskip("gradio", reason="Gradio is missing: make test-browser")
    processes = []

    def start(*options: str, folder: Path = ROOT, script: str = "app.py", **environment: str) -> str:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        log = tmp_path_factory.mktemp("page") / "log"
        env = {**os.environ, "GRADIO_SERVER_PORT": str(port), "PYTHONPATH": "", **environment}
        with log.open("w") as file:
            command = [sys.executable, script, *options]
            process = subprocess.Popen(command, cwd=folder, env=env, stdout=file, stderr=file)
        processes.append(process)
        address = f"http://127.0.0.1:{port}"
        for _ in range(600):
            assert process.poll() is None, log.read_text()[-3000:]
            try:
                urllib.request.urlopen(address).close()
                return address
            except OSError:
                time.sleep(0.2)
        raise AssertionError(f"{address} did not answer: {log.read_text()[-3000:]}")

    yield start
    for process in processes:
        process.terminate()
        process.wait()


@pytest.fixture(scope="session")
def address(serve) -> str:
    """Of the page of the quick start checkpoint."""
    return serve()


@pytest.fixture(scope="session")
def uncalibrated(serve, tiny_bert, tmp_path_factory) -> str:
    """Of the page of a checkpoint that guarantees nothing."""
    folder = str(tmp_path_factory.mktemp("uncalibrated"))
    make_model(tiny_bert).save_pretrained(folder)
    return serve("--model", folder, "--base", tiny_bert)


@pytest.fixture
def visit(browser, request) -> Iterator[Callable[..., Any]]:
    """Opens an address as a new visitor, sees that nothing is asked of another host, that no script fails."""
    from playwright.sync_api import expect

    expect.set_options(timeout=SLOW)
    contexts, elsewhere, failures = [], [], []

    def open_page(address: str, look: str = "light") -> Any:
        context = browser.new_context(**LOOKS[look])
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(SLOW)
        page.on("request", lambda sent: _elsewhere(sent.url, address) and elsewhere.append(sent.url))
        page.on("pageerror", lambda error: failures.append(str(error)))
        page.goto(address)
        page.locator(".answer:visible").wait_for()
        # Drawn by the server before its buttons do anything: the last part to come alive says so.
        page.locator(".guarantee [aria-live=polite], .guarantee[aria-live=polite]").first.wait_for()
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert elsewhere == []
    assert failures == []


def _elsewhere(url: str, address: str) -> bool:
    return not url.startswith((f"{address}/", "data:", "blob:"))
