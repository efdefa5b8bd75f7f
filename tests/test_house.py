"""The house: how much runs on loading, which way imports go, and that no class reaches into another."""

import ast
import io
import json
import re
import shutil
import tokenize
from pathlib import Path

from conftest import PACKAGE, ROOT, SHIPPED, fresh, make_model

from modernbert_nli.embedded import CHECKPOINT
from modernbert_nli.publishing.card import shipped_code
from modernbert_nli.training.adapter import add_adapter

# Lines of code, without docstrings, comments, blank lines and imports of siblings: what a reader of
# `trust_remote_code` has to read for AutoModel, for a pair, and with what is called besides.
MODEL, PAIR, ALL = 1_650, 3_400, 6_650

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


def what_runs(checkpoint: str, base: str) -> list[list[str]]:
    """Modules of a checkpoint's own code that were executed: once it is loaded, and once a pair is judged."""
    import sys
    from pathlib import Path

    from transformers import AutoModel, pipeline

    def ran() -> list[str]:
        names = [name.split(".") for name in sys.modules if name.startswith("transformers_modules.")]
        return [parts[-1] for parts in names if Path(checkpoint, f"{parts[-1]}.py").is_file()]

    options = {"base_model_name_or_path": base}
    AutoModel.from_pretrained(checkpoint, trust_remote_code=True, **options)
    loaded = ran()
    judge = pipeline(model=checkpoint, trust_remote_code=True, model_kwargs=options, device="cpu")
    judge("It rains in Oslo.", "The ground is wet.")
    return [loaded, ran()]


def measured(checkpoint: Path, base: str, home: Path) -> tuple[list[set[str]], list[set[str]]]:
    """Of a checkpoint with its code beside it: what its card says, and what `what_runs` does, as sets."""
    folder = shutil.copytree(checkpoint, home / "checkpoint", dirs_exist_ok=True)
    for path in SHIPPED:
        shutil.copy(path, folder)
    adapter = bool(json.loads((folder / "config.json").read_text())["adapter"])
    said: dict[str, set[str]] = {"on loading": set(), "for a pair": set(), "when called": set()}
    for file in shipped_code(folder, adapter):
        said[file["runs"]].add(file["name"].removesuffix(".py"))
    loading, pair, called = said.values()
    assert loading | pair | called == {path.stem for path in SHIPPED}
    done = fresh(what_runs, str(folder), base, home=home, HF_HUB_OFFLINE="1")
    return [loading, loading | pair], [set(names) for names in done]


def test_what_runs(minilm, tmp_path):
    """Loading a checkpoint, and judging a pair, executes the files that its card says, and few lines."""
    said, ran = measured(CHECKPOINT, minilm, tmp_path)
    assert ran == said
    assert budget(ran[0]) <= MODEL
    assert budget(ran[1]) <= PAIR


def test_what_runs_of_an_adapter(tiny_modernbert, tmp_path):
    """A checkpoint with a low-rank update of its base runs that on loading, too."""
    model = make_model(tiny_modernbert, "separate")
    add_adapter(model, rank=4)
    model.save_pretrained(tmp_path / "own")
    said, ran = measured(tmp_path / "own", tiny_modernbert, tmp_path)
    assert ran == said
    assert "lora" in ran[0]


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


def test_the_picture_of_the_architecture_names_files_that_are_there():
    """Those of the package; "…" stands for what three names have in common."""
    picture = (ROOT / "docs" / "architecture.svg").read_text(encoding="utf-8")
    named = re.findall(r"\w+\.py|\w+_…", re.sub("<style>.*?</style>", "", picture, flags=re.DOTALL))
    names = {name.replace("_…", "_modernbert_nli.py") for name in named}
    assert names - {"modernbert_nli.py"} <= {path.name for path in PACKAGE.glob("*.py")}
    assert len(names) > 10
