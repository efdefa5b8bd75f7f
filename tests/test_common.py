"""The tests that transformers has for each of its own models, on ours: those of the installed release.

Its source distribution alone has them; `make test-common` puts it under build/.
"""

import importlib
import sys
import unittest
from types import ModuleType
from typing import Any

import pytest
import torch
import transformers
from conftest import ROOT, head_arguments
from transformers import BertConfig

from configuration_modernbert_nli import ModernBertNliConfig
from modeling_modernbert_nli import ModernBertNliForSequenceClassification, ModernBertNliModel

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
INAPPLICABLE: dict[str, tuple[str, ...]] = {}
CAUSE = {test: cause for cause, tests in INAPPLICABLE.items() for test in tests}


class _ModelTester:
    """Small random models of one head family, whose special tokens are 1 (CLS), 2 (SEP) and 0 (PAD)."""

    batch_size, seq_length, hidden_size, num_hidden_layers, num_attention_heads = 3, 9, 32, 2, 2
    is_training = True

    def __init__(self, heads: str):
        self.heads = heads

    def get_config(self) -> ModernBertNliConfig:
        base = BertConfig(
            vocab_size=60,
            hidden_size=self.hidden_size,
            num_hidden_layers=self.num_hidden_layers,
            num_attention_heads=self.num_attention_heads,
            intermediate_size=48,
            max_position_embeddings=64,
            pad_token_id=0,
        )
        sizes = {
            "nli_hidden_size": 16,
            "alignment_size": 8,
            "comparison_size": 8,
            "abstention_hidden_size": 8,
        }
        special = {"sep_token_id": 2, "pad_token_id": 0}
        return ModernBertNliConfig(
            "tester/base", None, base, **head_arguments(self.heads), **sizes, **special, head_dropout=0.0
        )

    def prepare_config_and_inputs_for_common(self) -> tuple[ModernBertNliConfig, dict[str, torch.Tensor]]:
        input_ids = torch.randint(3, 60, (self.batch_size, self.seq_length))
        input_ids[:, 0], input_ids[:, 4], input_ids[:, -1] = 1, 2, 2
        return self.get_config(), {"input_ids": input_ids, "attention_mask": torch.ones_like(input_ids)}


class _Common(modeling.ModelTesterMixin):
    all_model_classes = (ModernBertNliModel, ModernBertNliForSequenceClassification)
    heads: str

    def setUp(self) -> None:
        name = self._testMethodName
        if cause := next(
            (CAUSE[test] for test in CAUSE if name == test or name.startswith(f"{test}_")), None
        ):
            self.skipTest(cause)
        self.model_tester = _ModelTester(self.heads)

    def test_config(self) -> None:
        """All that ConfigTester asks of a configuration."""
        inputs = self.model_tester.get_config().to_dict()
        tester = configuration.ConfigTester(self, config_class=ModernBertNliConfig, **inputs)
        tester.run_common_tests()


class TestClsHead(_Common, unittest.TestCase):
    heads = "cls"


class TestAlignmentHead(_Common, unittest.TestCase):
    heads = "alignment"


class TestSeparateEncoding(_Common, unittest.TestCase):
    heads = "separate"
