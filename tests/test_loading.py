"""Loading and saving: each argument reaches its part, nothing local is saved, errors say what to do."""

import json
import pickle
import re
import shutil
from pathlib import Path

import pytest
import torch
from conftest import PAIRS, fresh, make_model, tokenize
from safetensors import SafetensorError
from safetensors.torch import load as from_bytes
from safetensors.torch import load_file, save_file
from torch.testing import assert_close
from transformers import (
    AutoModel,
    AutoTokenizer,
    BertConfig,
    BertModel,
    ModernBertConfig,
    ModernBertModel,
    pipeline,
)

from modernbert_nli.configuration_modernbert_nli import ModernBertNliConfig
from modernbert_nli.modeling_modernbert_nli import ModernBertNliForSequenceClassification, ModernBertNliModel


def load(checkpoint: str | Path, base: str | None, **kwargs):
    """The model, as the auto classes give it."""
    if base is not None:
        kwargs["base_model_name_or_path"] = base
    return AutoModel.from_pretrained(checkpoint, trust_remote_code=True, **kwargs)


def load_in_pipeline(checkpoint: str | Path, base: str | None, **kwargs):
    """The model inside the pipeline."""
    if base is not None:
        kwargs["base_model_name_or_path"] = base
    return pipeline(model=str(checkpoint), trust_remote_code=True, model_kwargs=kwargs).model


def read(path: Path) -> dict[str, torch.Tensor]:
    """Tensors that are not mapped from their file, which can then be written over."""
    return from_bytes(path.read_bytes())


def saved_json(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in folder.glob("*.json")}


def head_parameters(model) -> list[torch.nn.Parameter]:
    return [value for name, value in model.named_parameters() if not name.startswith("encoder.")]


@pytest.fixture
def broken(checkpoints, tmp_path) -> Path:
    """A copy of the CLS checkpoint, to be spoilt."""
    return Path(shutil.copytree(checkpoints["cls"], tmp_path / "broken"))


@pytest.mark.parametrize("loader", [load, load_in_pipeline])
@pytest.mark.parametrize(
    ("kwargs", "expected"),
    [
        ({}, torch.float32),
        ({"dtype": torch.bfloat16}, torch.bfloat16),
        ({"dtype": "bfloat16"}, torch.bfloat16),
        ({"torch_dtype": torch.float16}, torch.float16),
        ({"dtype": "auto"}, torch.float32),
    ],
    ids=str,
)
def test_dtype(checkpoint, tiny_modernbert, loader, kwargs, expected, tmp_path):
    """The type concerns the encoder alone; the heads are float32, and no type is saved."""
    model = loader(checkpoint, tiny_modernbert, **kwargs)
    assert {parameter.dtype for parameter in model.encoder.parameters()} == {expected}
    assert {parameter.dtype for parameter in head_parameters(model)} == {torch.float32}
    assert model(**tokenize(model)).logits.dtype == torch.float32
    model.save_pretrained(tmp_path)
    assert not re.search(r'"(torch_)?dtype"', (tmp_path / "config.json").read_text())


@pytest.mark.parametrize("loader", [load, load_in_pipeline])
@pytest.mark.parametrize("device_map", ["cpu", "auto", {"": "cpu"}], ids=str)
def test_device_map(checkpoint, tiny_modernbert, model, batch, loader, device_map):
    """A device map places the encoder, and the heads beside it, without changing a logit."""
    loaded = loader(checkpoint, tiny_modernbert, device_map=device_map)
    assert {parameter.device.type for parameter in loaded.parameters()} == {"cpu"}
    assert torch.equal(loaded(**batch).logits, model(**batch).logits)


@pytest.mark.parametrize("loader", [load, load_in_pipeline])
@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_attention(checkpoint, tiny_modernbert, loader, attention):
    """The attention implementation reaches the encoder."""
    model = loader(checkpoint, tiny_modernbert, attn_implementation=attention)
    assert model.encoder.config._attn_implementation == attention


@pytest.mark.parametrize("loader", [load, load_in_pipeline])
def test_given_encoder(checkpoint, tiny_modernbert, model, batch, loader):
    """A loaded encoder is used as it is, so that one encoder can carry many heads."""
    encoder = AutoModel.from_pretrained(tiny_modernbert)
    loaded = loader(checkpoint, None, encoder=encoder)
    assert loaded.encoder is encoder
    assert torch.equal(loaded(**batch).logits, model(**batch).logits)


def test_other_arguments(checkpoint, tiny_modernbert, batch, model, tmp_path):
    """Loading info, a subfolder, and a configuration of one's own work as in transformers."""
    shutil.copytree(checkpoint, tmp_path / "repo" / "heads")
    for path in Path(checkpoint).glob("*.py"):  # transformers looks for code at the top
        shutil.copy(path, tmp_path / "repo")
    loaded, info = load(tmp_path / "repo", tiny_modernbert, subfolder="heads", output_loading_info=True)
    assert not info["missing_keys"]
    assert torch.equal(loaded(**batch).logits, model(**batch).logits)
    assert loaded.load_tokenizer()("a", "b")["input_ids"][-1] == loaded.config.sep_token_id

    config = ModernBertNliConfig.from_pretrained(checkpoint, abstention_threshold=0.25)
    loaded = ModernBertNliModel.from_pretrained(
        checkpoint, config=config, base_model_name_or_path=tiny_modernbert
    )
    assert loaded.config.abstention_threshold == 0.25
    loaded = load(checkpoint, tiny_modernbert, abstention_threshold=0.75)
    assert loaded.config.abstention_threshold == 0.75


def test_quantized_base(checkpoint, tiny_modernbert, batch, model, tmp_path):
    """A quantized base carries heads that are not, and what is saved does not know of it."""
    torchao = pytest.importorskip(
        "torchao.quantization", reason="torchao is not installed: make test-quantized"
    )
    from transformers import TorchAoConfig

    quantization = TorchAoConfig(torchao.Int8WeightOnlyConfig())
    try:
        plain = AutoModel.from_pretrained(tiny_modernbert, quantization_config=quantization)
    except NotImplementedError as error:
        pytest.skip(f"this transformers cannot load any model with this torchao: {error}")
    loaded = load(checkpoint, tiny_modernbert, quantization_config=quantization)
    weight = loaded.encoder.layers[0].mlp.Wi.weight
    assert type(weight) is not torch.nn.Parameter
    assert torch.equal(loaded(**batch).last_hidden_state, plain(**batch).last_hidden_state)
    assert {parameter.dtype for parameter in head_parameters(loaded)} == {torch.float32}
    assert_close(loaded(**batch).logits, model(**batch).logits, atol=0.1, rtol=0.1)
    loaded.save_pretrained(tmp_path)
    assert "quantization" not in (tmp_path / "config.json").read_text()
    assert torch.equal(load(tmp_path, tiny_modernbert)(**batch).logits, model(**batch).logits)


def test_nothing_local_is_saved(checkpoint, tiny_modernbert, tmp_path):
    """No path and no choice of one load is in any saved file, however often it is saved and loaded."""
    how = {"dtype": torch.bfloat16, "attn_implementation": "eager", "device_map": "cpu"}
    source = checkpoint
    for step in ("once", "twice"):
        load(source, tiny_modernbert, **how).save_pretrained(tmp_path / step)
        source = tmp_path / step
    pipe = pipeline(
        model=checkpoint, trust_remote_code=True, model_kwargs={"base_model_name_or_path": tiny_modernbert}
    )
    pipe.save_pretrained(tmp_path / "pipe")
    for step in ("once", "twice", "pipe"):
        for name, text in saved_json(tmp_path / step).items():
            for trace in ("/tmp", str(tmp_path), tiny_modernbert, "bfloat16", "eager", "device_map"):
                assert trace not in text, (step, name, trace)
        config = json.loads((tmp_path / step / "config.json").read_text())
        assert config["base_model_name_or_path"] == "tester/tiny-base"
        assert config == json.loads((Path(checkpoint) / "config.json").read_text())


def test_config_round_trip(checkpoint, tmp_path):
    """A configuration is the same after it was saved, and builds the same model."""
    config = ModernBertNliConfig.from_pretrained(checkpoint)
    config.save_pretrained(tmp_path)
    again = ModernBertNliConfig.from_pretrained(tmp_path)
    assert again.to_dict() == config.to_dict()
    assert type(again.encoder_config) is ModernBertConfig
    assert again.id2label == {0: "entailment", 1: "neutral", 2: "contradiction"}
    assert ModernBertNliModel(again).state_dict().keys() == ModernBertNliModel(config).state_dict().keys()


def test_own_labels(tiny_modernbert, tmp_path):
    """Other labels, in number and name, are kept."""
    labels = {0: "yes", 1: "no"}
    model = make_model(tiny_modernbert, id2label=labels, label2id={"yes": 0, "no": 1})
    assert model(**tokenize(model)).logits.shape == (len(PAIRS), 2)
    model.save_pretrained(tmp_path)
    assert load(tmp_path, tiny_modernbert).config.id2label == labels


@pytest.mark.parametrize(
    ("kwargs", "match"),
    [
        ({"head_type": "tree"}, "cls.*alignment"),
        ({"head_type": "alignment", "encoder_layers": {"joint": [40]}}, "between 0 and 28"),
        ({"head_type": "alignment", "encoder_layers": {"joint": []}}, "between 0 and 28"),
        ({"head_type": "cls", "encoder_layers": {"joint": [3]}}, "reads layer 28"),
        ({"base_model_name_or_path": "tester/other"}, "from_base"),
    ],
)
def test_bad_configuration(kwargs, match):
    """What cannot be built is refused when it is configured."""
    with pytest.raises(ValueError, match=match):
        ModernBertNliConfig(**kwargs)


def test_heads_of_another_width(broken, tiny_modernbert):
    """Heads that do not fit their configuration are refused with both files named."""
    weights = read(broken / "model.safetensors")
    weights["nli_hidden.0.weight"] = torch.zeros(32, 48)
    save_file(weights, broken / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match=r"do not fit their config\.json .*hidden_size = 64"):
        load(broken, tiny_modernbert)


def test_renamed_keys(broken, tiny_modernbert):
    """Missing heads are an error, never random numbers."""
    weights = read(broken / "model.safetensors")
    save_file({f"old_{key}": value for key, value in weights.items()}, broken / "model.safetensors")
    with pytest.raises(ValueError, match=r"incomplete.*nli_hidden.*missing.*old_nli.*head_type='cls'"):
        load(broken, tiny_modernbert)


@pytest.mark.parametrize("size", [0, 5, 600])
def test_truncated_file(broken, tiny_modernbert, size):
    """Half a file is an error that says so."""
    path = broken / "model.safetensors"
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(OSError, match=r"truncated.*again"):
        load(broken, tiny_modernbert)


@pytest.mark.parametrize("target", ["heads.safetensors", None])
def test_no_heads_file(broken, tiny_modernbert, target):
    """A folder without the weights file is an error that names the file, also where it has another name."""
    path = broken / "model.safetensors"
    path.rename(broken / target) if target else path.unlink()
    with pytest.raises(OSError, match=r"model\.safetensors"):
        load(broken, tiny_modernbert)


def test_heads_of_another_family(broken, checkpoints, tiny_modernbert):
    """The heads of one family under the configuration of the other are refused."""
    shutil.copy(Path(checkpoints["alignment"]) / "model.safetensors", broken)
    with pytest.raises(ValueError, match="cls"):
        load(broken, tiny_modernbert)


def test_base_with_missing_keys(checkpoint, tiny_modernbert, tmp_path):
    """A base that lacks weights is refused, where transformers would go on with random ones."""
    base = shutil.copytree(tiny_modernbert, tmp_path / "base")
    weights = read(base / "model.safetensors")
    save_file(
        {k: v for k, v in weights.items() if "layers.1." not in k},
        base / "model.safetensors",
        {"format": "pt"},
    )
    with pytest.raises(ValueError, match=r"is incomplete.*layers\.1\..*Download it again"):
        load(checkpoint, str(base))


_SHAPE = {"vocab_size": 400, "intermediate_size": 96, "num_attention_heads": 4}


@pytest.mark.parametrize(
    ("key", "other"),
    [
        (
            "hidden_size",
            lambda v: ModernBertModel(ModernBertConfig(hidden_size=32, num_hidden_layers=3, **v)),
        ),
        (
            "num_hidden_layers",
            lambda v: ModernBertModel(ModernBertConfig(hidden_size=64, num_hidden_layers=2, **v)),
        ),
        ("model_type", lambda v: BertModel(BertConfig(hidden_size=64, num_hidden_layers=3, **v))),
    ],
)
def test_another_base(checkpoint, tiny_modernbert, tmp_path, key, other):
    """A base of another type, depth or width is refused with both values, as an object and as a folder."""
    vocab_size = ModernBertNliConfig.from_pretrained(checkpoint).vocab_size
    encoder = other({**_SHAPE, "vocab_size": vocab_size, "pad_token_id": 0})
    encoder.save_pretrained(tmp_path)
    for how in ({"base": None, "encoder": encoder}, {"base": str(tmp_path)}):
        with pytest.raises(ValueError, match=f"tester/tiny-base.*{key} = .*{key} = .*load the base"):
            load(checkpoint, **how)


def test_unreachable_base(checkpoint):
    """Without a network, the error names the base and three ways out."""
    with pytest.raises(
        OSError, match=r"(?s)tester/tiny-base.*hf download.*base_model_name_or_path.*encoder="
    ):
        load(checkpoint, None)


def test_one_checkpoint_for_both_classes(checkpoint, tiny_modernbert, batch, model, tmp_path):
    """The plain classifier loads the same checkpoint, judges the same and saves the same configuration."""
    how = {"base_model_name_or_path": tiny_modernbert}
    classifier = ModernBertNliForSequenceClassification.from_pretrained(checkpoint, **how)
    assert_close(classifier(**batch).logits, model(**batch).logits)
    labels = torch.tensor([0, 1, 2])
    assert_close(classifier(**batch, labels=labels).loss, model(**batch, labels=labels).loss)
    classifier.save_pretrained(tmp_path)
    assert saved_json(tmp_path)["config.json"] == saved_json(Path(checkpoint))["config.json"]


def load_from_hub(checkpoint: str, first: str, cache: str) -> dict:
    """Names, revisions, caches and tokens of a base on the Hub, whose `first` commit is not its newest."""
    import json
    import os
    import tempfile
    from pathlib import Path

    from huggingface_hub import HfApi
    from transformers import AutoModel, pipeline

    HfApi().create_repo("tester/revisions")
    HfApi().upload_folder(repo_id="tester/revisions", folder_path=checkpoint)
    HfApi().create_tag("tester/revisions", tag="v1")

    def load(name, **kwargs):
        return AutoModel.from_pretrained(name, trust_remote_code=True, **kwargs)

    def weight(model):
        return model.encoder.get_input_embeddings().weight[7, 7].item()

    def saved_revision(model):
        folder = tempfile.mkdtemp()
        model.save_pretrained(folder)
        return json.loads((Path(folder) / "config.json").read_text())["base_model_revision"]

    newest = load(checkpoint)
    tagged = load("tester/revisions", revision="v1", cache_dir=cache, token="hf_mine")
    pinned = load(checkpoint, base_model_revision=first)
    other = load(checkpoint, base_model_name_or_path="tester/moved-base")
    try:
        load(checkpoint, base_model_revision="nowhere")
        error = ""
    except OSError as failure:
        error = str(failure)
    local = load("tester/revisions", revision="v1", cache_dir=cache, local_files_only=True)
    piped = pipeline(
        model="tester/revisions",
        revision="v1",
        trust_remote_code=True,
        model_kwargs={"cache_dir": cache},
    )
    return {
        "weights": [weight(model) for model in (newest, tagged, pinned, other, local, piped.model)],
        "saved": [saved_revision(model) for model in (newest, tagged, pinned)],
        "other": [other.config.base_model_name_or_path, saved_revision(other)],
        "cached": sorted(path for path in os.listdir(cache) if path.startswith("models--")),
        "error": error,
    }


def open_subfolder(name: str, base: str, revision: str | None, registered: bool) -> list[bool]:
    """Whether each class finds heads, tokenizer and replay sample in a subfolder, and saves what it found."""
    import tempfile

    if registered:
        import modernbert_nli

        modernbert_nli.register()
    from transformers import AutoModel, AutoModelForSequenceClassification, AutoTokenizer, pipeline

    trust = {"trust_remote_code": True, "revision": revision}
    how = {"subfolder": "heads", "base_model_name_or_path": base}
    pair = ("It rains.", "nobody is outside")
    auto = AutoModel.from_pretrained(name, **how, **trust)
    other = AutoModelForSequenceClassification.from_pretrained(name, **how, **trust)
    by_model = pipeline(model=name, model_kwargs=dict(how), **trust)
    by_task = pipeline("nli-abstention", model=name, model_kwargs=dict(how), **trust)
    batch = AutoTokenizer.from_pretrained(name, subfolder="heads", **trust)(*pair, return_tensors="pt")
    expected = auto.as_pipeline()(*pair)
    with tempfile.TemporaryDirectory() as folder:
        auto.save_pretrained(folder)
        again = AutoModel.from_pretrained(folder, base_model_name_or_path=base, trust_remote_code=True)
        saved = again.as_pipeline()(*pair)
    return [
        auto.tokenizer(*pair)["input_ids"] == batch["input_ids"][0].tolist(),
        bool((other(**batch).logits == auto(**batch).logits).all()),
        by_model(*pair) == expected,
        by_task(*pair) == expected,
        saved == expected,
    ]


@pytest.mark.parametrize("registered", [False, True], ids=["code at the top", "package registered"])
@pytest.mark.parametrize("on_the_hub", [False, True], ids=["folder", "Hub"])
def test_heads_in_a_subfolder(checkpoints, hub, tiny_modernbert, tmp_path, on_the_hub, registered):
    """Through Auto classes and pipelines: the code at the top of the repository, or of the package."""
    repository = tmp_path / "repository"
    shutil.copytree(checkpoints["separate"], repository / "heads")
    for path in (repository / "heads").glob("*.py"):
        path.rename(repository / path.name) if not registered else path.unlink()
    name, environment = str(repository), {"HF_HUB_OFFLINE": "1"}
    if on_the_hub:
        name, environment = f"tester/sub-{registered}".lower(), {"HF_ENDPOINT": hub.url}
        hub.add(name, repository)
    found = fresh(open_subfolder, name, tiny_modernbert, None, registered, home=tmp_path, **environment)
    assert found == [True] * 5


@pytest.fixture(scope="module")
def on_hub(checkpoints, hub, tiny_modernbert, base_revision, tmp_path_factory) -> dict:
    """Two commits of the base: the second is newer and has other weights."""
    newer = Path(shutil.copytree(tiny_modernbert, tmp_path_factory.mktemp("newer") / "base"))
    weights = read(newer / "model.safetensors")
    save_file(
        {key: 2 * value for key, value in weights.items()}, newer / "model.safetensors", {"format": "pt"}
    )
    hub.add("tester/moved-base", tiny_modernbert)
    newest = hub.add("tester/tiny-base", newer)
    cache, home = tmp_path_factory.mktemp("cache"), tmp_path_factory.mktemp("home")
    # Of version 0.2, which knew its base by name: later ones would refuse the second.
    heads = Path(shutil.copytree(checkpoints["alignment"], tmp_path_factory.mktemp("heads") / "heads"))
    config = json.loads((heads / "config.json").read_text())
    del config["base_fingerprint"]
    (heads / "config.json").write_text(json.dumps(config))
    try:
        found = fresh(
            load_from_hub,
            str(heads),
            base_revision,
            str(cache),
            home=home,
            HF_ENDPOINT=hub.url,
        )
    finally:
        hub.add("tester/tiny-base", tiny_modernbert)
    key = next(key for key in weights if "tok_embeddings" in key)
    value = weights[key][7, 7].item()
    return {**found, "first": base_revision, "second": newest, "value": value}


def test_base_is_pinned(on_hub):
    """A base loaded without a revision is the newest, and its full commit is what is saved."""
    assert on_hub["weights"][0] == 2 * on_hub["value"]
    assert on_hub["saved"][:2] == [on_hub["second"]] * 2
    assert re.fullmatch("[0-9a-f]{40}", on_hub["saved"][0])


def test_revision_of_the_heads(on_hub, hub):
    """`revision` is that of the heads: the base, which has no such tag, never hears of it."""
    assert on_hub["weights"][1] == 2 * on_hub["value"]
    tagged = [request.path for request in hub.requests if "/v1" in request.path]
    assert tagged
    assert all("/tester/revisions/" in path for path in tagged)


def test_revision_of_the_base(on_hub):
    """`base_model_revision` chooses the base's commit and is what is saved."""
    assert on_hub["weights"][2] == on_hub["value"]
    assert on_hub["saved"][2] == on_hub["first"]


def test_base_from_another_repository(on_hub):
    """A base named by the caller is loaded, but the checkpoint goes on naming its own."""
    assert on_hub["weights"][3] == on_hub["value"]
    assert on_hub["other"] == ["tester/tiny-base", None]


def test_cache_and_token(on_hub, hub):
    """`cache_dir` and `token` concern the heads and the base, and the cache alone is enough later."""
    assert on_hub["cached"] == ["models--tester--revisions", "models--tester--tiny-base"]
    with_token = {request.path.split("/")[2] for request in hub.requests if request.token == "hf_mine"}
    assert with_token >= {"revisions", "tiny-base"}
    assert on_hub["weights"][4:] == [2 * on_hub["value"]] * 2


def test_unknown_revision(on_hub):
    """A revision that the base does not have is named, with the command that would download it."""
    assert re.search("tester/tiny-base.*revision nowhere", on_hub["error"])
    assert "hf download tester/tiny-base --revision nowhere" in on_hub["error"]


def test_access_tokens_are_not_pickled(checkpoint, tiny_modernbert):
    """What was given to reach a private repository stays out of copies of the model."""
    model = ModernBertNliModel.from_pretrained(
        checkpoint, base_model_name_or_path=tiny_modernbert, token="hf_secret"
    )
    content = pickle.dumps(model)
    assert b"hf_secret" not in content
    assert pickle.loads(content).load_tokenizer().sep_token == "[SEP]"


def test_heads_that_share_an_encoder_do_not_pile_up_on_it(checkpoint, tiny_modernbert):
    """Loading heads for a ready encoder again and again leaves it as it was after the first time."""
    encoder = AutoModel.from_pretrained(tiny_modernbert)
    counts = []
    for _ in range(3):
        ModernBertNliModel.from_pretrained(checkpoint, encoder=encoder)
        counts.append(sum(len(module._forward_hooks) for module in encoder.modules()))
    assert counts[0] == counts[1] == counts[2]


def test_a_base_without_a_separator_is_refused(tiny_modernbert, tmp_path):
    """Where two texts run into each other, premise and hypothesis could not be told apart."""
    folder = Path(shutil.copytree(tiny_modernbert, tmp_path / "base"))
    content = json.loads((folder / "tokenizer.json").read_text())
    content["post_processor"] = None
    (folder / "tokenizer.json").write_text(json.dumps(content))
    with pytest.raises(ValueError, match="puts no separator between two texts"):
        ModernBertNliConfig.from_base(str(folder))


# The tokenizer ----------------------------------------------------------------------------------------------


@pytest.fixture(params=["tiny_modernbert", "tiny_bert"])
def bare(request, tmp_path) -> tuple[Path, str]:
    """A checkpoint of configuration and weights alone, and its base."""
    base = request.getfixturevalue(request.param)
    make_model(base, "separate").save_pretrained(tmp_path / "all")
    (tmp_path / "bare").mkdir()
    for path in (tmp_path / "all").iterdir():
        if "tokenizer" not in path.name:
            shutil.copy(path, tmp_path / "bare")
    return tmp_path / "bare", base


def test_without_tokenizer_files_the_base_has_it(bare, tmp_path):
    """Whichever way such a checkpoint is opened, words are words; and what is saved then is complete."""
    folder, base = bare
    expected = AutoTokenizer.from_pretrained(base)("It rains.", "nobody is outside")["input_ids"]
    where = {"base_model_name_or_path": base}
    loaded = load(folder, base)
    given = load(folder, None, encoder=AutoModel.from_pretrained(base))
    piped = pipeline(model=str(folder), trust_remote_code=True, model_kwargs=where)
    for tokenizer in (loaded.load_tokenizer(), given.tokenizer, piped.tokenizer, piped.model.tokenizer):
        assert tokenizer("It rains.", "nobody is outside")["input_ids"] == expected
    assert piped(*PAIRS[0]) == loaded.as_pipeline()(*PAIRS[0])
    for name, saver in (("loaded", loaded), ("given", given), ("piped", piped)):
        saver.save_pretrained(tmp_path / name)
        assert AutoTokenizer.from_pretrained(tmp_path / name)("It rains.", "nobody is outside")[
            "input_ids"
        ] == (expected)


def test_heads_made_around_a_loaded_encoder_are_saved_with_its_tokenizer(bare, tmp_path):
    """As the class shows: no `from_base`, and the base named in the configuration is out of reach."""
    folder, base = bare
    config = ModernBertNliConfig.from_pretrained(folder)
    ModernBertNliModel(config, encoder=AutoModel.from_pretrained(base)).save_pretrained(tmp_path / "made")
    saved = AutoTokenizer.from_pretrained(tmp_path / "made")
    assert saved("It rains.")["input_ids"] == AutoTokenizer.from_pretrained(base)("It rains.")["input_ids"]


def test_no_tokenizer_anywhere_is_an_error(bare, caplog, tmp_path):
    """The pipeline names where it looked, instead of answering; a save keeps the heads and says so."""
    folder, base = bare
    without = shutil.copytree(base, tmp_path / "base", ignore=shutil.ignore_patterns("tokenizer*"))
    model = load(folder, str(without))
    with pytest.raises(OSError, match=r"(?s)No tokenizer could be loaded.*bare.*base"):
        model.as_pipeline()
    model.save_pretrained(tmp_path / "saved")
    assert not (tmp_path / "saved" / "tokenizer_config.json").exists()
    assert load_file(tmp_path / "saved" / "model.safetensors")


def test_a_tokenizer_that_does_not_fit_is_refused(checkpoints, tiny_modernbert, minilm, tmp_path):
    """Another vocabulary, or the same one with other special tokens: given, or among the files."""
    model = load(checkpoints["separate"], tiny_modernbert)
    with pytest.raises(ValueError, match=r"knows 30,522 tokens, but the base 'tester/tiny-base' .* \d+:"):
        model.as_pipeline(AutoTokenizer.from_pretrained(minilm))
    other = AutoTokenizer.from_pretrained(tiny_modernbert, sep_token="[MASK]")
    with pytest.raises(ValueError, match=r"has sep_token_id = 4, but the heads .* were made for 3"):
        model.as_pipeline(other)
    folder = shutil.copytree(checkpoints["separate"], tmp_path / "spoilt")
    AutoTokenizer.from_pretrained(minilm).save_pretrained(folder)
    with pytest.raises(ValueError, match="knows 30,522 tokens"):
        load(folder, tiny_modernbert).load_tokenizer()
    with pytest.raises(ValueError, match="knows 30,522 tokens"):
        load_in_pipeline(folder, tiny_modernbert)


# Saving over what is there ----------------------------------------------------------------------------------


def weights_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if re.search(r"model.*(safetensors|bin)", path.name))


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({}, {"max_shard_size": "1KB"}),
        ({"max_shard_size": "1KB"}, {}),
        ({"max_shard_size": "1KB"}, {"max_shard_size": "4KB"}),
        ({"max_shard_size": "4KB"}, {"max_shard_size": "1KB"}),
        ({}, {}),
    ],
    ids=str,
)
def test_what_loads_is_what_was_saved_last(checkpoint, tiny_modernbert, batch, before, after, tmp_path):
    """Whichever form it has, in one file or in several, over whichever form there was; the rest stays."""
    model = load(checkpoint, tiny_modernbert)
    first = model(**batch).logits
    model.save_pretrained(tmp_path, **before)
    for name in ("notes.txt", "results.json", "optimizer.bin", "my_model.safetensors"):
        (tmp_path / name).write_text("mine")
    for name in ("pytorch_model.bin", "pytorch_model-00001-of-00002.bin", "pytorch_model.bin.index.json"):
        (tmp_path / name).write_text("of an earlier version")
    with torch.no_grad():
        for parameter in head_parameters(model):
            parameter += 1
    model.save_pretrained(tmp_path, **after)
    again = load(tmp_path, tiny_modernbert)
    assert torch.equal(again(**batch).logits, model(**batch).logits)
    assert not torch.equal(again(**batch).logits, first)
    fresh_folder = tmp_path / "fresh"
    model.save_pretrained(fresh_folder, **after)
    assert set(weights_in(tmp_path)) - {"my_model.safetensors"} == set(weights_in(fresh_folder))
    assert (tmp_path / "notes.txt").read_text() == (tmp_path / "my_model.safetensors").read_text() == "mine"
    assert not list(tmp_path.glob(".saving*"))


def test_variants_of_weights_stand_beside_each_other(checkpoint, tiny_modernbert, batch, tmp_path):
    """A variant replaces the same variant alone."""
    model = load(checkpoint, tiny_modernbert)
    model.save_pretrained(tmp_path)
    model.save_pretrained(tmp_path, variant="b", max_shard_size="1KB")
    assert "model.safetensors" in weights_in(tmp_path)
    assert "model.safetensors.index.b.json" in weights_in(tmp_path)
    model.save_pretrained(tmp_path, variant="b")
    assert weights_in(tmp_path) == ["model.b.safetensors", "model.safetensors"]
    for how in ({}, {"variant": "b"}):
        assert torch.equal(load(tmp_path, tiny_modernbert, **how)(**batch).logits, model(**batch).logits)


FULL = OSError(28, "No space left on device")


def raising(error: Exception):
    def fails(*args, **kwargs):
        raise error

    return fails


@pytest.mark.parametrize(
    ("place", "error"),
    [
        ("transformers.modeling_utils.safe_save_file", SafetensorError("I/O error: full (os error 28)")),
        ("transformers.PretrainedConfig.to_json_file", FULL),
        ("transformers.modeling_utils.custom_object_save", FULL),
        ("transformers.PreTrainedTokenizerBase.save_pretrained", FULL),
        ("transformers.PreTrainedTokenizerBase.save_pretrained", Exception("full (os error 28)")),
    ],
    ids=["weights", "configuration", "code", "tokenizer", "tokenizers"],
)
def test_a_full_disk_leaves_the_old_checkpoint(
    checkpoint, tiny_modernbert, place, error, tmp_path, monkeypatch
):
    """All of its files, byte for byte; and the error says so, whichever file it was that found no room."""
    model = load(checkpoint, tiny_modernbert)
    model.save_pretrained(tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    model.set_calibration(None, 0.123)
    with torch.no_grad():
        for parameter in head_parameters(model):
            parameter += 1
    monkeypatch.setattr(place, raising(error))
    with pytest.raises(OSError, match=r"(?s)Nothing was saved to .*stays as it is.*(full|No space)"):
        model.save_pretrained(tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_an_error_of_another_kind_is_not_called_a_full_disk(
    checkpoint, tiny_modernbert, tmp_path, monkeypatch
):
    """It is told as it is, and the old checkpoint stays then too."""
    model = load(checkpoint, tiny_modernbert)
    model.save_pretrained(tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    monkeypatch.setattr("transformers.modeling_utils.safe_save_file", raising(RuntimeError("a bug")))
    with pytest.raises(RuntimeError, match="a bug"):
        model.save_pretrained(tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_folder_that_cannot_be_one(checkpoint, tiny_modernbert, tmp_path):
    """Where a file is in the way, that is an error; transformers would log a line and go on."""
    (tmp_path / "file").write_text("mine")
    with pytest.raises(FileExistsError, match="file"):
        load(checkpoint, tiny_modernbert).save_pretrained(tmp_path / "file")


# Labels -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [1, 2, 5])
def test_labels_without_names(tiny_modernbert, count, tmp_path):
    """Any number of them comes back, two as well, which transformers leaves out of config.json."""
    model = make_model(tiny_modernbert, num_labels=count)
    model.save_pretrained(tmp_path)
    loaded = load(tmp_path, tiny_modernbert)
    assert loaded.config.id2label == {number: f"LABEL_{number}" for number in range(count)}
    assert torch.equal(loaded(**tokenize(model)).logits, model(**tokenize(model)).logits)


def test_either_half_of_the_names_is_enough(checkpoint):
    """Names by number, or numbers by name; and a count that is right changes no name."""
    names = {0: "yes", 1: "no", 2: "perhaps"}
    numbers = {label: number for number, label in names.items()}
    for kwargs in (
        {"id2label": names},
        {"label2id": numbers},
        {"id2label": {str(k): v for k, v in names.items()}},
    ):
        for config in (
            ModernBertNliConfig(**kwargs),
            ModernBertNliConfig.from_pretrained(checkpoint, **kwargs),
        ):
            assert (config.id2label, config.label2id) == (names, numbers)
    config = ModernBertNliConfig.from_pretrained(checkpoint, num_labels=3)
    assert config.label2id == {"entailment": 0, "neutral": 1, "contradiction": 2}
    with pytest.raises(ValueError, match="as many as `num_labels`"):
        ModernBertNliConfig(num_labels=3, id2label={0: "yes", 1: "no"})


def test_another_number_of_labels(checkpoint, tiny_modernbert):
    """It is the labels that do not fit, and what to do is said, and works."""
    with pytest.raises(ValueError, match=r"tell 3 labels apart, not 5\. .*ignore_mismatched_sizes"):
        load(checkpoint, tiny_modernbert, num_labels=5)
    model = load(checkpoint, tiny_modernbert, num_labels=5, ignore_mismatched_sizes=True)
    assert model(**tokenize(model)).logits.shape == (len(PAIRS), 5)


# What is no checkpoint of heads, or asks for what heads cannot do -------------------------------------------


def test_a_base_is_no_checkpoint(tiny_bert):
    """The error says what it is, and how to put heads on it."""
    for load_it in (ModernBertNliModel.from_pretrained, ModernBertNliConfig.from_pretrained):
        with pytest.raises(ValueError, match=r"type 'bert' is no checkpoint of heads.*from_base"):
            load_it(tiny_bert)


def test_what_belongs_to_the_base(checkpoint, tiny_modernbert):
    """Its width and its embeddings are not the heads' to change."""
    with pytest.raises(ValueError, match=r"'hidden_size'\] belong to the base"):
        ModernBertNliConfig(hidden_size=32)
    with pytest.raises(NotImplementedError, match="its embeddings cannot be resized"):
        load(checkpoint, tiny_modernbert).resize_token_embeddings(500)


@pytest.mark.parametrize("model_type", ["fancy", "bert"])
def test_a_base_with_code_of_its_own_is_refused_before_anything_is_trained(tiny_bert, tmp_path, model_type):
    """No question, no code that runs: said by the configuration. A class that transformers has is taken."""
    for path in Path(tiny_bert).iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    values = json.loads((tmp_path / "config.json").read_text())
    own = {"AutoConfig": "own.Config", "AutoModel": "own.Model"}
    (tmp_path / "config.json").write_text(json.dumps({**values, "model_type": model_type, "auto_map": own}))
    (tmp_path / "own.py").write_text("raise SystemExit('this code has run')\n")
    base = ("tester/own-code", None, str(tmp_path))
    for trusted in ({"trust_remote_code": True}, {} if model_type == "fancy" else {"trust_remote_code": 1}):
        with pytest.raises(ValueError, match=r"code of its own.*take a base whose class transformers has"):
            ModernBertNliConfig.from_base(*base, **trusted)
    if model_type == "fancy":
        return
    config = ModernBertNliConfig.from_base(*base)
    with pytest.raises(ValueError, match="leave out `trust_remote_code`"):
        ModernBertNliModel.from_base(config, trust_remote_code=True)
    model = ModernBertNliModel.from_base(config)
    assert type(model.encoder).__module__.startswith("transformers.")
    model.save_pretrained(tmp_path / "saved")
    again = ModernBertNliModel.from_pretrained(tmp_path / "saved", base_model_name_or_path=str(tmp_path))
    assert again.heads_digest() == model.heads_digest()


def test_a_base_made_by_other_code_is_refused_as_an_object():
    """Its configuration could not be read again."""

    class Own(BertConfig):
        model_type = "own"

    with pytest.raises(ValueError, match="'tester/own' would run code of its own"):
        ModernBertNliConfig("tester/own", None, Own())
