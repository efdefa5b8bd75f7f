"""The house: how much runs on loading, which way imports go, and that no class reaches into another."""

import ast
import io
import json
import re
import subprocess
import sys
import tokenize
from pathlib import Path

import pytest
from conftest import HANGS, PACKAGE, ROOT, SHIPPED

from modernbert_nli.embedded import CHECKPOINT

# Lines of code, without docstrings, comments, blank lines and imports of siblings.
MODEL, PAIR, ALL = 1_650, 3_400, 6_650
# What a reader of `trust_remote_code` has to read: for AutoModel, for a pair, and for what is called besides.
OF_MODEL = {
    *("configuration_modernbert_nli", "modeling_modernbert_nli", "checkpoint"),
    *("encoder", "fingerprint", "heads", "tokenization"),
}
OF_PAIR = OF_MODEL | {
    *("pipeline_modernbert_nli", "guards", "kept_texts", "separate", "pairwise", "states"),
    *("sentences", "markup"),
}

# What our classes have from theirs.
OF_LIBRARIES = {
    "_modules",
    "_name_or_path",
    "_attn_implementation",
    "_no_split_modules",
    "_replace",
    "_parameters",
}


def code_lines(path: Path) -> int:
    """Lines that say something to Python."""
    source = path.read_text(encoding="utf-8")
    left_out: set[int] = set()
    for node in ast.walk(ast.parse(source)):
        first = getattr(node, "body", None) or [None]
        documented = isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
        if documented and isinstance(first[0], ast.Expr) and isinstance(first[0].value, ast.Constant):
            left_out.update(range(first[0].lineno, first[0].end_lineno + 1))
        if isinstance(node, ast.ImportFrom) and node.level:
            left_out.update(range(node.lineno, node.end_lineno + 1))
    silent = (tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT)
    lines: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type not in (*silent, tokenize.ENDMARKER):
            lines.update(range(token.start[0], token.end[0] + 1))
    return len(lines - left_out)


def budget(names: set[str]) -> int:
    return sum(code_lines(PACKAGE / f"{name}.py") for name in names)


RUN = """\
import json, sys
{prepare}
names = [name for name in sys.modules if name.startswith("modernbert_nli.")]
print(json.dumps([name.partition(".")[2] for name in names]))
"""
LOADED = """\
import sys
sys.path.insert(0, {root!r})
from transformers import AutoConfig, AutoModel
from modernbert_nli.configuration_modernbert_nli import ModernBertNliConfig
from modernbert_nli.modeling_modernbert_nli import ModernBertNliModel
"""
JUDGED = """
from modernbert_nli.embedded import base_folder
model = ModernBertNliModel.from_pretrained({checkpoint!r}, base_model_name_or_path=str(base_folder()))
from modernbert_nli.pipeline_modernbert_nli import NliAbstentionPipeline
NliAbstentionPipeline(model=model, tokenizer=model.tokenizer)("It rains in Oslo.", "The ground is wet.")
"""


@pytest.mark.parametrize(("pair", "expected", "most"), [(False, OF_MODEL, MODEL), (True, OF_PAIR, PAIR)])
def test_what_runs(pair, expected, most):
    """Importing the model, and judging a pair, runs these modules of the package and no other."""
    code = RUN.format(
        prepare=LOADED.format(root=str(ROOT)) + JUDGED.format(checkpoint=str(CHECKPOINT)) * pair
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=HANGS, check=True
    )
    ran = set(json.loads(done.stdout.splitlines()[-1])) - {"embedded"}
    assert ran == expected
    assert budget(ran) <= most


def test_what_ships():
    """All files of a checkpoint together."""
    assert budget({path.stem for path in SHIPPED}) <= ALL


def test_imports_go_one_way():
    """No module of the package imports, while it is imported itself, one that imports it."""
    needs: dict[str, set[str]] = {}
    for path in PACKAGE.rglob("*.py"):
        name = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        here = name if path.stem == "__init__" else name.rpartition(".")[0]
        needs[name] = set()
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ImportFrom) and (
                node.level or (node.module or "").startswith("modernbert_nli")
            ):
                parts = here.split(".")
                package = ".".join(parts[: len(parts) - node.level + 1]) if node.level else ""
                module = ".".join(part for part in (package, node.module) if part)
                needs[name] |= {module, *(f"{module}.{one.name}" for one in node.names)}
    known = set(needs)
    needs = {name: (found & known) - {name} for name, found in needs.items()}
    while free := {name for name, found in needs.items() if not found}:
        needs = {name: found - free for name, found in needs.items() if name not in free}
    assert needs == {}


def test_no_class_reaches_into_another():
    """A private name of one file is not used in another; those of libraries sometimes have to be."""
    own: dict[Path, set[str]] = {}
    used: dict[Path, dict[str, str]] = {}
    for path in PACKAGE.rglob("*.py"):
        own[path], used[path] = set(), {}
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef):
                own[path].add(node.name)
            if isinstance(node, ast.Attribute) and re.match("_[a-z]", node.attr):
                if ast.unparse(node.value) in ("self", "cls"):
                    own[path].add(node.attr)
                else:
                    used[path][node.attr] = f"{path.name}:{node.lineno}: {ast.unparse(node)}"
    every = set().union(*own.values()) - OF_LIBRARIES
    found = [
        where for path, names in used.items() for name, where in names.items() if name in every - own[path]
    ]
    assert found == []


def test_the_top_level():
    """Someone new finds their way from the file list."""
    assert len(list(ROOT.glob("*.py"))) <= 14
