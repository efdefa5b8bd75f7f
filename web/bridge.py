"""What the page asks of Python, as JSON: places are those of JavaScript, in units of UTF-16.

The modules of the package are used as they are. There is no torch here and no transformers: modules that name
them are loaded all the same, and what they would compute with them is JavaScript's part.
"""

import json
import math
import sys
from dataclasses import dataclass
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from itertools import accumulate
from types import ModuleType, SimpleNamespace
from typing import Any

_ELSEWHERE = (
    *("numpy", "safetensors", "torch", "transformers"),
    # What these keep and compute, JavaScript does.
    *("modernbert_nli.kept_texts", "modernbert_nli.separate", "modernbert_nli.states"),
)


class _Absent(type):
    """A class that stands for whatever such a package has, while modules are loaded: bases, decorators."""

    loading = True

    def __getattr__(cls, name: str) -> Any:
        if name.startswith("__") or not _Absent.loading:
            raise AttributeError(f"{name} is of a package that is not here.")
        return cls

    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        if not _Absent.loading:
            raise NotImplementedError("This is computed by a package that is not here.")
        return args[0] if len(args) == 1 and callable(args[0]) else cls


class _Elsewhere(MetaPathFinder, Loader):
    """Finds such packages, and in them whatever is asked for."""

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        absent = name in _ELSEWHERE or name.partition(".")[0] in _ELSEWHERE
        return ModuleSpec(name, self, is_package=True) if absent else None

    def exec_module(self, module: ModuleType) -> None:
        absent = _Absent("Absent", (), {})
        module.__getattr__ = lambda name: getattr(absent, name)  # type: ignore[method-assign]


sys.meta_path.append(_Elsewhere())

from modernbert_nli import categories, documents, guards, routing  # noqa: E402
from modernbert_nli.coverage import content_shares  # noqa: E402
from modernbert_nli.passages import Block, Reader, said_by, silent  # noqa: E402
from modernbert_nli.tokenization import PairError, max_pair_length  # noqa: E402

_Absent.loading = False


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

    def decode(self, ids: list[int]) -> str:
        return self._tokens.decode(json.dumps(ids)) if ids else ""

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
    rules: dict[str, Any]
    block: Block
    passages: list[tuple[int, int]]
    sizes: list[int]
    reader: Reader


_ROUTING = ("UNFITTED", "JUDGED", "CLOSE", "NO_CHOICE", "ANY_TEXT", "NEAREST", "OWN")
_model: Any = SimpleNamespace()  # what Python's modules ask a model for
_question: _Question


def connect(tokens: Any, config: str) -> int:
    """Take JavaScript's tokenizer and config.json: how many tokens the encoder reads at once."""
    values = json.loads(config)
    values["encoder_config"] = SimpleNamespace(**values["encoder_config"])
    values["id2label"] = {int(number): label for number, label in values["id2label"].items()}
    _model.config, _model.tokenizer = SimpleNamespace(**values), _Tokenizer(tokens)
    _model.tells = values.get("familiarity") is not None
    return max_pair_length(_model.config.encoder_config, _model.tokenizer)


def call(name: str, values: str) -> str:
    """Call one of the functions below. What cannot be judged is an `error` that says why."""
    try:
        return json.dumps({"value": globals()[name](*json.loads(values))})
    except PairError as error:
        return json.dumps({"error": error.reason})


def decide_pair(premise: str, hypothesis: str, said: dict[str, Any], threshold: float) -> dict[str, Any]:
    """What is decided of a pair. `said`: `probs`, `uncertainty`, `unread`, and whether it was `truncated`."""
    probs, uncertainty = said["probs"], said["uncertainty"]
    best = max(range(len(probs)), key=probs.__getitem__)
    abstain = uncertainty >= threshold
    result = {
        "label": _model.config.id2label[best],
        "confidence": probs[best],
        "abstain": abstain,
        "uncertainty": uncertainty,
        "probs": {_model.config.id2label[row]: value for row, value in enumerate(probs)},
        "reason": guards.UNREADABLE if said["unread"] else guards.UNCERTAIN if abstain else None,
        "truncated": said["truncated"],
    }
    return guards.overruled(premise, hypothesis, result, threshold, _model.tokenizer, _model.tells)


def compare(answer: str, document: str) -> dict[str, Any]:
    """What of an answer and a document is to be encoded, and what may meet.

    Returns:
        `dict`: `claims` and `sentences`, texts; `passages`, each its first sentence and the one after its
        last, and of each the number of its size among those of the `rules`; by claim `silent`, the numbers of
        passages that cannot be about it, and `shares`, how much each of its tokens counts.
    """
    global _question
    rules = documents.rules_of(_model.config, separate=True)
    reader = Reader(_model, rules["sizes"], encode=False)
    claims = documents.read_claims(answer, reader)
    blocks = list(reader.blocks([(0, document)]))
    block = Block([one for part in blocks for one in part.sentences[part.carried :]], None)
    passages = block.passages(rules["sizes"])
    sizes = [sum(end - at > size for size in rules["sizes"][:-1]) for at, end in passages]
    apart: list[list[int]] = [[] for _ in claims.texts]
    for claim, row in silent(block, passages, claims.texts):
        apart[claim].append(row)
    counts = [len(_model.tokenizer(text)["input_ids"]) for text in claims.texts]
    _question = _Question(answer, document, claims, rules, block, passages, sizes, reader)
    return {
        "claims": claims.texts,
        "sentences": [said_by(one, document) for one in block.sentences],
        "passages": passages,
        "sizes": sizes,
        "silent": apart,
        "shares": content_shares(claims.texts, _model.tokenizer, counts),
        "rules": rules,
    }


def decide_answer(said: list[dict[str, Any]], threshold: float | None) -> dict[str, Any]:
    """What is decided of the answer that was compared last.

    Args:
        said: Of each claim `matches`, by layer the best match of each token, and `passages`, the nearest of
            each size: its number (`row`), `nearness`, `features` by name, `probs`, `uncertainty`, `unread`.
    """
    asked, label = _question, _model.config.label2id
    pipe: Any = SimpleNamespace(
        model=_model, tokenizer=_model.tokenizer, threshold=_model.config.abstention_threshold
    )
    comparison = documents.Comparison(pipe, asked.claims, asked.rules, {0: asked.document})
    found = []
    for text, one in zip(asked.claims.texts, said, strict=True):
        candidates = documents.Candidates([[] for _ in asked.rules["sizes"]], one["matches"])
        for met in one["passages"]:
            row, probs = met["row"], met["probs"]
            known = {name: _log_odds(probs[label[name]]) for name in documents.FEATURES[:2] if name in label}
            known |= met["features"]
            passage = comparison.passage(asked.block, asked.passages[row], asked.sizes[row], text)
            passage.nearness, passage.uncertainty, passage.probs = met["nearness"], met["uncertainty"], probs
            passage.unread = met["unread"]
            passage.features = [known.get(name, 0.0) for name in documents.FEATURES]
            candidates.nearest[asked.sizes[row]].append(passage)
        found.append(candidates)
    result = documents.conclude(
        pipe, asked.answer, asked.claims, found, asked.rules, threshold, {0: 0}, asked.reader.reads
    )
    ours, theirs = _Units(asked.answer), _Units(asked.document)
    result["evidence"] = theirs.moved(result["evidence"])
    for sentence in result["sentences"]:
        sentence["evidence"] = theirs.moved(sentence["evidence"])
        sentence["unsupported"] = ours.moved(sentence["unsupported"])
    result["sentences"] = ours.moved(result["sentences"])
    return result


def _log_odds(probability: float) -> float:
    inside = min(max(probability, 1e-9), 1 - 1e-9)
    return math.log(inside / (1 - inside))


def read_categories(text: str, names: list[str], hypotheses: list[str]) -> dict[str, Any]:
    """What routes are decided by, beside the configuration.

    Returns:
        `dict`: `words`, the names as words; values of `routing.py` by their names; whether the text is
        `readable` by its words, and has one of the categories' own (`named`); `declined`, the result of one
        that is not read.
    """
    own = categories.words_of(" ".join([*names, *hypotheses]))
    return {
        "words": [categories.readable(name) for name in names],
        "readable": routing.is_read(text, own, _model.tokenizer),
        "named": not own.isdisjoint(categories.words_of(text)),
        "declined": routing.no_route(names, several=False),
        **{name: getattr(routing, name) for name in _ROUTING},
    }
