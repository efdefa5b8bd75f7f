"""A checkpoint through every door that people use, in processes that know only its folder or its Hub name."""

import json
from pathlib import Path

import pytest
import torch
from conftest import PAIRS, SHIPPED, fresh, tokenize

DOORS = (
    "AutoModel",
    "AutoConfig",
    "AutoModelForSequenceClassification",
    "torch.compile",
    "pipeline",
    "nli-abstention",
    "text-classification",
    "CrossEncoder",
)
EVERY_DOOR = (*DOORS, "zero-shot-classification", "feature-extraction")
FILES = {
    "config.json",
    "model.safetensors",
    "tokenizer.json",
    "tokenizer_config.json",
    *(path.name for path in SHIPPED),
}


def walk(through: dict[str, list[str]], pairs: list[list[str]], save_under: str | None) -> dict:
    """What doors make of the pairs, by folder and door: probabilities of the labels if a door has them.

    With `save_under`, each door also saves to a folder of its own there.
    """
    import os

    import torch
    from transformers import (
        AutoConfig,
        AutoModel,
        AutoModelForSequenceClassification,
        AutoTokenizer,
        pipeline,
    )

    trust = {"trust_remote_code": True}

    def from_config(folder):
        config = AutoConfig.from_pretrained(folder, **trust)
        return AutoModel.from_pretrained(folder, config=config, **trust)

    def cross_encoder(folder):
        from sentence_transformers import CrossEncoder

        return CrossEncoder(folder, **trust)

    def by_model(model, folder):
        tokenizer = AutoTokenizer.from_pretrained(folder, **trust)
        batch = tokenizer(*map(list, zip(*pairs, strict=True)), padding=True, return_tensors="pt")
        return model(**batch).logits.softmax(-1).tolist()

    def by_decisions(pipe, folder):
        return [list(result["probs"].values()) for result in pipe([tuple(pair) for pair in pairs])]

    def by_scores(pipe, folder):
        results = pipe([{"text": text, "text_pair": other} for text, other in pairs], top_k=None)
        order = [label for _, label in sorted(pipe.model.config.id2label.items())]
        scores = [{score["label"]: score["score"] for score in result} for result in results]
        return [[score[label] for label in order] for score in scores]

    doors = {
        "AutoModel": (lambda folder: AutoModel.from_pretrained(folder, **trust), by_model),
        "AutoConfig": (from_config, by_model),
        "AutoModelForSequenceClassification": (
            lambda folder: AutoModelForSequenceClassification.from_pretrained(folder, **trust),
            by_model,
        ),
        "torch.compile": (
            lambda folder: torch.compile(AutoModel.from_pretrained(folder, **trust), backend="eager"),
            by_model,
        ),
        "pipeline": (lambda folder: pipeline(model=folder, **trust), by_decisions),
        "nli-abstention": (lambda folder: pipeline("nli-abstention", model=folder, **trust), by_decisions),
        "text-classification": (
            lambda folder: pipeline("text-classification", model=folder, **trust),
            by_scores,
        ),
        "CrossEncoder": (
            cross_encoder,
            lambda encoder, folder: encoder.predict(pairs, apply_softmax=True).tolist(),
        ),
        "zero-shot-classification": (
            lambda folder: pipeline("zero-shot-classification", model=folder, **trust),
            lambda pipe, folder: [
                pipe(text, [other], hypothesis_template="{}", multi_label=True)["scores"][0]
                for text, other in pairs
            ],
        ),
        "feature-extraction": (
            lambda folder: pipeline("feature-extraction", model=folder, **trust),
            lambda pipe, folder: [pipe(text)[0][0] for text, _ in pairs],
        ),
    }
    found = {}
    for folder, names in through.items():
        found[folder] = {}
        for name in names:
            open_door, judge = doors[name]
            try:
                opened = open_door(folder)
            except ImportError as error:
                found[folder][name] = str(error)
                continue
            with torch.no_grad():
                found[folder][name] = judge(opened, folder)
            if save_under:
                vars(opened).setdefault("modelcard", None)  # pipelines of transformers 5.0 read it, unset
                opened.save_pretrained(os.path.join(save_under, name))
    return found


def push(folder: str) -> None:
    """Three ways to bring a checkpoint to the Hub."""
    import os
    import tempfile

    from huggingface_hub import HfApi
    from transformers import AutoModel

    model = AutoModel.from_pretrained(folder, trust_remote_code=True)
    model.push_to_hub("tester/nli")
    model.save_pretrained(
        os.path.join(tempfile.mkdtemp(), "saved"), push_to_hub=True, repo_id="tester/nli-saved"
    )
    HfApi().create_repo("tester/nli-folder")
    HfApi().upload_folder(repo_id="tester/nli-folder", folder_path=folder)


def pull(names: list[str], pairs: list[list[str]]) -> dict:
    """Probabilities from the model and from the pipeline of each repository."""
    from transformers import AutoModel, AutoTokenizer, pipeline

    found = {}
    for name in names:
        tokenizer = AutoTokenizer.from_pretrained(name, trust_remote_code=True)
        model = AutoModel.from_pretrained(name, trust_remote_code=True)
        batch = tokenizer(*map(list, zip(*pairs, strict=True)), padding=True, return_tensors="pt")
        results = pipeline(model=name, trust_remote_code=True)([tuple(pair) for pair in pairs])
        found[name] = {
            "AutoModel": model(**batch).logits.softmax(-1).tolist(),
            "pipeline": [list(result["probs"].values()) for result in results],
            "revision": model.config.base_model_revision,
        }
    return found


@pytest.fixture(scope="module")
def saves(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("saves")


@pytest.fixture(scope="module")
def walked(checkpoints, hub, base_revision, saves, tmp_path_factory) -> dict:
    """What `walk` found, by head family and door."""
    through = dict.fromkeys(checkpoints.values(), EVERY_DOOR)
    found = fresh(walk, through, PAIRS, str(saves), home=tmp_path_factory.mktemp("home"), HF_ENDPOINT=hub.url)
    return dict(zip(checkpoints, found.values(), strict=True))


@pytest.fixture(scope="module")
def walked_again(walked, hub, saves, tmp_path_factory) -> dict:
    """What `walk` found in the folders that the doors saved: of the last checkpoint, the separate one.

    Through the door that saved it, and through our own pipeline, which reads most of it.
    """
    through = {str(folder): list({folder.name, "pipeline"}) for folder in saves.iterdir()}
    found = fresh(walk, through, PAIRS, None, home=tmp_path_factory.mktemp("home"), HF_ENDPOINT=hub.url)
    return {Path(folder).name: doors for folder, doors in found.items()}


@pytest.fixture(scope="module")
def pushed(checkpoints, hub, base_revision, tmp_path_factory) -> list[str]:
    """Names of repositories on the Hub that hold the alignment checkpoint."""
    fresh(push, checkpoints["alignment"], home=tmp_path_factory.mktemp("home"), HF_ENDPOINT=hub.url)
    return ["tester/nli", "tester/nli-saved", "tester/nli-folder"]


@pytest.fixture(scope="module")
def pulled(pushed, hub, tmp_path_factory) -> dict[str, dict]:
    """What `pull` found with an empty cache, and then with that cache alone."""
    home = tmp_path_factory.mktemp("home")
    online = fresh(pull, pushed, PAIRS, home=home, HF_ENDPOINT=hub.url)
    offline = fresh(pull, pushed, PAIRS, home=home, HF_ENDPOINT=hub.url, HF_HUB_OFFLINE="1")
    return {"online": online, "offline": offline}


@pytest.fixture(scope="module")
def probabilities(model, batch) -> torch.Tensor:
    with torch.no_grad():
        return model(**batch).logits.softmax(-1)


def opened(doors: dict, door: str) -> torch.Tensor:
    """What a door found, as a tensor."""
    if isinstance(doors[door], str):
        pytest.skip(f"{door} needs a package that is not installed: {doors[door]}")
    return torch.tensor(doors[door])


@pytest.mark.parametrize("door", DOORS)
def test_doors_agree(walked, head_type, door, probabilities):
    """Each door of transformers and CrossEncoder gives the probabilities of the model that was saved."""
    torch.testing.assert_close(opened(walked[head_type], door), probabilities, atol=1e-5, rtol=1e-4)


def test_zero_shot(walked, head_type, probabilities):
    """The zero-shot pipeline knows which label is entailment and which contradiction."""
    scores = opened(walked[head_type], "zero-shot-classification")
    entailment, _, contradiction = probabilities.unbind(dim=1)
    torch.testing.assert_close(scores, entailment / (entailment + contradiction), atol=1e-5, rtol=1e-4)


def test_feature_extraction(walked, head_type, model):
    """The feature-extraction pipeline gives the base's own token states."""
    for (premise, _), state in zip(PAIRS, opened(walked[head_type], "feature-extraction"), strict=True):
        batch = model.load_tokenizer()(premise, return_tensors="pt")
        torch.testing.assert_close(model(**batch, mode="embed")[0], state, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("saver", EVERY_DOOR)
def test_saved_from_any_door(walked, walked_again, checkpoints, saves, saver, tiny_modernbert):
    """What any door saves opens as before; and through any other: code and heads are what they were."""
    opened(walked["separate"], saver)
    assert {path.name for path in (saves / saver).iterdir()} >= FILES
    for name in FILES - {"config.json", "tokenizer.json", "tokenizer_config.json"}:
        saved, before = (Path(folder) / name for folder in (saves / saver, checkpoints["separate"]))
        assert saved.read_bytes() == before.read_bytes(), name
    assert tiny_modernbert not in "".join(path.read_text() for path in (saves / saver).glob("*.json"))
    for door, found in walked_again[saver].items():
        expected = opened(walked["separate"], door)
        torch.testing.assert_close(torch.tensor(found), expected, atol=1e-5, rtol=1e-4)


def test_files_on_the_hub(hub, pushed):
    """Each way to push brings everything that the checkpoint needs, and none of the base's weights."""
    for name in pushed:
        files = hub.files(name)
        assert set(files) >= FILES
        assert len(files["model.safetensors"]) < 100_000


@pytest.mark.parametrize("cache", ["online", "offline"])
@pytest.mark.parametrize("door", ["AutoModel", "pipeline"])
def test_from_the_hub(pulled, cache, door, checkpoints, tiny_modernbert):
    """A pushed checkpoint opens by its name, with its base from the Hub, and later without a network."""
    from modernbert_nli.modeling_modernbert_nli import ModernBertNliModel

    model = ModernBertNliModel.from_pretrained(
        checkpoints["alignment"], base_model_name_or_path=tiny_modernbert
    )
    expected = model(**tokenize(model)).logits.softmax(-1)
    for found in pulled[cache].values():
        torch.testing.assert_close(torch.tensor(found[door]), expected, atol=1e-5, rtol=1e-4)


def test_pushed_base_is_pinned(hub, pushed, pulled, base_revision):
    """A checkpoint pushed by its model names the commit of the base that it was loaded with."""
    assert json.loads(hub.files("tester/nli")["config.json"])["base_model_revision"] == base_revision
    assert pulled["offline"]["tester/nli"]["revision"] == base_revision
