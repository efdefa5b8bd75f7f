"""Texts encoded alone: their states, what the heads make of them, and how they are judged from it.

Nothing is kept here from one call to the next: that is `kept_texts.py`, for a pipeline, or the caller.
"""

import hashlib
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, TypeAlias

import torch
from torch import nn

from .fingerprint import precision_of
from .heads import HYPOTHESIS, PREMISE
from .judging import ModernBertNliHeads
from .pairwise import Side, cross, prepare, shares
from .states import Text, TokenStates, half, mean_vector, pair_rows
from .tokenization import encode_texts, items_of, max_pair_length, split_pairs

_PADDING = 64  # tokens that cost a CPU no more than reading the encoder's weights once more
_AT_ONCE = {"cpu": 2**13}  # tokens of pairs: what is made of more does not stay in a CPU's caches

Ids: TypeAlias = tuple[int, ...]  # the tokens of a text, special ones included


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


class Known(NamedTuple):
    """Texts that are to meet many others: prepared for each head, and the vector of each."""

    sides: tuple[Side, ...]
    vectors: torch.Tensor

    def some(self, rows: torch.Tensor) -> "Known":
        """Some of the texts, by number."""
        return Known(tuple(side.some(rows) for side in self.sides), self.vectors[rows])

    @property
    def nbytes(self) -> int:
        return self.vectors.nbytes + sum(part.nbytes for side in self.sides for part in side)


class ModernBertNliTexts(ModernBertNliHeads):
    """Heads that know texts alone, and judge them without the encoder once they are known."""

    def encode(self, texts: str | Sequence[str], batch_size: int = 32, cut: bool = True) -> TokenStates:
        """Encode texts alone, each distinct one once, for `classify`.

        Args:
            texts (`str` or `Sequence[str]`): One text or many.
            batch_size (`int`, *optional*, defaults to 32): Texts in a batch; long ones meet long ones.
            cut (`bool`, *optional*, defaults to `True`):
                Leave out the end of a text that exceeds the window, with a warning; otherwise raise.

        Raises:
            PairError: something that is no text, or too long without `cut`; its position is named.
            ValueError: the heads were not trained for separate encoding, or the base has changed.
        """
        self._chosen("separate")
        self.require_base()
        texts = [texts] if isinstance(texts, str) else list(items_of(texts, "a text or texts"))
        ids = self.token_ids(texts, cut)
        states = self.encode_ids(ids, batch_size)
        return self.gather([states[row] for row in ids])

    def token_ids(self, texts: Sequence[str], cut: bool = True) -> list[Ids]:
        """Texts as the tokens that `encode_ids` and `project_ids` know them by. See `encode`."""
        window = max_pair_length(self.config.encoder_config, self.tokenizer)
        return [tuple(row) for row in encode_texts(self.tokenizer, texts, window, cut)]

    def encode_ids(self, texts: Sequence[Ids], batch_size: int = 32) -> dict[Ids, torch.Tensor]:
        """The states of each distinct text, `(tokens, layers, hidden_size)` in float16, off the device."""
        return {
            ids: states.cpu()
            for batch in _batches(list(dict.fromkeys(texts)), batch_size, self._most_padding)
            for ids, states in self._encoded(batch)
        }

    @torch.no_grad()
    def project_ids(self, texts: Sequence[Ids], batch_size: int = 32) -> dict[Ids, Text]:
        """Each distinct text as the heads know it."""
        known = {}
        for batch in _batches(list(dict.fromkeys(texts)), batch_size, self._most_padding):
            states = dict(self._encoded(batch))
            tokens, _ = self._padded(list(states.values()))
            for (ids, text), row in zip(states.items(), tokens, strict=True):
                known[ids] = Text(row[: len(ids)].clone(), mean_vector(text).to(row.device))
        return known

    def gather(self, states: Sequence[torch.Tensor]) -> TokenStates:
        """The states of some texts, as `encode` returns them."""
        layers = len(self.config.encoder_layers["separate"])
        nothing = torch.empty(0, layers, self.config.hidden_size, dtype=torch.float16)
        return TokenStates.gather(list(states) or [nothing], self.states_source)[: len(states)]

    @torch.no_grad()
    def classify(
        self,
        premises: TokenStates,
        hypotheses: TokenStates,
        rows: torch.Tensor | None = None,
        batch_size: int = 256,
    ) -> Any:
        """Judge pairs of encoded texts, without the encoder.

        Args:
            premises, hypotheses (`TokenStates`): What `encode` or `project_states` returned, or
                `TokenStates.load`.
            rows (`torch.LongTensor` of shape `(pairs, 2)`, *optional*):
                Which premise meets which hypothesis. By default the first meets the first, and so on; where
                there is one on a side, it meets all others.
            batch_size (`int`, *optional*, defaults to 256): Pairs in a batch; long ones meet long ones.

        Returns:
            [`ModernBertNliOutput`] of the pairs.

        Raises:
            ValueError: states of another encoder, projected by other heads, or sides that do not match in
                number.
        """
        for side in (premises, hypotheses):
            self._require(side)
        rows = pair_rows(len(premises), len(hypotheses)) if rows is None else rows
        lengths = premises.lengths[rows[:, 0]] + hypotheses.lengths[rows[:, 1]]
        order = lengths.argsort(stable=True)
        parts = []
        for batch in rows[order].split(batch_size):
            sides = []
            for side, column in zip((premises, hypotheses), batch.unbind(dim=1), strict=True):
                distinct, place = column.unique(return_inverse=True)
                sides.append(([side.text(row) for row in distinct.tolist()], place))
            parts.append(self._judge(*self._side_by_side(*sides)))
        place = order.argsort().to(parts[0].logits.device)
        output: Any = type(parts[0])
        return output(**{key: torch.cat([part[key] for part in parts])[place] for key in parts[0]})

    @torch.no_grad()
    def project_states(self, states: TokenStates, batch_size: int = 256) -> TokenStates:
        """What these heads make of encoded texts by themselves: fewer bytes, and nothing to do again.

        Any heads on the same base read raw states; projected ones are bound to the heads that made them, and
        nothing can be trained on them.

        Args:
            states (`TokenStates`): What `encode` returned, or `TokenStates.load`.
            batch_size (`int`, *optional*, defaults to 256): Texts in a batch.

        Raises:
            ValueError: states of another encoder, or the heads are in training.
        """
        if self.nli_hidden.training or self.abstention_head.training:
            raise ValueError(
                "The heads are in training, so that what they project changes: call `eval()` first."
            )
        texts = []  # off the heads' device, batch by batch
        for start in range(0, len(states), batch_size):
            for text in self.kept(states[start : start + batch_size]):
                texts.append(Text(half(text.tokens).cpu(), half(text.vector).cpu()))
        source = {**self.states_source, "heads": self._projection_digest()}
        if not texts:
            raise ValueError("There are no texts to project.")
        projected = TokenStates.gather([text.tokens for text in texts], source)
        projected.vectors = torch.stack([text.vector for text in texts])
        return projected

    @torch.no_grad()
    def kept(self, states: TokenStates) -> list[Text]:
        """Encoded or projected texts as the heads know them.

        Raises:
            ValueError: states of another encoder, or projected by other heads.
        """
        self._require(states)
        if len(states) == 0:
            return []
        if states.vectors is None:
            flat = self._project([layer[None] for layer in states.states.unbind(dim=1)], "separate")[0]
            vectors = torch.stack([mean_vector(states.text(row)) for row in range(len(states))])
        else:
            flat, vectors = states.states.to(self._heads_device, self._heads_dtype), states.vectors
        vectors = nn.functional.normalize(vectors.to(flat), dim=-1)
        return [Text(*text) for text in zip(flat.split(states.lengths.tolist()), vectors, strict=True)]

    @torch.no_grad()
    def read(self, texts: Sequence[str], batch_size: int = 32, cut: bool = True) -> list[Text]:
        """Texts as the heads know them. See `encode`."""
        ids = self.token_ids(texts, cut)
        known = self.project_ids(ids, batch_size)
        return [known[row] for row in ids]

    @torch.no_grad()
    def prepare(self, texts: Sequence[Text]) -> Known:
        """Texts that are to meet many others, for `judge_every`."""
        padded, present = self._padded([text.tokens for text in texts])
        sides = tuple(prepare(head, tokens, present) for head, tokens in self._parts(padded))
        return Known(sides, torch.stack([text.vector for text in texts]))

    @torch.no_grad()
    def judge_texts(self, pairs: Sequence[tuple[Text, Text]]) -> Any:
        """Pairs of texts as `read` and `project_ids` made them, `[ModernBertNliOutput]`."""
        sides = []
        for texts in zip(*pairs, strict=True):
            distinct = {id(text): text for text in texts}
            place = {key: row for row, key in enumerate(distinct)}
            rows = torch.tensor([place[id(text)] for text in texts])
            sides.append(([text.tokens for text in distinct.values()], rows))
        return self._judge(*self._side_by_side(*sides))

    @torch.no_grad()
    def judge_every(self, premises: Known, hypotheses: Known) -> Any:
        """Every premise against every hypothesis, as `prepare` made them.

        Returns:
            [`ModernBertNliOutput`], with `(premises, hypotheses)` in the place of the batch.
        """
        heads = (self.nli_hidden, self.abstention_head)[: len(premises.sides)]
        if not all(map(shares, heads)):
            return self._judge_pair_by_pair(premises, hypotheses)
        sides = list(zip(premises.sides, hypotheses.sides, strict=True))
        hidden = cross(self.nli_hidden, *sides[0])
        opinion = None
        if len(sides) > 1:
            opinion = self.abstention_head.output(cross(self.abstention_head, *sides[1]))
        return self._judgement(hidden, opinion)

    def _judge_pair_by_pair(self, premises: Known, hypotheses: Known) -> Any:
        counts = len(premises.vectors), len(hypotheses.vectors)
        rows = torch.cartesian_prod(*(torch.arange(count) for count in counts)).unbind(dim=1)
        tokens, segments = [], []
        for known, some, number in zip((premises, hypotheses), rows, (PREMISE, HYPOTHESIS), strict=True):
            tokens.append(torch.cat([side.tokens for side in known.sides], dim=-1)[some])
            segments.append((known.sides[0].share[some] > 0) * number)
        output = self._judge(torch.cat(tokens, dim=1), torch.cat(segments, dim=1))
        return type(output)(**{key: value.unflatten(0, counts) for key, value in output.items()})

    @property
    def states_source(self) -> dict[str, Any]:
        """What makes this model's states: those of another base, revision or choice of layers do not fit."""
        config = self.config
        source: dict[str, Any] = {
            "base": config.base_model_name_or_path,
            "revision": config.base_model_revision,
            "layers": list(config.encoder_layers.get("separate", [])),
        }
        if self.config.base_fingerprint:
            source["fingerprint"] = self.config.base_fingerprint
        if self.adapter is not None:
            source["adapter"] = self.adapter.digest()
        return {**source, "precision": "int8"} if precision_of(self.encoder) == "int8" else source

    @torch.compiler.disable  # texts are told apart by their tokens: that is no part of a graph
    def _text_pairs(
        self, input_ids: torch.Tensor | None, attention_mask: torch.Tensor | None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Pairs in one sequence to the projected tokens and segments of their texts, encoded alone."""
        if torch.jit.is_tracing() or torch.compiler.is_exporting():
            raise ValueError(
                "Separate encoding tells texts apart by their tokens, which no exported graph can: export "
                'the model with `encoding="joint"`.'
            )
        if input_ids is None:
            raise ValueError("Texts are told apart in `input_ids`: give them too.")
        sides = split_pairs(input_ids, attention_mask, self.config.sep_token_id)
        distinct = list(dict.fromkeys([*sides[0], *sides[1]]))
        states = {
            ids: text
            for batch in _batches(distinct, len(input_ids), self._most_padding)
            for ids, text in self._encoded(batch)
        }
        distinct_sides = []
        for texts in sides:
            place = {ids: row for row, ids in enumerate(dict.fromkeys(texts))}
            rows = torch.tensor([place[ids] for ids in texts])
            distinct_sides.append(([states[ids] for ids in place], rows))
        return self._side_by_side(*distinct_sides)

    def _encoded(self, batch: Sequence[Ids]) -> Iterator[tuple[Ids, torch.Tensor]]:
        """Each text of a batch with its states, `(tokens, layers, hidden_size)` in float16."""
        rows = [torch.tensor(ids, device=self._heads_device) for ids in batch]
        pad = nn.utils.rnn.pad_sequence
        inputs = {
            "input_ids": pad(rows, batch_first=True, padding_value=self.config.pad_token_id or 0),
            "attention_mask": pad([torch.ones_like(row) for row in rows], batch_first=True),
        }
        states = half(self.encoder_states(inputs, "separate")).transpose(1, 2)
        for ids, text in zip(batch, states, strict=True):
            yield ids, text[: len(ids)].clone()

    @property
    def _most_padding(self) -> float:
        """Tokens of it in a batch: an accelerator has room for more than a batch needs."""
        return _PADDING if self._heads_device.type == "cpu" else float("inf")

    @property
    def tokens_at_once(self) -> int:
        """Tokens of pairs, padding included, that `judge_every` is best given in one call."""
        return _AT_ONCE.get(self._heads_device.type, 2**15)

    def _side_by_side(
        self, *sides: tuple[list[torch.Tensor], torch.Tensor]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """By side, distinct texts and which of them each pair has, to projected tokens and segments."""
        tokens, segments = [], []
        for (texts, rows), number in zip(sides, (PREMISE, HYPOTHESIS), strict=True):
            projected, present = self._padded(texts)
            rows = rows.to(projected.device)
            tokens.append(projected[rows])
            segments.append(present[rows] * number)
        return torch.cat(tokens, dim=1), torch.cat(segments, dim=1)

    def _padded(self, texts: Sequence[torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
        """States of texts, or what was projected of them, to projected tokens and where there are any."""
        padded = nn.utils.rnn.pad_sequence(list(texts), batch_first=True)
        if padded.ndim == 4:
            tokens = self._project(list(padded.unbind(dim=2)), "separate")
        else:
            tokens = padded.to(self._heads_device, self._heads_dtype)
        lengths = torch.tensor([len(text) for text in texts], device=tokens.device)
        return tokens, torch.arange(tokens.shape[1], device=tokens.device) < lengths[:, None]

    def _require(self, states: TokenStates) -> None:
        expected = self.states_source
        if states.vectors is not None:
            expected["heads"] = self._projection_digest()
        states.require(expected)

    def _projection_digest(self) -> str:
        """SHA-256 of the heads' weights that `project` uses: what is projected depends on no others."""
        digest = hashlib.sha256()
        for path, tensor in self._head_tensors().items():
            name = path.partition(".")[2]
            if name.startswith(("projection.", "layer_weights.separate")):
                values = tensor.detach().cpu().float().contiguous().reshape(-1).view(torch.uint8).numpy()
                digest.update(name.encode() + values.tobytes())
        return digest.hexdigest()
