"""`--help` of every command: how it is used, by examples that are right, and our own options."""

import importlib.util
import re
import shlex
import subprocess
import sys

import pytest
from conftest import HANGS, PACKAGE, ROOT

from modernbert_nli.__main__ import COMMANDS as SUBCOMMANDS

COMMANDS = (
    "app",
    "calibrate",
    "evaluate_nli",
    "export",
    "index",
    "pilot",
    "predict",
    "push_to_hub",
    "serve",
    "train",
)

NEEDS = {"serve": "fastapi"}  # without which it ends at once, saying what to install


def command(name: str):
    """The module that a file at the top level is the door to."""
    return importlib.import_module(importlib.import_module(name).main.__module__)


def parser_of(name: str):
    """What reads the command line of a command, without running it."""
    if name in NEEDS:
        pytest.importorskip(NEEDS[name])
    return command(name).parse_args


@pytest.mark.parametrize("name", COMMANDS)
def test_help_begins_with_how_the_command_is_used(name, capsys):
    """A usage line, what the command is for, and examples, in a page or two."""
    parse = parser_of(name)
    with pytest.raises(SystemExit) as done:
        parse(["--help"])
    shown = capsys.readouterr().out
    assert done.value.code == 0
    assert shown.startswith(f"usage: python {name}.py ")
    assert f"\n    python {name}.py" in shown
    assert all(len(line) <= 110 or "https://" in line for line in shown.splitlines())
    assert len(shown.splitlines()) < 150


@pytest.mark.parametrize("name", COMMANDS)
def test_the_examples_are_command_lines_that_are_understood(name):
    """Those that the help shows, and those of the file at the top level."""
    parse = parser_of(name)
    text = re.sub(r"\\\n\s+", "", importlib.import_module(name).__doc__ + command(name).__doc__)
    examples = re.findall(rf"^    python {name}\.py(.*?)(?:   .*)?$", text, re.MULTILINE)
    assert examples
    for example in examples:
        argv = shlex.split(example.replace("recipe.yaml", str(PACKAGE / "training/recipes/published.yaml")))
        assert parse(argv) is not None


def test_help_does_not_wait_for_torch():
    """Of every command, by its file at the top level and by its name in the console script."""
    names = [name for name in COMMANDS if there(name)]
    subcommands = [name for name in SUBCOMMANDS if name != "serve" or there("serve")]
    code = (
        "import importlib, sys\n"
        "from modernbert_nli.__main__ import main\n"
        f"calls = [(importlib.import_module(name).main, ['--help']) for name in {names}]\n"
        f"calls += [(main, [name, '--help']) for name in {subcommands}]\n"
        "for call, words in calls:\n"
        "    try:\n"
        "        call(words)\n"
        "    except SystemExit:\n"
        "        print('torch' in sys.modules, file=sys.stderr)\n"
    )
    run = [sys.executable, "-c", code]
    done = subprocess.run(run, cwd=ROOT, capture_output=True, text=True, timeout=HANGS)
    assert done.stderr.splitlines() == ["False"] * (len(names) + len(subcommands))


def there(name: str) -> bool:
    """Whether what a command needs is installed."""
    return name not in NEEDS or importlib.util.find_spec(NEEDS[name]) is not None


def test_the_help_of_train_shows_our_own_options_alone(capsys):
    """Grouped, `--recipe` among them; those that Trainer brings are behind a link, and still understood."""
    from modernbert_nli.training import command as train

    with pytest.raises(SystemExit):
        train.parse(["--help"])
    shown = capsys.readouterr().out
    assert "--recipe NAME_OR_FILE" in shown
    assert re.findall(r"^(\S.*):$", shown, re.MULTILINE) == [
        "options",
        "data",
        "heads and their base",
        "training",
    ]
    assert "--abstention_data" in shown
    assert "adam_beta1" not in shown
    assert "https://huggingface.co/docs/transformers/" in shown
    assert train.parse(["--train_data", "snli", "--adam_beta1", "0.5"])[2].adam_beta1 == 0.5


def test_a_recipe_may_be_named_with_an_equals_sign():
    """As any option of argparse may."""
    from modernbert_nli.training import command as train

    assert train.parse(["--recipe=published"]) == train.parse(["--recipe", "published"])
