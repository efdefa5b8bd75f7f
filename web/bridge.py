"""What the page asks of Python, as JSON: places are those of JavaScript, in units of UTF-16.

The modules of the package are used as they are. There is no torch here and no transformers: modules that name
them are loaded all the same, and what they would compute with them is JavaScript's part.
"""

import json
import sys
from dataclasses import dataclass
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from itertools import accumulate
from types import ModuleType, SimpleNamespace
from typing import Any

_ELSEWHERE = ("numpy", "safetensors", "torch", "transformers")


class _Absent(type):
    """A class that stands for whatever such a package has: a base, a decorator, an annotation."""

    def __getattr__(cls, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return cls

    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        return args[0] if len(args) == 1 and callable(args[0]) else cls


class _Elsewhere(MetaPathFinder, Loader):
    """Finds such packages, and in them whatever is asked for."""

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        return ModuleSpec(name, self, is_package=True) if name.partition(".")[0] in _ELSEWHERE else None

    def exec_module(self, module: ModuleType) -> None:
        absent = _Absent("Absent", (), {})
        module.__getattr__ = lambda name: getattr(absent, name)  # type: ignore[method-assign]


sys.meta_path.append(_Elsewhere())

from modernbert_nli import documents  # noqa: E402
from modernbert_nli.passages import Block, Reader, said_by  # noqa: E402
from modernbert_nli.tokenization import PairError, max_pair_length  # noqa: E402


class _Tokenizer:
    """JavaScript's, as far as Python's modules ask for it."""

    is_fast = True

    def __init__(self, tokens: Any):
        self._tokens = tokens
        self.unk_token_id = tokens.unknown
        self.model_max_length = tokens.most

    def __call__(self, text: str, **options: Any) -> dict[str, list[Any]]:
        found = json.loads(self._tokens.read(text))
        units = _Units(text)
        places = [tuple(map(units.character, place)) for place in found["places"]]
        return {"input_ids": found["ids"], "offset_mapping": places}

    def get_vocab(self) -> dict[str, int]:
        return json.loads(self._tokens.vocabulary())


class _Units:
    """Places of characters in a text as places of units, and the other way round."""

    def __init__(self, text: str):
        self._before: list[int] | None = None  # units before each character, where some have two
        if text and max(text) > "\uffff":
            self._before = [0, *accumulate(1 + (sign > "\uffff") for sign in text)]
            self._characters = {place: row for row, place in enumerate(self._before)}

    def unit(self, place: int) -> int:
        return place if self._before is None else self._before[place]

    def character(self, place: int) -> int:
        return place if self._before is None else self._characters[place]

    def moved(self, spans: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Results with `start` and `end`, in units."""
        return [{**one, "start": self.unit(one["start"]), "end": self.unit(one["end"])} for one in spans]


@dataclass
class _Question:
    """An answer and a document that are compared; `passages` are all of the document's."""

    answer: str
    document: str
    claims: documents.Claims
    block: Block
    passages: list[tuple[int, int]]
    reader: Reader


_model = SimpleNamespace()  # what Python's modules ask a model for
_question: _Question


def connect(tokens: Any, config: str) -> int:
    """Take JavaScript's tokenizer and config.json: how many tokens the encoder reads at once."""
    values = json.loads(config)
    values["encoder_config"] = SimpleNamespace(**values["encoder_config"])
    values["id2label"] = {int(number): label for number, label in values["id2label"].items()}
    _model.config, _model.tokenizer = SimpleNamespace(**values), _Tokenizer(tokens)
    return max_pair_length(_model.config.encoder_config, _model.tokenizer)


def call(name: str, values: str) -> str:
    """Call one of the functions below. What cannot be judged is an `error` that says why."""
    try:
        return json.dumps({"value": globals()[name](*json.loads(values))})
    except PairError as error:
        return json.dumps({"error": error.reason})


def compare(answer: str, document: str) -> dict[str, Any]:
    """The claims of an answer, the sentences of a document and its passages: what is to be encoded.

    Returns:
        `dict`: `claims` and `sentences`, texts; `passages`, each its first sentence and the one after its
        last; `silent`, by claim the numbers of passages that cannot be about it.
    """
    global _question
    rules = documents.rules_of(_model.config, separate=True)
    reader = Reader(_model, rules["sizes"], encode=False)
    claims = documents.read_claims(answer, reader)
    parts = list(reader.blocks([(0, document)]))
    block = Block([one for part in parts for one in part.sentences[part.carried :]], None)
    passages = block.passages(rules["sizes"])
    _question = _Question(answer, document, claims, block, passages, reader)
    return {
        "claims": claims.texts,
        "sentences": [said_by(one, document) for one in block.sentences],
        "passages": passages,
    }
