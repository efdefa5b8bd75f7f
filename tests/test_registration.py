"""Whose code runs: a checkpoint's own or the package's, wholly, and of the right folder or revision."""

import inspect
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import PAIRS, SHIPPED, fresh, make_model
from transformers.dynamic_module_utils import get_cached_module_file

import modernbert_nli
from modernbert_nli.pipeline_modernbert_nli import NliAbstentionPipeline

DOORS = ("AutoModel", "AutoModelForSequenceClassification", "by task", "by model", "text-classification")
OURS = ("by task", "by model")  # pipelines that no consent is needed for nowhere but in `modernbert_nli.load`


def mark(folder: Path, as_what: str, *names: str) -> Path:
    """Let the code of a folder say that it is another version, in all of its files or in some."""
    for path in [folder / name for name in names] or folder.glob("*.py"):
        path.write_text(f"{path.read_text()}\nVERSION = {as_what!r}\n")
    return folder


def open_all(state: str, trust: bool, folder: str, base: str, pairs: list[list[str]]) -> dict:
    """Whose code each door runs: the versions of all our modules that what it opens can reach.

    `state` is "absent" (the package cannot be imported), "installed", or "registered".
    """
    import sys
    import warnings

    warnings.simplefilter("ignore")

    class Absent:
        """In the way of the package, and of what stands beside it in the repository."""

        def find_spec(self, name, path=None, target=None):
            if name.partition(".")[0].endswith("modernbert_nli"):
                raise ModuleNotFoundError(f"No module named {name!r}", name=name)

    if state == "absent":
        sys.meta_path.insert(0, Absent())
    else:
        import modernbert_nli

        if state == "registered":
            modernbert_nli.register()
    from transformers import AutoModel, AutoModelForSequenceClassification, pipeline

    def versions(*opened):
        seen, todo = set(), [type(each).__module__ for each in opened]
        while todo:
            name = todo.pop()
            root = name.rpartition(".")[0]
            if name not in seen and (root == "modernbert_nli" or root.startswith("transformers_modules.")):
                seen.add(name)
                todo += [
                    getattr(value, "__module__", None) or "" for value in vars(sys.modules[name]).values()
                ]
        return sorted({getattr(sys.modules[name], "VERSION", "package") for name in seen})

    how = {"trust_remote_code": trust, "base_model_name_or_path": base}
    piped = {"trust_remote_code": trust, "model_kwargs": {"base_model_name_or_path": base}}
    doors = {
        "AutoModel": lambda: AutoModel.from_pretrained(folder, **how),
        "AutoModelForSequenceClassification": lambda: AutoModelForSequenceClassification.from_pretrained(
            folder, **how
        ),
        "by task": lambda: pipeline("nli-abstention", model=folder, **piped),
        "by model": lambda: pipeline(model=folder, **piped),
        "text-classification": lambda: pipeline("text-classification", model=folder, **piped),
    }
    found = {}
    for door, open_it in doors.items():
        try:
            opened = open_it()
        except (ValueError, RuntimeError) as error:
            found[door] = str(error)
            continue
        found[door] = versions(opened, *([opened.model] if hasattr(opened, "model") else []))
        if door in ("by task", "by model"):
            assert len(opened([tuple(pair) for pair in pairs])) == len(pairs)
            assert opened.check("It is red.", "The bridge is red.")["verdict"]
    if state != "absent":
        opened = modernbert_nli.load(folder, base=base)
        found["load"] = versions(opened, opened.model)
    return found


@pytest.fixture(scope="module")
def version_a(checkpoints, tmp_path_factory) -> str:
    """A checkpoint whose code is of another version than the package."""
    folder = shutil.copytree(checkpoints["separate"], tmp_path_factory.mktemp("a") / "model")
    return str(mark(Path(folder), "A"))


@pytest.mark.parametrize("state", ["absent", "installed", "registered"])
@pytest.mark.parametrize("trust", [True, False], ids=["trusted", "not trusted"])
def test_wholly_one_version(version_a, tiny_modernbert, tmp_path, state, trust):
    """The checkpoint's where it is trusted, the package's where that is registered: never some of each."""
    found = fresh(open_all, state, trust, version_a, tiny_modernbert, PAIRS, home=tmp_path)
    if state != "absent":
        assert found.pop("load") == ["package"]
    assert set(found) == set(DOORS)
    for door, result in found.items():
        if state == "registered" and (trust or door not in OURS):
            assert result == ["package"], door
        elif trust:
            assert result == ["A"], door
        else:
            assert isinstance(result, str), door
            assert "trust_remote_code" in result or "without a task" in result, (door, result)


def run(code: str, *arguments: str, home: Path) -> subprocess.CompletedProcess:
    environment = {"HF_HOME": str(home), "HF_HUB_OFFLINE": "1", "PATH": os.environ["PATH"]}
    return subprocess.run(
        [sys.executable, "-c", inspect.cleandoc(code), *arguments],
        cwd=home,
        env=environment,
        capture_output=True,
        text=True,
    )


def test_the_package_says_that_it_is_what_runs(version_a, tiny_modernbert, tmp_path):
    """Once, where the checkpoint's code was asked for, also if that has run before."""
    done = run(
        """
        import sys
        from transformers import AutoModel
        how = {"trust_remote_code": True, "base_model_name_or_path": sys.argv[2]}
        print(AutoModel.from_pretrained(sys.argv[1], **how).__module__)
        import modernbert_nli
        modernbert_nli.register()
        for _ in range(2):
            print(AutoModel.from_pretrained(sys.argv[1], **how).__module__)
        """,
        version_a,
        tiny_modernbert,
        home=tmp_path,
    )
    before, *after = done.stdout.split()
    assert before.startswith("transformers_modules.model.")
    assert after == ["modernbert_nli.modeling_modernbert_nli"] * 2
    assert done.stderr.count("The code that runs is that of the installed package in ") == 1


def test_cross_encoder_takes_what_is_registered(version_a, tiny_modernbert, tmp_path):
    """Without consent, and with it."""
    pytest.importorskip("sentence_transformers")
    for trust in (True, False):
        done = run(
            """
            import sys, modernbert_nli
            from sentence_transformers import CrossEncoder
            modernbert_nli.register()
            how = {"model_kwargs": {"base_model_name_or_path": sys.argv[2]}}
            encoder = CrossEncoder(sys.argv[1], trust_remote_code=sys.argv[3] == "True", **how)
            print(encoder.predict([("a", "b")]).shape, encoder.model.__module__)
            """,
            version_a,
            tiny_modernbert,
            str(trust),
            home=tmp_path,
        )
        assert done.stdout.split("\n")[-2] == "(1, 3) modernbert_nli.modeling_modernbert_nli", done.stderr


def test_a_pipeline_is_of_its_models_code(version_a, tiny_modernbert, monkeypatch, tmp_path):
    """Whoever brings the two together; a class derived from the pipeline of other code is refused."""
    from transformers import AutoModel, pipeline

    model = AutoModel.from_pretrained(
        version_a, trust_remote_code=True, base_model_name_or_path=tiny_modernbert
    )
    root = type(model).__module__.rpartition(".")[0]
    for opened in (
        NliAbstentionPipeline(model=model, tokenizer=model.tokenizer),
        NliAbstentionPipeline(model, threshold=0.1),
        pipeline("nli-abstention", model=model, pipeline_class=NliAbstentionPipeline, config=model.config),
    ):
        assert type(opened).__module__ == f"{root}.pipeline_modernbert_nli"
        assert not isinstance(opened, NliAbstentionPipeline)
        assert opened(*PAIRS[0])["label"]

    class Mine(NliAbstentionPipeline):
        """Somebody's own."""

    own = make_model(tiny_modernbert, "separate")
    assert type(Mine(model=own, tokenizer=own.tokenizer)) is Mine
    with pytest.raises(ValueError, match=r"Mine builds on the code in modernbert_nli.*transformers_modules"):
        Mine(model=model)


def test_what_is_saved_names_no_folder_of_the_package(tiny_modernbert, checkpoint, tmp_path):
    """The pipeline of a checkpoint is that beside it, whichever code saved it."""
    loaded = modernbert_nli.load(checkpoint, base=tiny_modernbert)
    loaded.save_pretrained(tmp_path)
    text = (tmp_path / "config.json").read_text()
    assert '"impl": "pipeline_modernbert_nli.NliAbstentionPipeline"' in text
    assert str(Path(modernbert_nli.__file__).parent) not in text


@pytest.mark.parametrize("state", ["absent", "installed"])
def test_an_import_error_inside_a_file_is_told(version_a, tiny_modernbert, tmp_path, state):
    """A package that is installed does not stand in for what a checkpoint's own file lacks."""
    folders = [
        Path(shutil.copytree(version_a, tmp_path / name / name)) for name in ("lacking", "missing", "without")
    ]
    heads = (folders[0] / "heads.py").read_text()
    (folders[0] / "heads.py").write_text(f"from .states import nothing_of_this_name\n{heads}")
    (folders[1] / "heads.py").write_text(f"import no_such_package\n{heads}")
    (folders[2] / "heads.py").unlink()
    found = fresh(errors_of, state, list(map(str, folders)), tiny_modernbert, home=tmp_path)
    for error, expected in zip(
        found,
        ("cannot import name 'nothing_of_this_name'", "no_such_package", "heads.py"),
        strict=True,
    ):
        assert expected in error


def errors_of(state: str, folders: list[str], base: str) -> list[str]:
    """The errors of loading folders' own code."""
    import sys

    if state == "absent":
        sys.modules["modernbert_nli"] = None
    from transformers import AutoModel

    found = []
    for folder in folders:
        try:
            model = AutoModel.from_pretrained(folder, trust_remote_code=True, base_model_name_or_path=base)
            found.append(repr(model))
        except (ImportError, OSError) as error:
            found.append(str(error))
    return found


# Two folders of one name ------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.name)
def test_an_edit_of_any_file_is_another_code(version_a, tmp_path, path):
    """transformers takes the first configuration class that it met: any edit must give another one."""
    copies = [Path(shutil.copytree(version_a, tmp_path / name / "model")) for name in ("r1", "r2", "r3")]
    mark(copies[1], "B", path.name)
    places = [get_cached_module_file(str(copy), "configuration_modernbert_nli.py") for copy in copies]
    assert places[0] == places[2] != places[1]
    root = Path(os.environ["HF_HOME"], "modules")
    assert (root / places[1]).with_name(path.name).read_bytes() == (copies[1] / path.name).read_bytes()


def load_each(folders: list[str], edited: list[str], base: str, revisions: list[str | None]) -> list:
    """Versions of the edited files that each folder's pipeline and model run, one load after the other."""
    import importlib

    from transformers import AutoModel, pipeline

    found = []
    for folder, revision in zip(folders, revisions, strict=True):
        where = {"revision": revision, "trust_remote_code": True}
        piped = pipeline(model=folder, model_kwargs={"base_model_name_or_path": base}, **where)
        auto = AutoModel.from_pretrained(folder, base_model_name_or_path=base, **where)
        rows = []
        for opened in (piped, piped.model, auto, auto.as_pipeline()):
            root = type(opened).__module__.rpartition(".")[0]
            rows.append(
                [getattr(importlib.import_module(f"{root}.{name}"), "VERSION", "") for name in edited]
            )
        assert rows[1:] == rows[:-1], rows
        found.append(rows[0])
    return found


EDITED = ["heads", "documents", "adapting", "sentences", "configuration_modernbert_nli"]


def test_folders_of_one_name_run_their_own_code(checkpoints, tiny_modernbert, tmp_path):
    """A folder, copies of it where a single file differs, and itself again: what runs is what lies there."""
    names = ["", *EDITED, ""]
    folders = [
        Path(shutil.copytree(checkpoints["separate"], tmp_path / f"{number}" / "checkpoint-100"))
        for number in range(len(names))
    ]
    for folder, name in zip(folders, names, strict=True):
        if name:
            mark(folder, "another", f"{name}.py")
    found = fresh(load_each, list(map(str, folders)), EDITED, tiny_modernbert, [None] * 7, home=tmp_path)
    assert found == [["another" if one == name else "" for one in EDITED] for name in names]


def edit_between(folder: str, base: str) -> list[str]:
    """As in a notebook: load, edit a file, load again, in one process."""
    import importlib
    from pathlib import Path

    from transformers import pipeline

    found, path = [], Path(folder, "documents.py")
    original = path.read_text()
    for text in ("", "VERSION = 'one'\n", "VERSION = 'two'\n"):
        path.write_text(f"{original}\n{text}")
        opened = pipeline(
            model=folder, trust_remote_code=True, model_kwargs={"base_model_name_or_path": base}
        )
        for root in {type(each).__module__.rpartition(".")[0] for each in (opened, opened.model)}:
            found.append(getattr(importlib.import_module(f"{root}.documents"), "VERSION", ""))
    return found


def test_an_edit_between_two_loads_is_what_runs(checkpoints, tiny_modernbert, tmp_path):
    """Of the pipeline and its model, which are of one code."""
    folder = shutil.copytree(checkpoints["separate"], tmp_path / "model")
    assert fresh(edit_between, str(folder), tiny_modernbert, home=tmp_path) == ["", "one", "two"]


def test_two_revisions_of_a_repository_run_their_own_code(checkpoints, hub, tiny_modernbert, tmp_path):
    """By commit, and by the branch that moved on, in one process."""
    folder = Path(shutil.copytree(checkpoints["separate"], tmp_path / "model"))
    first = hub.add("tester/two", folder)
    second = hub.add("tester/two", mark(folder, "second", "documents.py", "heads.py"))
    revisions = [first, second, None, first]
    found = fresh(
        load_each, ["tester/two"] * 4, EDITED, tiny_modernbert, revisions, home=tmp_path, HF_ENDPOINT=hub.url
    )
    old, new = [""] * len(EDITED), ["second", "second", "", "", ""]
    assert found == [old, new, new, old]


# What is printed --------------------------------------------------------------------------------------------


def test_a_commit_ends_the_warnings_of_a_first_load(checkpoints, hub, tiny_modernbert, tmp_path):
    """transformers warns of every file of code that it downloads, unless a revision is named."""
    commit = hub.add("tester/loud", checkpoints["separate"])
    code = """
        import sys
        from transformers import pipeline
        how = {"revision": sys.argv[2] or None, "model_kwargs": {"base_model_name_or_path": sys.argv[1]}}
        pipeline(model="tester/loud", trust_remote_code=True, **how)
    """
    environment = {"HF_ENDPOINT": hub.url, "HF_HUB_DISABLE_XET": "1", "PATH": os.environ["PATH"]}
    for revision, warned in (("", len(SHIPPED)), (commit, 0)):
        done = subprocess.run(
            [sys.executable, "-c", inspect.cleandoc(code), tiny_modernbert, revision],
            cwd=tmp_path,
            env={**environment, "HF_HOME": str(tmp_path / f"home-{warned}")},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr[-3000:]
        assert done.stderr.count("A new version of the following files was downloaded") == warned


def test_loading_prints_nothing(tmp_path):
    """Neither while the package is imported, nor while its own checkpoint is loaded and judges."""
    done = run(
        """
        import modernbert_nli
        nli = modernbert_nli.load()
        assert nli("A man is playing guitar on stage.", "A person is making music.")["label"]
        """,
        home=tmp_path,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_progress_bars_are_as_they_were(monkeypatch):
    """After loading, and after a load that failed; somebody's own hook is asked meanwhile."""
    from transformers.utils import logging

    asked = []

    def mine(factory, args, kwargs):
        asked.append(kwargs)
        return factory(*args, **kwargs)

    before = logging.set_tqdm_hook(mine)
    try:
        modernbert_nli.load()
        with pytest.raises(OSError, match="nowhere"):
            modernbert_nli.load(base="nowhere")
        assert logging.set_tqdm_hook(mine) is mine
    finally:
        logging.set_tqdm_hook(before)
    assert asked
    assert all(kwargs["delay"] > 0 for kwargs in asked)
