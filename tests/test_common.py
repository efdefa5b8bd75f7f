"""The tests that transformers has for each of its own models, on ours: those of the installed release.

Its source distribution alone has them; `make test-common` puts it under build/.
"""

import importlib
import sys
import unittest
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
import transformers
from conftest import ROOT, head_arguments
from safetensors.torch import load_file
from transformers import AutoConfig, AutoModel, BertConfig, BertModel

from modernbert_nli.configuration_modernbert_nli import ModernBertNliConfig
from modernbert_nli.modeling_modernbert_nli import ModernBertNliForSequenceClassification, ModernBertNliModel

FOLDER = ROOT / "build" / f"transformers-{transformers.__version__}"
if not (FOLDER / "tests" / "test_modeling_common.py").is_file():
    pytest.skip(f"{FOLDER.name}: its tests are not here (make test-common)", allow_module_level=True)


class _Absent(ModuleType):
    """A module of those tests that the source distribution lacks: empty classes, and no settings."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return type(name, (), {}) if name[0].isupper() else {}


def _common(name: str) -> ModuleType:
    package = ModuleType("transformers_tests")
    package.__path__ = [str(FOLDER / "tests")]
    sys.modules.setdefault("transformers_tests", package)
    for absent in ("exporters", "exporters.test_export", "generation", "generation.test_utils"):
        sys.modules.setdefault(f"transformers_tests.{absent}", _Absent(absent))
    for absent in ("utils", "utils.test_configuration_utils"):
        sys.modules.setdefault(f"transformers_tests.{absent}", _Absent(absent))
    (FOLDER / "tests" / "__init__.py").touch()  # which one of them loads
    return importlib.import_module(f"transformers_tests.{name}")


modeling, configuration = _common("test_modeling_common"), _common("test_configuration_common")

# Those that ask for what heads on a frozen base are not, by why. What they skip by themselves is not here.
INAPPLICABLE = {
    "nothing flows back through the frozen base": ("test_retain_grad_hidden_states_attentions",),
    "heads are not loaded from a base, but beside it": (
        "test_correct_missing_keys",
        "test_base_model_prefix_loads_base_weights",
        "test_from_pretrained_no_checkpoint",
    ),
    "missing heads are an error, never random numbers": (
        "test_model_weights_reload_no_missing_tied_weights",
    ),
    "the attention is the base's: `model.encoder.config` names it": (
        "test_sdpa_can_dispatch_non_composite_models",
    ),
}
NEEDS_TOKENS = ("test_inputs_embeds", "test_inputs_embeds_matches_input_ids")


class _OnItsBase:
    """A model whose encoder is that of its base from the start: these tests save heads and load both."""

    def __init__(self, config: ModernBertNliConfig, encoder: Any = None, _without_encoder: bool = False):
        if encoder is None and not _without_encoder:
            attention = config.encoder_config._attn_implementation
            encoder = AutoModel.from_config(config.encoder_config, attn_implementation=attention)
            if encoder.device.type != "meta":
                path = Path(config.base_model_name_or_path, "model.safetensors")
                encoder.load_state_dict(load_file(path))
        super().__init__(config, encoder, _without_encoder)

    def _require_pairs(self, *inputs: Any) -> None:
        """Some of these tests fill a batch with random tokens, which are no pairs."""


class Model(_OnItsBase, ModernBertNliModel):
    """All modes."""


class Classifier(_OnItsBase, ModernBertNliForSequenceClassification):
    """Logits alone."""


@pytest.fixture(scope="module", autouse=True)
def base(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A BERT whose special tokens are 1 (CLS), 2 (SEP) and 0 (PAD)."""
    config = BertConfig(
        vocab_size=60,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=48,
        max_position_embeddings=64,
        pad_token_id=0,
    )
    _ModelTester.base = str(tmp_path_factory.mktemp("base"))
    BertModel(config).save_pretrained(_ModelTester.base)
    yield
    _ModelTester.base = ""


class _ModelTester:
    """Small heads of one family."""

    batch_size, seq_length, hidden_size, num_hidden_layers, num_attention_heads = 3, 9, 32, 2, 2
    is_training = True
    base = ""

    def __init__(self, heads: str):
        self.heads = heads

    def get_config(self) -> ModernBertNliConfig:
        encoder_config = AutoConfig.from_pretrained(self.base)
        sizes = {
            "nli_hidden_size": 16,
            "alignment_size": 8,
            "comparison_size": 8,
            "abstention_hidden_size": 8,
        }
        special = {"sep_token_id": 2, "pad_token_id": 0, "head_dropout": 0.0}
        arguments = {**head_arguments(self.heads), **sizes, **special}
        config = ModernBertNliConfig(self.base, None, encoder_config, **arguments)
        config._attn_implementation = "eager"  # which alone gives attentions
        return config

    def prepare_config_and_inputs_for_common(self) -> tuple[ModernBertNliConfig, dict[str, torch.Tensor]]:
        input_ids = torch.randint(3, 60, (self.batch_size, self.seq_length))
        input_ids[:, 0], input_ids[:, 4], input_ids[:, -1] = 1, 2, 2
        return self.get_config(), {"input_ids": input_ids, "attention_mask": torch.ones_like(input_ids)}


class _Common(modeling.ModelTesterMixin):
    all_model_classes = (Model, Classifier)
    test_resize_embeddings = False  # the base is frozen, and so are its embeddings
    heads: str

    def setUp(self) -> None:
        for cause, tests in INAPPLICABLE.items():
            if self._testMethodName in tests:
                self.skipTest(cause)
        if self.heads != "cls" and self._testMethodName in NEEDS_TOKENS:
            self.skipTest("a hypothesis is found by its separator, in `input_ids`")
        self.model_tester = _ModelTester(self.heads)

    def _prepare_for_class(self, inputs: dict, model_class: type, return_labels: bool = False) -> dict:
        inputs = super()._prepare_for_class(inputs, model_class, return_labels)
        if return_labels:
            inputs["labels"] = torch.zeros(self.model_tester.batch_size, dtype=torch.long)
        return inputs

    def test_config(self) -> None:
        """What ConfigTester asks of a configuration; but of the base's no more is kept than makes a model."""
        arguments = head_arguments(self.heads)
        tester = configuration.ConfigTester(self, config_class=ModernBertNliConfig, **arguments)
        tester.create_and_test_config_common_properties()
        tester.create_and_test_config_to_json_string()
        tester.create_and_test_config_to_json_file()
        tester.create_and_test_config_from_and_save_pretrained()
        tester.create_and_test_config_from_and_save_pretrained_subfolder()
        tester.create_and_test_config_with_num_labels()
        tester.check_config_can_be_init_without_params()


class TestClsHead(_Common, unittest.TestCase):
    heads = "cls"


class TestAlignmentHead(_Common, unittest.TestCase):
    heads = "alignment"


class TestSeparateEncoding(_Common, unittest.TestCase):
    heads = "separate"
