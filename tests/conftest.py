"""Bases and checkpoints that the tests make, small enough to train in a second. No test needs a network."""

import atexit
import copy
import inspect
import json
import os
import pickle
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

# Before transformers and huggingface_hub are imported, which read them once.
_HOME = tempfile.mkdtemp(prefix="modernbert-nli-tests-")
atexit.register(shutil.rmtree, _HOME, ignore_errors=True)
os.environ.update(HF_HOME=_HOME, HF_HUB_OFFLINE="1", HF_HUB_DISABLE_TELEMETRY="1", HF_HUB_DISABLE_XET="1")
for _name in ("HF_TOKEN", "HF_ENDPOINT", "HF_MODULES_CACHE", "HF_HUB_CACHE"):
    os.environ.pop(_name, None)

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "modernbert_nli"
sys.path.insert(0, str(ROOT))

import numpy as np  # noqa: E402
import pytest  # noqa: E402
import torch  # noqa: E402
from huggingface_hub import constants  # noqa: E402
from hypothesis import settings  # noqa: E402
from loopback_hub import LoopbackHub  # noqa: E402
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers  # noqa: E402
from transformers import (  # noqa: E402
    BertConfig,
    BertModel,
    ModernBertConfig,
    ModernBertForMaskedLM,
    PreTrainedTokenizerFast,
)
from transformers.dynamic_module_utils import get_relative_import_files  # noqa: E402

from modernbert_nli.configuration_modernbert_nli import ModernBertNliConfig  # noqa: E402
from modernbert_nli.modeling_modernbert_nli import ModernBertNliModel  # noqa: E402

settings.register_profile("without deadline", deadline=None)  # no test asserts wall-clock time
settings.load_profile("without deadline")

# What a checkpoint brings: the configuration names all of it, directly or in turn.
_FIRST = PACKAGE / "configuration_modernbert_nli.py"
SHIPPED = sorted({_FIRST, *map(Path, get_relative_import_files(_FIRST))})

HANGS = 3600  # seconds after which a process is held to hang, not to be slow: no test is about time

# Of the tests in test_common.py, which are not ours: no other marker is known.
_THEIR_MARKERS = (
    *("accelerate_tests", "torch_compile_test", "slow", "order"),
    *("flash_attn_test", "flash_attn_3_test", "flash_attn_4_test"),
)


def pytest_configure(config: pytest.Config) -> None:
    for name in _THEIR_MARKERS:
        config.addinivalue_line("markers", f"{name}: of the common tests of transformers")


CORPUS = [
    "a man is eating food .",
    "the dog runs in the park",
    "nobody is outside",
    "two people are talking on the phone",
    "this example is about sports , politics and science",
    "The cat sleeps .",
]
# The last: alignment, encoding texts alone unless told otherwise.
HEADS = ("cls", "alignment", "separate")
PAIRS = [
    ("A man is eating food.", "Somebody eats."),
    ("The dog runs in the park, and two people are talking on the phone.", "nobody is outside"),
    ("The cat sleeps.", "The cat is awake, and it runs in the park after the dog."),
]
NOUNS = ["man", "dog", "cat", "people", "phone", "park", "food", "example"]
HYPOTHESES = {
    "entailment": "the {} is here",
    "neutral": "a {} likes sports",
    "contradiction": "nobody is outside {}",
}


def _tokenizer(**kwargs) -> PreTrainedTokenizerFast:
    """A byte-level tokenizer with the special tokens and the pair format of ModernBERT."""
    tokenizer = Tokenizer(models.BPE(unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=400, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(CORPUS * 20, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )
    names = {f"{name}_token": f"[{name.upper()}]" for name in ("unk", "pad", "cls", "sep", "mask")}
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names, **kwargs)


@pytest.fixture(scope="session")
def tiny_modernbert(tmp_path_factory) -> str:
    """Folder of a masked language model of 3 layers and window 256, as the Hub stores ModernBERT."""
    folder = str(tmp_path_factory.mktemp("tiny-modernbert"))
    tokenizer = _tokenizer(model_input_names=["input_ids", "attention_mask"])
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    config = ModernBertConfig(
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=3,
        num_attention_heads=4,
        max_position_embeddings=256,
        local_attention=16,
        pad_token_id=0,
        bos_token_id=2,
        cls_token_id=2,
        eos_token_id=3,
        sep_token_id=3,
    )
    model = ModernBertForMaskedLM(config)
    _spread(model)
    model.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def tiny_bert(tmp_path_factory) -> str:
    """Folder of a BERT of 3 layers, with token types, without special token ids in its config: window 128."""
    folder = str(tmp_path_factory.mktemp("tiny-bert"))
    tokenizer = _tokenizer(
        model_max_length=128, model_input_names=["input_ids", "token_type_ids", "attention_mask"]
    )
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=3,
        num_attention_heads=4,
        max_position_embeddings=128,
    )
    model = BertModel(config)
    _spread(model)
    model.save_pretrained(folder)
    return folder


def _spread(model: torch.nn.Module) -> None:
    """Weights well apart from the scale of a fresh initialisation, so that a random encoder is noticed."""
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.mul_(3.0)


def head_arguments(heads: str) -> dict[str, str]:
    """Arguments of the configuration for one of `HEADS`."""
    if heads == "separate":
        return {"head_type": "alignment", "encoding": "separate"}
    return {"head_type": heads}


def make_model(base: str, head_type: str = "alignment", **kwargs) -> ModernBertNliModel:
    """Random heads of one of `HEADS` on a base, named "tester/tiny-base" and read from its folder."""
    torch.manual_seed(1)
    kwargs = {**head_arguments(head_type), **kwargs}
    sizes = {
        "nli_hidden_size": 32,
        "alignment_size": 16,
        "comparison_size": 12,
        "abstention_hidden_size": 8,
        **kwargs,
    }
    config = ModernBertNliConfig.from_base("tester/tiny-base", None, base, **sizes)
    return ModernBertNliModel.from_base(config).eval()


def carried(config: ModernBertNliConfig, how: str, folder: Path) -> ModernBertNliConfig:
    """A configuration that was "copied", "pickled" or "saved again", into a folder; else itself."""
    if how == "copied":
        return copy.deepcopy(config)
    if how == "pickled":
        return pickle.loads(pickle.dumps(config))
    if how == "saved again":
        config.save_pretrained(folder)
        return ModernBertNliConfig.from_pretrained(folder)
    return config


@pytest.fixture(scope="session", params=HEADS)
def head_type(request) -> str:
    return request.param


@pytest.fixture(scope="session")
def checkpoints(tmp_path_factory, tiny_modernbert) -> dict[str, str]:
    """Folders of checkpoints on the tiny ModernBERT, to be loaded with `base_model_name_or_path`."""
    folders = {name: str(tmp_path_factory.mktemp(f"checkpoint-{name}")) for name in HEADS}
    for name, folder in folders.items():
        make_model(tiny_modernbert, name).save_pretrained(folder)
    return folders


@pytest.fixture(scope="session")
def checkpoint(checkpoints, head_type) -> str:
    """Folder of a checkpoint of either head family, to be loaded with `base_model_name_or_path`."""
    return checkpoints[head_type]


@pytest.fixture(scope="session")
def model(tiny_modernbert, head_type) -> ModernBertNliModel:
    """The model of `checkpoint`, before it was saved. Shared: not to be changed."""
    return make_model(tiny_modernbert, head_type)


@pytest.fixture(scope="session")
def batch(model) -> dict[str, torch.Tensor]:
    """`PAIRS`, tokenised and padded."""
    return tokenize(model)


def tokenize(model: ModernBertNliModel, pairs: list[tuple[str, str]] = PAIRS) -> dict[str, torch.Tensor]:
    """Pairs as the tensors that a model takes."""
    premises, hypotheses = map(list, zip(*pairs, strict=True))
    return dict(model.load_tokenizer()(premises, hypotheses, padding=True, return_tensors="pt"))


@pytest.fixture(scope="module")
def hub() -> Iterator[LoopbackHub]:
    """A Hub of our own, for what runs in a `fresh` process with `HF_ENDPOINT=hub.url`."""
    with LoopbackHub() as hub:
        yield hub


@pytest.fixture(scope="module")
def base_revision(hub, tiny_modernbert) -> str:
    """Commit of the tiny ModernBERT, which is on that Hub under the name that checkpoints know it by."""
    return hub.add("tester/tiny-base", tiny_modernbert)


def reach(hub: LoopbackHub, patch: pytest.MonkeyPatch) -> None:
    """Let this very process, which is offline otherwise, use a Hub of ours as "tester"."""
    patch.setattr(constants, "ENDPOINT", hub.url)
    patch.setattr(
        constants, "HUGGINGFACE_CO_URL_TEMPLATE", hub.url + "/{repo_id}/resolve/{revision}/{filename}"
    )
    patch.setattr(constants, "HF_HUB_OFFLINE", False)
    patch.setenv("HF_TOKEN", "hf_test")


def snippets(markdown: str, language: str) -> list[str]:
    """The blocks of code of a text, in their order."""
    return re.findall(rf"```{language}\n(.*?)```", markdown, re.DOTALL)


def fresh(function: Callable[..., Any], *args: Any, home: str | os.PathLike, **environment: str) -> Any:
    """Call a function in a new process, far from this repository.

    Args:
        function: Its imports are inside; arguments and result are JSON.
        home: Folder for the caches, and the working directory.
        **environment: Variables such as `HF_ENDPOINT`.
    """
    code = "import json, sys\n" + inspect.getsource(function)
    code += f"print(json.dumps({function.__name__}(*json.loads(sys.argv[1]))))"
    known = {
        key: value for key, value in os.environ.items() if key != "PYTHONPATH" and not key.startswith("HF_")
    }
    settings = {
        "HF_HOME": str(home),
        "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_TOKEN": "hf_test",
    }
    process = subprocess.run(
        [sys.executable, "-c", code, json.dumps(args)],
        env={**known, **settings, **environment},
        cwd=home,
        capture_output=True,
        text=True,
        timeout=HANGS,
    )
    assert process.returncode == 0, process.stderr[-6000:]
    return json.loads(process.stdout.splitlines()[-1])


@pytest.fixture(scope="session")
def minilm() -> str:
    """Folder of all-MiniLM-L6-v2, from its wheel."""
    from modernbert_nli.embedded import base_folder

    return str(base_folder())


def rows(count: int, seed: int = 0) -> list[dict]:
    """Pairs whose label can be read off the hypothesis."""
    draw = np.random.default_rng(seed)
    labels = draw.choice(list(HYPOTHESES), count)
    nouns = draw.choice(NOUNS, count)
    return [
        {
            "premise": f"the {noun} number {number} runs",
            "hypothesis": HYPOTHESES[label].format(noun),
            "label": str(label),
        }
        for number, (label, noun) in enumerate(zip(labels, nouns, strict=True))
    ]


def write(path, lines) -> str:
    path.write_text("\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines) + "\n")
    return str(path)
