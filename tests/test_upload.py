"""One commit or none: what is published when the Hub, the network or somebody else gets in the way."""

import threading
import time
from pathlib import Path

import pytest
from conftest import HANGS, reach
from huggingface_hub import HfApi, constants
from loopback_hub import Fault, LoopbackHub

from modernbert_nli.publishing.upload import PublishError, check_token, publish, tag, tag_is_free

STEPS = {
    "token": "GET /api/whoami-v2",
    "look": "GET /api/models/tester/nli",
    "create": "POST /api/repos/create",
    "preupload": "POST .*/preupload/",
    "lfs": "POST .*/info/lfs",
    "blob": "PUT /lfs/",
    "metadata": "POST /api/validate-yaml",
    "commit": "POST .*/commit/",
    "tag": "POST .*/tag/",
}
FAULTS = (503, 429, "drop", "drop after")
REPO = "tester/nli"


@pytest.fixture
def own_hub(monkeypatch):
    """A Hub of this test's own, which this process may reach, and where waiting takes no time."""
    with LoopbackHub() as hub:
        reach(hub, monkeypatch)
        monkeypatch.setattr(time, "sleep", lambda seconds: None)
        yield hub


@pytest.fixture
def folder(tmp_path) -> Path:
    """What is published: a large file, a small one, a card."""
    return write(tmp_path / "folder", "one")


def write(folder: Path, text: str) -> Path:
    folder.mkdir()
    (folder / "model.safetensors").write_bytes(text.encode() * 99)
    (folder / "config.json").write_text(f'{{"model_type": "{text}"}}')
    (folder / "README.md").write_text(f"---\nlicense: mit\n---\n{text}\n")
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def on_hub(hub: LoopbackHub, revision: str = "main", repo_id: str = REPO) -> dict[str, bytes]:
    """What a repository has, but for what the Hub itself puts there."""
    files = hub.files(repo_id, revision) if repo_id in hub.repos else {}
    return {name: data for name, data in files.items() if name != ".gitattributes"}


def commits(hub: LoopbackHub, repo_id: str = REPO) -> int:
    """How many there are after the first, which is the Hub's own."""
    return len(hub.repos[repo_id].commits) - 1 if repo_id in hub.repos else 0


def push(folder: Path, **kwargs):
    """All steps, as push_to_hub.py takes them."""
    api = HfApi()
    check_token(api)
    landed = publish(api, REPO, folder, "Upload", **kwargs)
    tag(api, REPO, "v1", landed)
    return landed


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("fault", FAULTS, ids=str)
def test_a_fault_that_passes(own_hub, folder, step, fault):
    """A server error or a cut connection, at any step: one whole commit, one tag."""
    own_hub.faults.append(Fault(STEPS[step], fault))
    landed = push(folder)
    assert own_hub.faults[0].times == 0
    assert on_hub(own_hub) == on_hub(own_hub, "v1") == contents(folder)
    assert commits(own_hub) == 1
    assert own_hub.repos[REPO].refs["main"] == landed.commit


@pytest.mark.parametrize("step", [step for step in STEPS if step != "tag"])
@pytest.mark.parametrize("fault", [503, "drop"], ids=str)
def test_a_fault_that_stays(own_hub, folder, step, fault):
    """Nothing is published, no file of it is seen, and a sentence says at which step."""
    own_hub.faults.append(Fault(STEPS[step], fault, times=99))
    with pytest.raises(PublishError, match=r"(failed|could not be reached) at .*[Nn]othing was published"):
        push(folder)
    assert on_hub(own_hub) == {}
    assert commits(own_hub) == 0


def test_a_tag_that_fails(own_hub, folder):
    """What was published is named, and the same again sets the tag without a second commit."""
    own_hub.faults += [Fault(STEPS["tag"], 503, times=99), Fault("GET .*/refs", 503, times=99)]
    with pytest.raises(PublishError, match=r"was published, but could not be tagged 'v1'.*Run the same"):
        push(folder)
    own_hub.faults.clear()
    push(folder)
    assert commits(own_hub) == 1
    assert on_hub(own_hub, "v1") == contents(folder)


def test_nobody_knows_whether_it_arrived(own_hub, folder):
    """The answer to the commit is lost, then the Hub is silent: that is said, and doing it again is safe."""
    own_hub.before_commit = lambda: own_hub.faults.append(Fault(STEPS["look"], 503, times=99))
    own_hub.faults.append(Fault(STEPS["commit"], "drop after"))
    with pytest.raises(PublishError, match=r"did not say whether it has arrived.*run the same command again"):
        push(folder)
    own_hub.faults.clear()
    own_hub.before_commit = None
    push(folder)
    assert commits(own_hub) == 1


def test_somebody_else_commits_in_between(own_hub, folder):
    """Theirs stays as it is, and ours is not put on top of what nobody has looked at."""
    HfApi().create_repo(REPO)
    own_hub.before_commit = lambda: own_hub.repos[REPO].commit({"README.md": b"theirs"}, "theirs")
    with pytest.raises(PublishError, match=r"Somebody else committed .*Nothing was published"):
        push(folder)
    assert on_hub(own_hub) == {"README.md": b"theirs"}


def test_two_pushes_race(own_hub, tmp_path):
    """Of two whose commits arrive together one lands, whole; the other is told."""
    HfApi().create_repo(REPO)
    own_hub.before_commit = threading.Barrier(2, timeout=HANGS).wait
    folders = [write(tmp_path / name, name) for name in ("one", "two")]
    outcomes: dict[Path, object] = {}

    def run(folder: Path) -> None:
        try:
            outcomes[folder] = publish(HfApi(), REPO, folder, "Upload")
        except PublishError as error:
            outcomes[folder] = error

    threads = [threading.Thread(target=run, args=(folder,)) for folder in folders]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    (lost,) = [folder for folder in folders if isinstance(outcomes[folder], PublishError)]
    (won,) = [folder for folder in folders if folder != lost]
    assert "Somebody else committed" in str(outcomes[lost])
    assert on_hub(own_hub) == contents(won)


@pytest.mark.parametrize(
    ("token", "complaint"),
    [
        (None, "no access token. Run `hf auth login`"),
        ("hf_read", "may only read"),
        ("hf_revoked", "does not accept the access token"),
    ],
)
def test_tokens(own_hub, monkeypatch, token, complaint):
    """None, one that may only read, one that is no longer valid."""
    monkeypatch.delenv("HF_TOKEN") if token is None else monkeypatch.setenv("HF_TOKEN", token)
    with pytest.raises(PublishError, match=complaint):
        check_token(HfApi())


def test_no_rights(own_hub, folder):
    """A repository of somebody else, new or there: refused, with what the Hub says; a pull request is not."""
    with pytest.raises(PublishError, match=r"has not the right.*stranger.*--create_pr\. Nothing was"):
        publish(HfApi(), "stranger/new", folder, "Upload")
    own_hub.add("stranger/nli", write(folder.parent / "theirs", "theirs"))
    with pytest.raises(PublishError, match="has not the right"):
        publish(HfApi(), "stranger/nli", folder, "Upload")
    theirs = own_hub.files("stranger/nli")
    landed = publish(HfApi(), "stranger/nli", folder, "Upload", create_pr=True)
    assert landed.pull_request == f"{own_hub.url}/stranger/nli/discussions/1"
    assert own_hub.files("stranger/nli") == theirs
    assert contents(folder).items() <= own_hub.files("stranger/nli", "refs/pr/1").items()


@pytest.mark.parametrize("fault", [503, "drop after"], ids=str)
def test_a_pull_request_is_opened_once(own_hub, folder, fault):
    """Also where the answer is lost; and there must be something to open it in."""
    with pytest.raises(PublishError, match="no repository 'tester/nli' to open a pull request in"):
        publish(HfApi(), REPO, folder, "Upload", create_pr=True)
    HfApi().create_repo(REPO)
    own_hub.faults.append(Fault(STEPS["commit"], fault))
    landed = publish(HfApi(), REPO, folder, "Upload", create_pr=True)
    assert landed.pull_request == f"{own_hub.url}/{REPO}/discussions/1"
    assert set(own_hub.repos[REPO].refs) == {"main", "refs/pr/1"}
    assert landed.commit == own_hub.repos[REPO].refs["refs/pr/1"]
    assert on_hub(own_hub) == {}


def test_where_it_goes(own_hub, folder):
    """A private repository of an organisation, a new branch, a pull request's branch, a Space."""
    api = HfApi()
    publish(api, "testers/nli", folder, "Upload", private=True)
    assert own_hub.repos["testers/nli"].private
    publish(api, "testers/nli", folder, "Upload")  # stays private
    assert own_hub.repos["testers/nli"].private
    assert commits(own_hub, "testers/nli") == 1

    publish(api, REPO, folder, "Upload", revision="next")
    assert on_hub(own_hub) == {}
    assert on_hub(own_hub, "next") == contents(folder)
    with pytest.raises(PublishError, match="exists and is public"):
        publish(api, REPO, folder, "Upload", private=True)
    with pytest.raises(PublishError, match="has no 'refs/pr/7'"):
        publish(api, REPO, folder, "Upload", revision="refs/pr/7")

    publish(api, "tester/demo", folder, "Upload", repo_type="space", space_sdk="gradio")
    assert on_hub(own_hub, repo_id="spaces/tester/demo") == contents(folder)


def test_a_second_version(own_hub, folder):
    """What is unchanged is not committed again; files that are no longer part of it go, others stay."""
    api = HfApi()
    own_hub.add(REPO, write(folder.parent / "old", "old"))
    kept = {"old_modernbert_nli.py": b"", "notes.txt": b"kept", **own_hub.files(REPO)}
    own_hub.repos[REPO].commit(kept, "more")
    before = commits(own_hub)
    for _ in range(2):
        publish(api, REPO, folder, "Upload", delete_patterns=("*_modernbert_nli.py",))
    assert commits(own_hub) == before + 1
    assert on_hub(own_hub) == {**contents(folder), "notes.txt": b"kept"}


def test_tags_are_not_moved(own_hub, folder):
    """A tag of other files is refused before anything is sent; one of these very files is left."""
    api = HfApi()
    assert tag_is_free(api, REPO, "v1", folder)
    push(folder)
    assert not tag_is_free(api, REPO, "v1", folder)
    (folder / "config.json").write_text("{}")
    with pytest.raises(PublishError, match="has a tag 'v1' already, of other files"):
        tag_is_free(api, REPO, "v1", folder)


def test_bad_metadata_and_no_network(own_hub, folder, monkeypatch):
    """The Hub's own complaint about a card is passed on; offline mode and a dead address are named."""
    own_hub.faults.append(Fault(STEPS["metadata"], 400))
    with pytest.raises(PublishError, match=r"Nothing was published"):
        publish(HfApi(), REPO, folder, "Upload")
    assert on_hub(own_hub) == {}
    with pytest.raises(PublishError, match="could not be reached at asking whose token"):
        check_token(HfApi("http://127.0.0.1:9"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(PublishError, match="HF_HUB_OFFLINE is set"):
        check_token(HfApi())
