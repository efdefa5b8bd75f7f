"""The snippets of README.md and docs/, run from the top of each page as one pastes them, and what they print.

A ```python block may be followed by a ```text block: what it prints.
"""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from itertools import zip_longest
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
_SNIPPET = re.compile(r"```python\n(.*?)```\n(?:\n```text\n(.*?)```\n)?", re.DOTALL)
_NUMBER = re.compile(r"\d+(?:\.(\d+))?")

# Reads snippets from its input; all of a page share a namespace.
_SESSION = """
import contextlib, io, json, sys
namespace, printed = {"__name__": "__main__"}, []
for number, code in enumerate(json.load(sys.stdin), 1):
    with contextlib.redirect_stdout(io.StringIO()) as out:
        exec(compile(code, f"snippet {number}", "exec"), namespace)
    printed.append(out.getvalue())
print(json.dumps(printed))
"""


def snippets(page: str) -> list[tuple[str, str | None]]:
    """The code of each, and the output that is shown with it, if one is."""
    return [(found[1], found[2]) for found in _SNIPPET.finditer(page)]


def run(page: str, **environment: str) -> list[str]:
    """What each snippet of a page prints, in a fresh process at the repository's root.

    Args:
        page (`str`): Markdown.
        **environment (`str`): Variables beside those of this process.

    Raises:
        RuntimeError: a snippet fails; the message is its traceback.
    """
    command = [sys.executable, "-c", _SESSION]
    known = {**os.environ, "PYTHONPATH": str(ROOT), **environment}
    codes = json.dumps([code for code, _ in snippets(page)])
    done = subprocess.run(command, cwd=ROOT, env=known, input=codes, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(done.stderr)
    return json.loads(done.stdout.splitlines()[-1])


def alike(shown: str, printed: str) -> bool:
    """Whether an output is as shown, up to a unit in the last place of each number: machines round apart."""
    if _NUMBER.sub("0", shown) != _NUMBER.sub("0", printed):
        return False
    return all(
        abs(float(one[0]) - float(other[0])) < 1.5 * 10.0 ** -len(one[1] or "")
        for one, other in _pairs_of_numbers(shown, printed)
    )


def _pairs_of_numbers(shown: str, printed: str) -> Iterator[tuple[re.Match[str], re.Match[str]]]:
    return zip(_NUMBER.finditer(shown), _NUMBER.finditer(printed), strict=True)


def wrong(page: str, printed: list[str]) -> list[tuple[str, str, str]]:
    """Snippets whose output is not as shown: code, what is shown, what is printed."""
    rows = zip_longest(snippets(page), printed)
    return [(code, shown, now) for (code, shown), now in rows if shown is not None and not alike(shown, now)]


def refreshed(page: str, printed: list[str]) -> str:
    """A page that shows what its snippets print; outputs that are alike stay as they are."""
    outputs = iter(printed)

    def block(found: re.Match[str]) -> str:
        now = next(outputs)
        if found[2] is None or alike(found[2], now):
            return found[0]
        return f"```python\n{found[1]}```\n\n```text\n{now}```\n"

    return _SNIPPET.sub(block, page)
