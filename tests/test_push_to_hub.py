"""push_to_hub.py from end to end: what it publishes, who can read it, and what stops it."""

import json
import shlex
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from conftest import PAIRS, ROOT, SHIPPED, fresh, make_model, reach, snippets, tokenize
from evaluations import calibration, evaluation, training_results, write_evaluation
from huggingface_hub import HfApi, ModelCard
from loopback_hub import Fault, LoopbackHub

from modernbert_nli.modeling_modernbert_nli import ModernBertNliModel
from modernbert_nli.publishing import command as push_to_hub
from modernbert_nli.publishing.verify import NotAsLocal, compare, read_back

BASE = "tester/own-base"
REPO = "testers/mine"


@pytest.fixture(scope="module")
def own_hub(tiny_modernbert):
    """A Hub that has the base and nothing else, within reach of this process."""
    with LoopbackHub() as hub, pytest.MonkeyPatch.context() as patch:
        hub.add(BASE, tiny_modernbert)
        reach(hub, patch)
        yield hub


@pytest.fixture(scope="module")
def base(own_hub) -> dict[str, str]:
    return {"name": BASE, "revision": own_hub.repos[BASE].refs["main"]}


@pytest.fixture(scope="module")
def checkpoint(base, tiny_modernbert, tmp_path_factory) -> Path:
    """A calibrated checkpoint with its results, on the base of that Hub."""
    folder = tmp_path_factory.mktemp("runs") / "mine"
    model = make_model(tiny_modernbert, "separate")
    config = model.config
    config.base_model_name_or_path, config.base_model_revision = base.values()
    model.set_calibration(calibration(), 0.25)
    model.save_pretrained(folder)
    (folder / "results.json").write_text(json.dumps(training_results(base)))
    (folder / "optimizer.pt").write_bytes(b"not to be published")
    (folder / "heads.py").write_text("raise SystemExit  # of another version: nor is this\n")
    return folder


@pytest.fixture(scope="module")
def results(base, tmp_path_factory) -> Path:
    """What evaluate_nli.py writes."""
    return write_evaluation(tmp_path_factory.mktemp("results"), evaluation(base))


@pytest.fixture(scope="module")
def published(own_hub, checkpoint, results) -> SimpleNamespace:
    """The checkpoint, pushed and tagged: what was printed and what the reader's process found."""
    found = SimpleNamespace()

    def spied(*args, **kwargs):
        found.read = read_back(*args, **kwargs)
        return found.read

    with pytest.MonkeyPatch.context() as patch, pytest.MonkeyPatch.context() as other:
        patch.setattr(push_to_hub, "read_back", spied)
        other.setattr("builtins.print", lambda *values, **_: setattr(found, "printed", values[0]))
        command = ["--model", str(checkpoint), "--repo_id", REPO, "--evaluation", str(results), "--tag", "v1"]
        found.status = push_to_hub.main(command)
    found.card = own_hub.files(REPO)["README.md"].decode()
    return found


def run(capsys, *options: object) -> tuple[int, str]:
    """Exit status and what was printed, either way."""
    status = push_to_hub.main([str(option) for option in options])
    said = capsys.readouterr()
    return status, said.out + said.err.splitlines()[-1] if status else said.out


def test_one_commit_with_all_that_a_reader_needs(own_hub, published, checkpoint):
    """Heads, pinned base, code, tokenizer, figures, picture, card and licence; nothing else of the folder."""
    assert published.status == 0, published.printed
    repo = own_hub.repos[REPO]
    assert len(repo.commits) == 2  # the Hub's own, and this
    assert repo.refs["v1"] == repo.refs["main"]
    code = {path.name for path in SHIPPED}
    others = (
        "config.json model.safetensors tokenizer.json tokenizer_config.json results.json evaluation.json "
    )
    others += "calibration.json handler.py"
    expected = {*others.split(), "risk_coverage.png", "README.md", "LICENSE", ".gitattributes", *code}
    assert set(own_hub.files(REPO)) == expected
    assert own_hub.files(REPO)["LICENSE"] == (ROOT / "LICENSE").read_bytes()
    assert repo.refs["main"] in published.printed
    assert "Tagged: v1" in published.printed


def test_the_card_lists_what_trust_remote_code_ran(own_hub, published):
    """The files and hashes on the page are those that a reader's process ran, and those of the repository."""
    from hashlib import sha256

    rows = [line.split("|")[1:-1] for line in published.card.splitlines() if ".py` |" in line]
    listed = {name.strip(" `"): digest.strip(" `") for name, _, _, digest in rows}
    files = own_hub.files(REPO)
    code = {name: data for name, data in files.items() if name in {path.name for path in SHIPPED}}
    assert listed == {name: sha256(data).hexdigest() for name, data in code.items()}
    ran = {name: digest for name, digest in published.read["code"].items() if name != "__init__.py"}
    assert ran == listed


def as_a_reader(code: list[str], repo_id: str, other: str, base: str, pairs: list[list[str]]) -> dict:
    """Runs the snippets of a card, then loads and forks the model, its base there, gone, unheard of."""
    import contextlib
    import io

    from huggingface_hub import HfApi
    from transformers import AutoModel, AutoTokenizer, pipeline

    trust = {"trust_remote_code": True}
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        for block in code:
            exec(block, {})

    def logits(name, **where):
        model = AutoModel.from_pretrained(name, **trust, **where)
        tokenizer = AutoTokenizer.from_pretrained(name, **trust, **where)
        batch = tokenizer(*map(list, zip(*pairs, strict=True)), padding=True, return_tensors="pt")
        return model, model(**batch, mode="nli").tolist()

    model, first = logits(repo_id, revision="v1")
    found = {"printed": printed.getvalue(), "v1": first, "main": logits(repo_id)[1]}
    found["other"] = logits(repo_id, revision=other)[1]
    model.push_to_hub("tester/fork")
    pipe = pipeline(model="tester/fork", **trust)
    found["fork"] = logits("tester/fork")[1]
    found["labels"] = [result["label"] for result in pipe([tuple(pair) for pair in pairs])]
    HfApi().delete_repo(base)
    found["base gone"] = logits(repo_id, revision="v1")[1]
    try:
        AutoModel.from_pretrained(repo_id, **trust, cache_dir="fresh")
    except OSError as error:
        found["base missing"] = str(error)
    return found


def from_cache(code: list[str]) -> str:
    """What the snippets of a card print."""
    import contextlib
    import io

    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        for block in code:
            exec(block, {})
    return printed.getvalue()


@pytest.fixture
def put_back(own_hub, published):
    """Afterwards the base is there again, and the main branch is at what was published."""
    repos, refs = dict(own_hub.repos), dict(own_hub.repos[REPO].refs)
    yield
    own_hub.repos.update(repos)
    own_hub.repos[REPO].refs = refs


@pytest.mark.usefixtures("put_back")
def test_readers(own_hub, published, checkpoint, tiny_modernbert, tmp_path):
    """The card's snippets run as pasted; revisions are what they pin; a fork has all; the base may go.

    One after the other in one process, which knows the Hub alone; then offline, in another.
    """
    second = Path(shutil.copytree(checkpoint, tmp_path / "second"))
    changed = ModernBertNliModel.from_pretrained(second, base_model_name_or_path=tiny_modernbert)
    with torch.no_grad():
        changed.nli_output.weight.mul_(-1)
    changed.save_pretrained(second)
    revision = own_hub.add(REPO, second)
    code = snippets(published.card, "python")
    assert len(code) == 3
    assert len([line for line in code[0].splitlines() if line]) == 3

    pairs = [list(pair) for pair in PAIRS]
    home = tmp_path / "home"
    home.mkdir()
    found = fresh(as_a_reader, code, REPO, revision, BASE, pairs, home=home, HF_ENDPOINT=own_hub.url)
    local = ModernBertNliModel.from_pretrained(checkpoint, base_model_name_or_path=tiny_modernbert)
    with torch.no_grad():
        expected = local(**tokenize(local), mode="nli")
    for name in ("v1", "fork", "base gone"):
        torch.testing.assert_close(torch.tensor(found[name]), expected, atol=1e-5, rtol=0)
    assert found["main"] == found["other"] != found["v1"]
    assert found["labels"] == [local.config.id2label[index] for index in expected.argmax(-1).tolist()]
    assert "could not be loaded, and this checkpoint stores the heads alone" in found["base missing"]
    (shown,) = snippets(published.card, "text")
    assert eval(found["printed"])["label"] == eval(shown)["label"]

    offline = fresh(from_cache, code, home=home, HF_ENDPOINT=own_hub.url, HF_HUB_OFFLINE="1")
    assert offline == found["printed"]


def test_again(own_hub, published, checkpoint, results, monkeypatch, capsys):
    """The same command commits nothing and leaves the tag; what differs from the local model is told."""
    monkeypatch.setattr(push_to_hub, "read_back", lambda *args, **kwargs: published.read)
    options = ("--model", checkpoint, "--repo_id", REPO, "--evaluation", results)
    before = len(own_hub.repos[REPO].commits)
    assert run(capsys, *options, "--tag", "v1")[0] == 0
    assert len(own_hub.repos[REPO].commits) == before

    wrong = {
        **published.read,
        "logits": [[value + 1e-3 for value in row] for row in published.read["logits"]],
    }
    monkeypatch.setattr(push_to_hub, "read_back", lambda *args, **kwargs: wrong)
    status, said = run(capsys, *options, "--revision", "next", "--tag", "v2")
    assert status == 2
    assert "was published, but its logits or probabilities differ from the local ones by 0.001" in said
    assert "v2" not in own_hub.repos[REPO].refs


def test_what_cannot_be_read_back(published, monkeypatch, tmp_path):
    """A reader's process that fails; another answer; no number."""
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\necho Warning >&2\necho OSError: not there >&2\nexit 1\n")
    python.chmod(0o755)
    monkeypatch.setattr("sys.executable", str(python))
    with pytest.raises(NotAsLocal, match="cannot be loaded from the Hub: OSError: not there"):
        read_back("tester/nowhere", "main", [("a", "b")], endpoint="http://127.0.0.1:9", token=None)
    other = json.loads(json.dumps(published.read))
    other["decisions"][0]["abstain"] = not other["decisions"][0]["abstain"]
    with pytest.raises(NotAsLocal, match="its pipeline answers"):
        compare(other, published.read)
    other = json.loads(json.dumps(published.read))
    other["logits"][1][2] = float("nan")
    with pytest.raises(NotAsLocal, match="differ from the local ones"):
        compare(other, published.read)


def test_a_dry_run_sends_nothing(own_hub, checkpoint, results, base, tmp_path, capsys):
    """All files are written and listed, gaps and all; the Hub is not asked for anything of the repository."""
    asked = len(own_hub.requests)
    options = ("--model", checkpoint, "--repo_id", "somebody/dry")
    status, said = run(capsys, *options, "--evaluation", results, "--dry-run", tmp_path / "whole")
    assert status == 0
    assert "Nothing was sent" in said
    assert "missing" not in said
    ModelCard.load(tmp_path / "whole" / "README.md")
    for name in ("config.json", "model.safetensors", "LICENSE", "risk_coverage.png"):
        assert name in said
    status, said = run(capsys, *options, "--evaluation", tmp_path, "--dry-run", tmp_path / "gaps")
    assert status == 0
    assert "- missing: the risk-coverage picture" in said
    assert "**missing: the table beside" in (tmp_path / "gaps" / "README.md").read_text()
    assert not [request for request in own_hub.requests[asked:] if "somebody" in request.path]
    status, said = run(capsys, *options, "--dry-run", tmp_path / "gaps")
    assert "exists and is not empty" in said


def test_a_page_with_gaps_is_not_published(own_hub, checkpoint, tmp_path, capsys):
    """It is said what is missing, and the repository is not even created."""
    status, said = run(capsys, "--model", checkpoint, "--repo_id", "tester/gaps", "--evaluation", tmp_path)
    assert status == 2
    assert "The page has gaps, missing: the risk-coverage picture" in said
    assert "Nothing was published" in said
    assert "tester/gaps" not in own_hub.repos


def test_a_repository_with_another_model_is_left_alone(
    own_hub, checkpoint, results, tmp_path, capsys, monkeypatch
):
    """A model of another kind, on another base, or files that are none; even if told at a second try."""
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    own_hub.faults = [Fault("HEAD .*/config.json", kind) for kind in (503, "drop")]
    options = ("--model", checkpoint, "--evaluation", results, "--repo_id")
    for name, files in {
        "bert": {"config.json": '{"model_type": "bert"}'},
        "other-base": {"config.json": '{"model_type": "modernbert_nli", "base_model_name_or_path": "a/b"}'},
        "files": {"weights.bin": "1"},
    }.items():
        folder = tmp_path / name
        folder.mkdir()
        for path, text in files.items():
            (folder / path).write_text(text)
        own_hub.add(f"tester/{name}", folder)
        before = own_hub.files(f"tester/{name}")
        status, said = run(capsys, *options, f"tester/{name}")
        assert status == 2
        assert f"tester/{name} holds something else already" in said
        assert own_hub.files(f"tester/{name}") == before
    assert not any(fault.times for fault in own_hub.faults)


def test_checkpoints_that_would_not_work(checkpoint, results, tmp_path, capsys):
    """An unpinned base, a local one, missing files, weights of the base: each is refused in a sentence."""

    def refused(complaint: str, spoil) -> None:
        folder = Path(shutil.copytree(checkpoint, tmp_path / str(len(list(tmp_path.iterdir())))))
        config = json.loads((folder / "config.json").read_text())
        spoil(folder, config)
        if (folder / "config.json").exists():
            (folder / "config.json").write_text(json.dumps(config))
        status, said = run(
            capsys, "--model", folder, "--repo_id", "a/b", "--dry-run", tmp_path / f"{folder.name}-page"
        )
        assert status == 2
        assert complaint in said
        assert not (tmp_path / f"{folder.name}-page").exists()

    def with_encoder(folder, config):
        from safetensors.torch import save_file

        save_file({"encoder.x": torch.zeros(1)}, folder / "model.safetensors")

    refused("names no commit of its base", lambda folder, config: config.update(base_model_revision="main"))
    refused(
        "no repository of the Hub",
        lambda folder, config: config.update(base_model_name_or_path="/home/me/base/x"),
    )
    refused("has no tokenizer.json", lambda folder, config: (folder / "tokenizer.json").unlink())
    refused(
        "none of this project's", lambda folder, config: config.update(auto_map={"AutoModel": "evil.Model"})
    )
    refused(
        "none of this project's", lambda folder, config: config["auto_map"].update(AutoModel="a/b--evil.M")
    )
    refused(
        "results.json is not what train.py writes",
        lambda folder, config: (folder / "results.json").write_text("[]"),
    )
    refused("it has no config.json", lambda folder, config: (folder / "config.json").unlink())
    refused("'bert', not 'modernbert_nli'", lambda folder, config: config.update(model_type="bert"))
    refused("weights of the base", with_encoder)
    refused(
        "is no file of safetensors",
        lambda folder, config: (folder / "model.safetensors").write_bytes(b"x" * 99),
    )


def test_the_quick_start_is_verified_with_its_embedded_base(own_hub, tmp_path, capsys):
    """The commands of the documentation, on a Hub that lacks the base; a fixture fills the page's gaps."""
    from modernbert_nli import embedded

    base = {"name": embedded.BASE, "revision": embedded.BASE_REVISION}
    results = write_evaluation(tmp_path / "results", evaluation(base, "checkpoints/quickstart"))
    page = (ROOT / "docs" / "publishing.md").read_text()
    (block,) = [block for block in snippets(page, "bash") if "push_to_hub.py --model" in block]
    commands = [shlex.split(line)[2:] for line in block.splitlines()]
    (dry_run,) = [command for command in commands if "--dry-run" in command]
    dry_run[dry_run.index("--model") + 1] = str(embedded.CHECKPOINT)
    dry_run[-1] = str(tmp_path / "page")
    status, said = run(capsys, *dry_run)
    assert status == 0
    assert "593,644 parameters" in (tmp_path / "page" / "README.md").read_text()

    (push,) = [command for command in commands if "--tag" in command]
    push[push.index("--model") + 1] = str(embedded.CHECKPOINT)
    push[push.index("--repo_id") + 1] = "tester/quickstart"
    status, said = run(capsys, *push, "--evaluation", results)
    assert status == 0, said
    assert "Verified: loaded from the Hub" in said
    assert own_hub.repos["tester/quickstart"].refs.keys() == {"main", "v1"}
    assert HfApi().model_info("tester/quickstart").pipeline_tag == "text-classification"


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ("--model x", "give --model FOLDER and --repo_id"),
        ("--model x --repo_id nli", "OWNER/NAME, not 'nli'"),
        ("--model x --repo_id a/b/c", "--repo_id"),
        ("--model x --repo_id a/b --create_pr --tag v1", "neither --tag nor --private"),
        ("--model x --repo_id a/b --output y", "go with --from-legacy"),
        ("--from-legacy task_heads.pt", "needs --output"),
    ],
)
def test_options_that_do_not_go_together(options, complaint, capsys):
    """Told at once, with what to do."""
    with pytest.raises(SystemExit):
        push_to_hub.main(options.split())
    assert complaint in capsys.readouterr().err


def test_graphs_beside_the_heads(own_hub, checkpoint, results, tiny_modernbert, tmp_path, capsys):
    """`--onnx` publishes those of the folder, with a section of the card; refused if of other heads."""
    onnx = pytest.importorskip("onnx")
    from modernbert_nli.onnx_backend import METADATA, graph_identity

    folder = Path(shutil.copytree(checkpoint, tmp_path / "exported"))
    model = make_model(tiny_modernbert, "separate")
    model.config.base_model_name_or_path, model.config.base_model_revision = (
        BASE,
        own_hub.repos[BASE].refs["main"],
    )
    command = ["--model", folder, "--onnx", "--repo_id", "testers/graphs", "--evaluation", results]
    status, said = run(capsys, *command, "--dry-run", tmp_path / "page")
    assert status == 2
    assert "has no graphs" in said
    (folder / "onnx").mkdir()
    (folder / "onnx" / "int8.json").write_text("{}")
    (folder / "onnx" / "model.py").write_text("")
    for heads in ("of others", model.heads_digest()):
        graph = onnx.helper.make_model(onnx.helper.make_graph([], "empty", [], []))
        identity = json.dumps(graph_identity(model.config, heads))
        onnx.helper.set_model_props(graph, {METADATA: identity})
        onnx.save_model(graph, folder / "onnx" / "encoder.onnx")
        status, said = run(capsys, *command, "--dry-run", tmp_path / "page")
        assert status == (2 if heads == "of others" else 0), said
        assert ("is not of the heads beside it" in said) == (heads == "of others")
    assert {path.name for path in (tmp_path / "page/onnx").iterdir()} == {"encoder.onnx", "int8.json"}
    card = (tmp_path / "page/README.md").read_text()
    assert "| `onnx/encoder.onnx` | float32 |" in card
    assert 'model="testers/graphs", trust_remote_code=True, model_kwargs={"backend": "onnx"}' in card
