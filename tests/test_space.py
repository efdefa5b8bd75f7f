"""The Space: what it consists of, and how push_to_hub.py --space sends it."""

import sys
from importlib.metadata import packages_distributions, version

import pytest
import yaml
from conftest import ROOT, reach
from huggingface_hub import HfApi
from loopback_hub import LoopbackHub
from test_page import imports

from modernbert_nli.publishing import command as push_to_hub
from modernbert_nli.publishing.space import REQUIREMENTS, START, space_files

COMMIT = "0123456789abcdef0123456789abcdef01234567"
OTHER_RUNTIMES = {"onnxruntime", "openvino"}  # of graphs, which a page is not asked for
OF_THE_PAGE = {"gradio": "6.31.0", "starlette": "1.10.0"}  # the rest is installed with the project itself


@pytest.fixture
def with_gradio(monkeypatch):
    """The versions of the page's own packages, whether or not they are installed where these tests run."""
    from modernbert_nli.publishing import space

    known = space._installed
    monkeypatch.setattr(space, "_installed", lambda name: OF_THE_PAGE.get(name) or known(name))


def test_a_space_has_all_that_its_code_imports(with_gradio):
    """From its own files, the standard library, or the pinned requirements."""
    files = space_files("tester/nli", COMMIT)
    own = {path.split("/")[0].removesuffix(".py") for path in files}
    pinned = {line.split("==")[0].lower() for line in files["requirements.txt"].decode().split()} | {"gradio"}
    names = packages_distributions()
    for path, data in files.items():
        if path.endswith(".py"):
            for name in imports(data.decode()) - own - set(sys.stdlib_module_names) - OTHER_RUNTIMES:
                assert {known.lower() for known in names.get(name, [name])} & pinned, (path, name)


def test_a_space_names_its_model_with_the_commit_and_its_versions_exactly(with_gradio):
    """In the front matter, the requirements and the file that starts it."""
    files = space_files("tester/nli", COMMIT)
    _, front, text = files["README.md"].decode().split("---\n")
    front = yaml.safe_load(front)
    assert (front["sdk"], front["sdk_version"]) == ("gradio", "6.31.0")
    assert front["models"] == ["tester/nli"]
    assert front["app_file"] == START
    assert front["python_version"] == f"{sys.version_info.major}.{sys.version_info.minor}"
    assert len(front["short_description"]) <= 60
    assert COMMIT in text
    assert f'"--model", "tester/nli", "--revision", "{COMMIT}"' in files[START].decode()
    lines = files["requirements.txt"].decode().splitlines()
    expected = {name: OF_THE_PAGE.get(name) or version(name).split("+")[0] for name in REQUIREMENTS}
    assert lines == [f"{name}=={pinned}" for name, pinned in expected.items()]
    assert not any("safetensors" in path or "checkpoints" in path for path in files)


@pytest.mark.parametrize("wrong", [("nli", COMMIT), ("tester/nli", "main"), ('a/b"]; evil', COMMIT)])
def test_a_space_of_no_repository_or_no_commit_is_refused(with_gradio, wrong):
    """A branch would change under the page."""
    with pytest.raises(ValueError, match="not"):
        space_files(*wrong)


def test_a_space_without_gradio_here_is_told(monkeypatch):
    """Its version is that of the page as it was tried."""
    from modernbert_nli.publishing import space

    def missing(name):
        raise space.PackageNotFoundError(name)

    monkeypatch.setattr(space, "version", missing)
    with pytest.raises(ModuleNotFoundError, match=r"gradio is not installed.*make app"):
        space_files("tester/nli", COMMIT)


# Sent ----------------------------------------------------------------------------------------------------


@pytest.fixture
def own_hub(monkeypatch, with_gradio):
    """A Hub with the quick start checkpoint, and a repository that holds none."""
    with LoopbackHub() as hub:
        hub.add("tester/nli", ROOT / "checkpoints" / "quickstart")
        hub.add("tester/empty", ROOT / "docs" / "no-such-folder")
        reach(hub, monkeypatch)
        yield hub


def run(capsys, *options: object) -> tuple[int, str]:
    """Exit status and what was printed, either way."""
    status = push_to_hub.main([str(option) for option in options])
    said = capsys.readouterr()
    return status, said.out or said.err


def test_a_space_is_sent_in_one_commit_and_again(own_hub, capsys):
    """All of its files at once; the same once more is no commit; of another commit of the model it is one."""
    options = ("--space", "testers/page", "--repo_id", "tester/nli")
    revision = own_hub.repos["tester/nli"].refs["main"]
    status, said = run(capsys, *options)
    assert status == 0, said
    assert f"It shows tester/nli at {revision}." in said
    files = own_hub.files("spaces/testers/page")
    assert files.pop(".gitattributes", None) is not None  # the Hub's own
    assert files == space_files("tester/nli", revision)
    commits = own_hub.repos["spaces/testers/page"].commits
    assert len(commits) == 2  # the Hub's own, and this
    assert HfApi().space_info("testers/page").sha in commits
    assert run(capsys, *options)[0] == 0
    assert len(commits) == 2
    own_hub.repos["spaces/testers/page"].commit({**files, "page/gone.py": b""}, "an earlier version")
    own_hub.add("tester/nli", ROOT / "checkpoints" / "quickstart")
    assert run(capsys, *options)[0] == 0
    assert "page/gone.py" not in own_hub.files("spaces/testers/page")
    assert own_hub.repos["tester/nli"].refs["main"] in own_hub.files("spaces/testers/page")[START].decode()


def test_a_dry_run_of_a_space_sends_nothing(own_hub, capsys, tmp_path):
    """It only asks for the commit of the model, and writes the files."""
    options = ("--space", "testers/page", "--repo_id", "tester/nli", "--dry-run", tmp_path / "space")
    status, said = run(capsys, *options)
    assert status == 0, said
    assert "Nothing was sent." in said
    revision = own_hub.repos["tester/nli"].refs["main"]
    written = {
        path.relative_to(tmp_path / "space").as_posix(): path.read_bytes()
        for path in (tmp_path / "space").rglob("*")
        if path.is_file()
    }
    assert written == space_files("tester/nli", revision)
    assert all(path in said for path in written)
    assert {request.method for request in own_hub.requests} <= {"GET", "HEAD"}
    status, said = run(capsys, *options)
    assert status == 2
    assert "exists and is not empty" in said


def test_what_a_space_cannot_show_or_must_not_replace(own_hub, capsys, tmp_path):
    """No such model, no such revision, no checkpoint in it; a Space of something else."""
    (tmp_path / "game.py").write_text("print('mine')\n")
    own_hub.add("spaces/tester/game", tmp_path)
    for options, complaint in {
        ("tester/page", "tester/missing"): "There is no 'tester/missing' at 'main' on the Hub",
        ("tester/page", "tester/nli", "--revision", "v9"): "There is no 'tester/nli' at 'v9' on the Hub",
        ("tester/page", "tester/empty"): "tester/empty at 'main' holds no checkpoint: it has no config.json",
        ("tester/game", "tester/nli"): "The Space holds something else already (game.py)",
    }.items():
        space, model, *rest = options
        status, said = run(capsys, "--space", space, "--repo_id", model, *rest)
        assert status == 2
        assert complaint in said
        assert "Nothing was published" in said
    assert "spaces/tester/page" not in own_hub.repos
    assert list(own_hub.files("spaces/tester/game")) == ["game.py"]


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ("--space a/b", "--space goes with --repo_id"),
        ("--space a/b --repo_id c/d --model x", "--space goes with --repo_id"),
        ("--space page --repo_id c/d", "--space is OWNER/NAME, not 'page'"),
    ],
)
def test_options_of_a_space(options, complaint, capsys):
    """Told at once, with what to do."""
    with pytest.raises(SystemExit):
        push_to_hub.main(options.split())
    assert complaint in capsys.readouterr().err
