"""Texts encoded alone, each once: their states, and what the heads make of them, are kept for later pairs."""

import hashlib
from collections.abc import Iterator, Sequence
from itertools import chain
from typing import Any, NamedTuple

import torch
from torch import nn

from .heads import HYPOTHESIS, PREMISE, AlignmentHead
from .judging import ModernBertNliHeads
from .pairwise import Side, cross, prepare, shares
from .states import StateCache, Text, TokenStates, half, mean_vector, pair_rows
from .tokenization import encode_texts, max_pair_length, split_pairs, split_rows

_STATE_BYTES = 2  # of a number in float16, in which states are kept
_PADDING = 64  # tokens that cost a CPU no more than reading the encoder's weights once more
_AT_ONCE = {"cpu": 2**13}  # tokens of pairs: what is made of more does not stay in a CPU's caches

# The compiler of torch 2.6 to 2.9 fails where texts are told apart and looked up by their tokens.
_COMPILES_LOOKUPS = torch.__version__ >= "2.10"
_outside_the_graph: Any = (lambda function: function) if _COMPILES_LOOKUPS else torch.compiler.disable


def _is_exporting() -> bool:
    if hasattr(torch.compiler, "is_exporting"):
        return torch.jit.is_tracing() or torch.compiler.is_exporting()
    return torch.jit.is_tracing() or torch.compiler.is_compiling()  # outside the graph, none is compiled


def _parameters(module: nn.Module) -> Iterator[nn.Parameter]:
    """As `module.parameters()`, which a router of one text after the other would wait for."""
    yield from (parameter for parameter in module._parameters.values() if parameter is not None)
    for child in module._modules.values():
        if child is not None:
            yield from _parameters(child)


def _batches(texts: list[tuple[int, ...]], size: int, most_padding: float) -> Iterator[list[tuple[int, ...]]]:
    """Texts of like lengths together, as far as padding costs less than a pass more; of one pair both."""
    if size == 1 and len(texts) == 2:
        size = 2
    batch: list[tuple[int, ...]] = []
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

    _kept_for: tuple[Any, ...] | None
    _digest_of: tuple[Any, str]

    def encode(self, texts: str | Sequence[str], batch_size: int = 32, cut: bool = True) -> TokenStates:
        """Encode texts alone, each distinct one once, for `classify`.

        Args:
            texts (`str` or `Sequence[str]`): One text or many.
            batch_size (`int`, *optional*, defaults to 32): Texts in a batch; long ones meet long ones.
            cut (`bool`, *optional*, defaults to `True`):
                Leave out the end of a text that exceeds the window, with a warning; otherwise raise.

        Raises:
            PairError: something that is no text, or too long without `cut`; its position is named.
            ValueError: the heads were not trained for separate encoding.
        """
        self._chosen("separate")
        texts = [texts] if isinstance(texts, str) else list(texts)
        window = max_pair_length(self.config.encoder_config, self.tokenizer)
        ids = [tuple(row) for row in encode_texts(self.tokenizer, texts, window, cut)]
        distinct = sorted(set(ids), key=len)
        states = {}
        for start in range(0, len(distinct), batch_size):  # off the encoder's device, batch by batch
            encoded = self._encode_ids(distinct[start : start + batch_size], batch_size)
            states.update({row: text.cpu() for row, text in encoded.items()})
        layers = len(self.config.encoder_layers["separate"])
        nothing = torch.empty(0, layers, self.config.hidden_size, dtype=torch.float16)
        return TokenStates.gather([states[row] for row in ids] or [nothing], self.states_source)[: len(ids)]

    def encode_ahead(self, rows: Sequence[Sequence[int]], batch_size: int = 32) -> int:
        """Encode the texts of the pairs that are to be judged next, in batches of like length.

        Judging the pairs then finds their states. A batch of pairs alone holds texts of all lengths, which
        would cost padding.

        Args:
            rows (`Sequence[Sequence[int]]`): Tokens of pairs, not padded, in one sequence each.
            batch_size (`int`, *optional*, defaults to 32): Pairs in a batch; texts are half as long.

        Returns:
            How many of the first pairs these are: as many as fit into half of what is kept.
        """
        layers = len(self.config.encoder_layers["separate"])
        room = self._state_cache.max_bytes // (2 * layers * self.config.hidden_size * _STATE_BYTES)
        tokens = torch.tensor([len(row) + 1 for row in rows]).cumsum(dim=0)
        count = max(1, int((tokens <= room).sum()))
        read: Any = self._encode_ids if self._heads_version() is None else self._project_ids
        read([*chain(*split_rows(rows[:count], self.config.sep_token_id))], 2 * batch_size)
        return count

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
        if self._heads_version() is None:
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
            flat, vectors = states.states.to(self._heads_device, self.nli_output.weight.dtype), states.vectors
        vectors = nn.functional.normalize(vectors.to(flat), dim=-1)
        return [Text(*text) for text in zip(flat.split(states.lengths.tolist()), vectors, strict=True)]

    @torch.no_grad()
    def read(self, texts: Sequence[str], batch_size: int = 32, cut: bool = True) -> list[Text]:
        """Texts as the heads know them, encoded and projected once for all calls. See `encode`."""
        window = max_pair_length(self.config.encoder_config, self.tokenizer)
        ids = [tuple(row) for row in encode_texts(self.tokenizer, texts, window, cut)]
        known = self._project_ids(ids, batch_size)
        return [known[row] for row in ids]

    @torch.no_grad()
    def prepare(self, texts: Sequence[Text]) -> Known:
        """Texts that are to meet many others, for `judge_every`."""
        padded, present = self._padded([text.tokens for text in texts])
        sides = tuple(prepare(head, tokens, present) for head, tokens in self._parts(padded))
        return Known(sides, torch.stack([text.vector for text in texts]))

    @property
    def prepared_texts(self) -> StateCache:
        """Where `Known` texts may be kept, by what they are: emptied as soon as the heads change."""
        with torch.no_grad():
            self._check_kept()
        return self._category_cache

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
        if self.adapter is not None:
            source["adapter"] = self.adapter.digest()
        return {**source, "precision": "int8"} if getattr(self.encoder, "int8", False) else source

    @_outside_the_graph
    def _text_pairs(
        self, input_ids: torch.Tensor | None, attention_mask: torch.Tensor | None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Pairs in one sequence to the projected tokens and segments of their texts, encoded alone."""
        if _is_exporting():
            raise ValueError(
                "Separate encoding finds the states of a text by its tokens, which no exported graph can: "
                'export the model with `encoding="joint"`.'
            )
        if input_ids is None:
            raise ValueError("Texts are told apart in `input_ids`: give them too.")
        sides = split_pairs(input_ids, attention_mask, self.config.sep_token_id)
        read: Any = self._encode_ids if self._heads_version() is None else self._project_ids
        states = read([*sides[0], *sides[1]], batch_size=len(input_ids))
        distinct_sides = []
        for texts in sides:
            place = {ids: row for row, ids in enumerate(dict.fromkeys(texts))}
            rows = torch.tensor([place[ids] for ids in texts])
            known = [states[ids] for ids in place]
            distinct_sides.append(([text.tokens if isinstance(text, Text) else text for text in known], rows))
        return self._side_by_side(*distinct_sides)

    def _encode_ids(
        self, texts: Sequence[tuple[int, ...]], batch_size: int
    ) -> dict[tuple[int, ...], torch.Tensor]:
        """States, `(tokens, layers, hidden_size)` in float16, of each distinct text, given as its tokens."""
        known = {ids: self._state_cache.get(ids) for ids in dict.fromkeys(texts)}
        missing = [ids for ids, states in known.items() if states is None]
        for batch in _batches(missing, batch_size, self._most_padding):
            rows = [torch.tensor(ids, device=self._heads_device) for ids in batch]
            pad = nn.utils.rnn.pad_sequence
            inputs = {
                "input_ids": pad(rows, batch_first=True, padding_value=self.config.pad_token_id or 0),
                "attention_mask": pad([torch.ones_like(row) for row in rows], batch_first=True),
            }
            states = half(self.encoder_states(inputs, "separate")).transpose(1, 2)
            for ids, text in zip(batch, states, strict=True):
                known[ids] = text[: len(ids)].clone()
                self._state_cache.put(ids, known[ids])
        return known

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
            tokens = padded.to(self._heads_device, self.nli_output.weight.dtype)
        lengths = torch.tensor([len(text) for text in texts], device=tokens.device)
        return tokens, torch.arange(tokens.shape[1], device=tokens.device) < lengths[:, None]

    @torch.no_grad()
    def _project_ids(self, texts: Sequence[tuple[int, ...]], batch_size: int) -> dict[tuple[int, ...], Text]:
        """Each distinct text, given as its tokens; kept as long as the heads stay what they are."""
        self._check_kept()
        known = {ids: self._text_cache.get(ids) for ids in dict.fromkeys(texts)}
        missing = [ids for ids, text in known.items() if text is None]
        for batch in _batches(missing, batch_size, self._most_padding):
            states = self._encode_ids(batch, batch_size)
            tokens, _ = self._padded([states[ids] for ids in batch])
            for ids, row in zip(batch, tokens, strict=True):
                vector = mean_vector(states[ids]).to(row.device)
                known[ids] = Text(row[: len(ids)].clone(), vector)
                self._text_cache.put(ids, known[ids])
        return known

    def _check_kept(self) -> None:
        """Forget what other weights of the heads have projected."""
        version = self._heads_version()
        if version is None or version != self._kept_for:
            self._text_cache.clear()
            self._category_cache.clear()
            self._kept_for = version

    def _heads_version(self) -> tuple[Any, ...] | None:
        """Another one after any change to the heads; `None` while they train, and each pass differs."""
        parts = (self.nli_hidden, self.nli_output, self.abstention_head)
        parameters = [parameter for part in parts for parameter in _parameters(part)]
        if any(part.training for part in parts):
            return None
        if torch.is_grad_enabled() and any(parameter.requires_grad for parameter in parameters):
            return None
        weights = (
            (id(parameter), parameter.data_ptr(), 0 if parameter.is_inference() else parameter._version)
            for parameter in parameters
        )
        return (*(shares(part) for part in parts if isinstance(part, AlignmentHead)), *weights)

    def _require(self, states: TokenStates) -> None:
        expected = self.states_source
        if states.vectors is not None:
            expected["heads"] = self._projection_digest()
        states.require(expected)

    def _projection_digest(self) -> str:
        """SHA-256 of the heads' weights that `project` uses: what is projected depends on no others."""
        version = self._heads_version()
        if version is not None and version == self._digest_of[0]:
            return self._digest_of[1]
        digest = hashlib.sha256()
        for part in (self.nli_hidden, self.abstention_head):
            for name, tensor in part.state_dict().items():
                if name.startswith(("projection.", "layer_weights.separate")):
                    digest.update(
                        name.encode() + tensor.cpu().float().contiguous().view(torch.uint8).numpy().tobytes()
                    )
        self._digest_of = version, digest.hexdigest()
        return self._digest_of[1]
