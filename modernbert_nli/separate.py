"""Texts encoded alone: their states, what the heads make of them, and how pairs are judged from it.

Nothing is kept here from one call to the next: that is `kept_texts.py`, for a pipeline, or the caller.
"""

import hashlib
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import torch
from torch import nn

from .fingerprint import precision_of
from .heads import HYPOTHESIS, PREMISE
from .pairwise import PreparedSide, beside, can_share, cross, prepare_side
from .states import Text, TokenStates, half, mean_vector, pair_rows
from .tokenization import encode_texts, items_of, max_pair_length, split_pairs

if TYPE_CHECKING:
    from .modeling_modernbert_nli import ModernBertNliModel, ModernBertNliOutput

_PADDING = 64  # tokens that cost a CPU no more than reading the encoder's weights once more
_AT_ONCE = {"cpu": 2**13}  # tokens of pairs: what is made of more does not stay in a CPU's caches

Ids: TypeAlias = tuple[int, ...]  # the tokens of a text, special ones included


class PreparedTexts(NamedTuple):
    """Texts that are to meet many others: prepared for the NLI head; vector and familiarity of each."""

    side: PreparedSide
    vectors: torch.Tensor
    familiarity: torch.Tensor

    def select(self, rows: torch.Tensor) -> "PreparedTexts":
        """Some of the texts, by number."""
        return PreparedTexts(self.side.select(rows), self.vectors[rows], self.familiarity[rows])

    @property
    def nbytes(self) -> int:
        return self.vectors.nbytes + sum(part.nbytes for part in self.side)


# Texts to states ------------------------------------------------------------------------------------------


def encode(
    model: "ModernBertNliModel", texts: str | Sequence[str], batch_size: int = 32, cut: bool = True
) -> TokenStates:
    """See `ModernBertNliModel.encode`."""
    model.chosen_encoding("separate")
    model.require_base()
    texts = [texts] if isinstance(texts, str) else list(items_of(texts, "a text or texts"))
    ids = token_ids(model, texts, cut)
    states = encode_ids(model, ids, batch_size)
    return gathered(model, [states[row] for row in ids])


def token_ids(model: "ModernBertNliModel", texts: Sequence[str], cut: bool = True) -> list[Ids]:
    """Texts as the tokens that `encode_ids` and `project_ids` know them by. See `encode`."""
    window = max_pair_length(model.config.encoder_config, model.tokenizer)
    return [tuple(row) for row in encode_texts(model.tokenizer, texts, window, cut)]


def encode_ids(
    model: "ModernBertNliModel", texts: Sequence[Ids], batch_size: int = 32
) -> dict[Ids, torch.Tensor]:
    """The states of each distinct text, `(tokens, layers, hidden_size)` in float16, off the device."""
    return {
        ids: states.cpu()
        for batch in _batches(list(dict.fromkeys(texts)), batch_size, _most_padding(model))
        for ids, states in _encoded(model, batch)
    }


def gathered(model: "ModernBertNliModel", states: Sequence[torch.Tensor]) -> TokenStates:
    """The states of some texts, as `encode` returns them."""
    layers = len(model.config.encoder_layers["separate"])
    nothing = torch.empty(0, layers, model.config.hidden_size, dtype=torch.float16)
    return TokenStates.gather(list(states) or [nothing], states_source(model))[: len(states)]


def states_source(model: "ModernBertNliModel") -> dict[str, Any]:
    """What makes a model's states: those of another base, revision or choice of layers do not fit."""
    config = model.config
    source: dict[str, Any] = {
        "base": config.base_model_name_or_path,
        "revision": config.base_model_revision,
        "layers": list(config.encoder_layers.get("separate", [])),
    }
    if config.base_fingerprint:
        source["fingerprint"] = config.base_fingerprint
    if model.adapter is not None:
        source["adapter"] = model.adapter.digest()
    return {**source, "precision": "int8"} if precision_of(model.encoder) == "int8" else source


# States to what the heads know ----------------------------------------------------------------------------


@torch.no_grad()
def read(
    model: "ModernBertNliModel", texts: Sequence[str], batch_size: int = 32, cut: bool = True
) -> list[Text]:
    """Texts as the heads know them. See `encode`."""
    ids = token_ids(model, texts, cut)
    known = project_ids(model, ids, batch_size)
    return [known[row] for row in ids]


@torch.no_grad()
def project_ids(model: "ModernBertNliModel", texts: Sequence[Ids], batch_size: int = 32) -> dict[Ids, Text]:
    """Each distinct text as the heads know it."""
    return _project(model, texts, batch_size)


def _project(model: "ModernBertNliModel", texts: Sequence[Ids], batch_size: int) -> dict[Ids, Text]:
    """The same, for heads that may be learning."""
    known: dict[Ids, Text] = {}
    for batch in _batches(list(dict.fromkeys(texts)), batch_size, _most_padding(model)):
        states = dict(_encoded(model, batch))
        known |= zip(states, _as_known(model, list(states.values())), strict=True)
    return known


def _as_known(model: "ModernBertNliModel", states: Sequence[torch.Tensor]) -> Iterator[Text]:
    """Texts as the heads know them, of the states of each, `(tokens, layers, hidden_size)`."""
    layers = list(nn.utils.rnn.pad_sequence(list(states), batch_first=True).unbind(dim=2))
    tokens = model.project(layers, "separate")
    familiarity = model.familiarity_of(layers, "separate", _present(states, tokens))
    for text, row, score in zip(states, tokens, familiarity, strict=True):
        yield Text(row[: len(text)].clone(), mean_vector(text).to(row.device), score[0])


@torch.no_grad()
def known_texts(model: "ModernBertNliModel", states: TokenStates) -> list[Text]:
    """Encoded or projected texts as the heads know them.

    Raises:
        ValueError: states of another encoder, or projected by other heads.
    """
    _require(model, states)
    return _known(model, states)


def _known(model: "ModernBertNliModel", states: TokenStates) -> list[Text]:
    """The same of states that are known to fit."""
    if len(states) == 0:
        return []
    if states.vectors is None:
        texts = [states.text(row) for row in range(len(states))]
        flat = model.project([layer[None] for layer in states.states.unbind(dim=1)], "separate")[0]
        vectors = torch.stack([mean_vector(text) for text in texts])
        familiarity = torch.cat([_familiarity(model, text) for text in texts])
    else:
        flat, vectors = states.states.to(model.heads_device, model.heads_dtype), states.vectors
        familiarity = torch.ones(len(states)) if states.familiarity is None else states.familiarity
    vectors = nn.functional.normalize(vectors.to(flat), dim=-1)
    tokens = flat.split(states.lengths.tolist())
    return [Text(*text) for text in zip(tokens, vectors, familiarity.to(flat.device), strict=True)]


def _familiarity(model: "ModernBertNliModel", states: torch.Tensor) -> torch.Tensor:
    """Of one text alone, `(1,)`."""
    return model.familiarity_of(states[None].unbind(dim=2), "separate", torch.ones(1, len(states)))[0]


@torch.no_grad()
def project_states(model: "ModernBertNliModel", states: TokenStates, batch_size: int = 256) -> TokenStates:
    """See `ModernBertNliModel.project_states`."""
    if model.nli_hidden.training or model.abstention_head.training:
        raise ValueError("The heads are in training, so that what they project changes: call `eval()` first.")
    texts = []  # off the heads' device, batch by batch
    for start in range(0, len(states), batch_size):
        for text in known_texts(model, states[start : start + batch_size]):
            texts.append(text._replace(tokens=half(text.tokens).cpu(), vector=half(text.vector).cpu()))
    source = {**states_source(model), "heads": _projection_digest(model)}
    if not texts:
        raise ValueError("There are no texts to project.")
    projected = TokenStates.gather([text.tokens for text in texts], source)
    projected.vectors = torch.stack([text.vector for text in texts])
    projected.familiarity = _scores(texts).cpu() if model.tells else None
    return projected


# What the heads know to judgements ------------------------------------------------------------------------


@torch.no_grad()
def classify(
    model: "ModernBertNliModel",
    premises: TokenStates,
    hypotheses: TokenStates,
    rows: torch.Tensor | None = None,
    batch_size: int = 256,
) -> "ModernBertNliOutput":
    """See `ModernBertNliModel.classify`."""
    for side in (premises, hypotheses):
        _require(model, side)
    rows = pair_rows(len(premises), len(hypotheses)) if rows is None else rows
    lengths = premises.lengths[rows[:, 0]] + hypotheses.lengths[rows[:, 1]]
    order = lengths.argsort(stable=True)
    parts = []
    for batch in rows[order].split(batch_size):
        sides = []
        for side, column in zip((premises, hypotheses), batch.unbind(dim=1), strict=True):
            distinct, place = column.unique(return_inverse=True)
            known = _known(model, side[distinct])
            sides.append([known[row] for row in place.tolist()])
        parts.append(judge_texts(model, list(zip(*sides, strict=True))))
    place = order.argsort().to(parts[0].logits.device)
    output: Any = type(parts[0])
    return output(**{key: torch.cat([part[key] for part in parts])[place] for key in parts[0]})


def judge_texts(model: "ModernBertNliModel", pairs: Sequence[tuple[Text, Text]]) -> "ModernBertNliOutput":
    """Pairs of texts as `read` and `project_ids` made them, `[ModernBertNliOutput]`."""
    return model.judge(*side_by_side(model, pairs))


@torch.no_grad()
def prepare(model: "ModernBertNliModel", texts: Sequence[Text]) -> PreparedTexts:
    """Texts that are to meet many others, for `judge_every`."""
    side = prepare_side(model.nli_hidden, *_padded(model, texts))
    return PreparedTexts(side, torch.stack([text.vector for text in texts]), _scores(texts))


@torch.no_grad()
def judge_every(
    model: "ModernBertNliModel", premises: PreparedTexts, hypotheses: PreparedTexts
) -> "ModernBertNliOutput":
    """Every premise against every hypothesis, as `prepare` made them.

    Returns:
        [`ModernBertNliOutput`], with `(premises, hypotheses)` in the place of the batch.
    """
    if can_share(model.nli_hidden):
        scores = torch.broadcast_tensors(premises.familiarity[:, None], hypotheses.familiarity)
        hidden = cross(model.nli_hidden, premises.side, hypotheses.side)
        return model.conclude(hidden, torch.stack(scores, dim=-1))
    counts = len(premises.vectors), len(hypotheses.vectors)
    first, second = torch.cartesian_prod(*(torch.arange(count) for count in counts)).unbind(dim=1)
    output = judge_each(model, premises.select(first), hypotheses.select(second))
    return type(output)(**{key: value.unflatten(0, counts) for key, value in output.items()})


@torch.no_grad()
def judge_each(
    model: "ModernBertNliModel", premises: PreparedTexts, hypotheses: PreparedTexts
) -> "ModernBertNliOutput":
    """Each premise against the hypothesis in its place, `[ModernBertNliOutput]`."""
    familiarity = torch.stack([premises.familiarity, hypotheses.familiarity], dim=-1)
    if can_share(model.nli_hidden):
        return model.conclude(beside(model.nli_hidden, premises.side, hypotheses.side), familiarity)
    sides = ((premises.side, PREMISE), (hypotheses.side, HYPOTHESIS))
    segments = torch.cat([(side.share > 0) * number for side, number in sides], dim=1)
    return model.judge(torch.cat([side.tokens for side, _ in sides], dim=1), segments, familiarity)


def tokens_at_once(model: "ModernBertNliModel") -> int:
    """Tokens of pairs, padding included, that heads are best given in one call."""
    return _AT_ONCE.get(model.heads_device.type, 2**15)


@torch.compiler.disable  # texts are told apart by their tokens: that is no part of a graph
def judge_texts_of(
    model: "ModernBertNliModel", input_ids: torch.Tensor | None, attention_mask: torch.Tensor | None
) -> "ModernBertNliOutput":
    """Pairs in one sequence, judged by their texts, each encoded alone."""
    return judge_texts(model, texts_of(model, input_ids, attention_mask))


def texts_of(
    model: "ModernBertNliModel", input_ids: torch.Tensor | None, attention_mask: torch.Tensor | None
) -> list[tuple[Text, Text]]:
    """Pairs in one sequence to their texts, encoded alone."""
    if torch.jit.is_tracing() or torch.compiler.is_exporting():
        raise ValueError(
            "Separate encoding tells texts apart by their tokens, which no exported graph can: export "
            'the model with `encoding="joint"`.'
        )
    if input_ids is None:
        raise ValueError("Texts are told apart in `input_ids`: give them too.")
    sides = split_pairs(input_ids, attention_mask, model.config.sep_token_id)
    known = _project(model, [*sides[0], *sides[1]], len(input_ids))
    return [(known[premise], known[hypothesis]) for premise, hypothesis in zip(*sides, strict=True)]


def side_by_side(
    model: "ModernBertNliModel", pairs: Sequence[tuple[Text, Text]]
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Pairs of texts to projected tokens, segments and familiarity, as `model.judge` takes them."""
    tokens, segments, familiarity = [], [], []
    for texts, number in zip(zip(*pairs, strict=True), (PREMISE, HYPOTHESIS), strict=True):
        distinct = {id(text): text for text in texts}
        place = {key: row for row, key in enumerate(distinct)}
        projected, present = _padded(model, list(distinct.values()))
        rows = torch.tensor([place[id(text)] for text in texts], device=projected.device)
        tokens.append(projected[rows])
        segments.append(present[rows] * number)
        familiarity.append(_scores(texts).to(projected.device))
    return torch.cat(tokens, dim=1), torch.cat(segments, dim=1), torch.stack(familiarity, dim=-1)


def _padded(model: "ModernBertNliModel", texts: Sequence[Text]) -> tuple[torch.Tensor, torch.Tensor]:
    """Projected tokens of texts, and where there are any."""
    parts = [text.tokens for text in texts]
    padded = nn.utils.rnn.pad_sequence(parts, batch_first=True).to(model.heads_device, model.heads_dtype)
    return padded, _present(parts, padded)


def _present(texts: Sequence[torch.Tensor], padded: torch.Tensor) -> torch.Tensor:
    lengths = torch.tensor([len(text) for text in texts], device=padded.device)
    return torch.arange(padded.shape[1], device=padded.device) < lengths[:, None]


def _scores(texts: Sequence[Text]) -> torch.Tensor:
    """Familiarity of texts, `(texts,)`."""
    return torch.stack([text.familiarity for text in texts])


def _require(model: "ModernBertNliModel", states: TokenStates) -> None:
    expected = states_source(model)
    if states.vectors is not None:
        expected["heads"] = _projection_digest(model)
    states.require(expected)


def _projection_digest(model: "ModernBertNliModel") -> str:
    """SHA-256 of the heads' weights that `project` uses: what is projected depends on no others."""
    digest = hashlib.sha256()
    for path, tensor in model.head_state().items():
        name = path.partition(".")[2]
        if name.startswith(("projection.", "layer_weights.separate")):
            values = tensor.detach().cpu().float().contiguous().reshape(-1).view(torch.uint8).numpy()
            digest.update(name.encode() + values.tobytes())
    return digest.hexdigest()


def _encoded(model: "ModernBertNliModel", batch: Sequence[Ids]) -> Iterator[tuple[Ids, torch.Tensor]]:
    """Each text of a batch with its states, `(tokens, layers, hidden_size)` in float16."""
    rows = [torch.tensor(ids, device=model.heads_device) for ids in batch]
    pad = nn.utils.rnn.pad_sequence
    inputs = {
        "input_ids": pad(rows, batch_first=True, padding_value=model.config.pad_token_id or 0),
        "attention_mask": pad([torch.ones_like(row) for row in rows], batch_first=True),
    }
    states = half(model.encoder_states(inputs, "separate")).transpose(1, 2)
    for ids, text in zip(batch, states, strict=True):
        yield ids, text[: len(ids)].clone()


def _most_padding(model: "ModernBertNliModel") -> float:
    """Tokens of it in a batch: an accelerator has room for more than a batch needs."""
    return _PADDING if model.heads_device.type == "cpu" else float("inf")


def _batches(texts: list[Ids], size: int, most_padding: float) -> Iterator[list[Ids]]:
    """Texts of like lengths together, as far as padding costs less than a pass more; of one pair both."""
    if size == 1 and len(texts) == 2:
        size = 2
    batch: list[Ids] = []
    padding = 0
    for ids in sorted(texts, key=len):
        more = len(batch) * (len(ids) - len(batch[-1])) if batch else 0
        if batch and (len(batch) == size or padding + more > most_padding):
            yield batch
            batch, padding, more = [], 0, 0
        batch.append(ids)
        padding += more
    if batch:
        yield batch
