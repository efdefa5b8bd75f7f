"""Sources to sentences with their states, block by block: each sentence is encoded once, whatever is asked.

A passage is some consecutive sentences of one source. Its states are those of its sentences, side by side, so
that passages of any size overlap without being encoded again.
"""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import torch

from .kept_texts import KeptTexts
from .reading import Names, Statement, shown, statements
from .sentences import Span, Splitter, placed, split_sentences
from .states import TokenStates
from .tokenization import check_text, items_of, max_pair_length, plain

if TYPE_CHECKING:
    from .modeling_modernbert_nli import ModernBertNliModel

BLOCK = 32_768  # characters of sentences that are encoded and judged together: what memory is needed for


@dataclass
class Sentence:
    """Where a sentence stands: the number of its source, and its characters there (`None`: unknown).

    Args:
        read_as (`str`, *optional*): The text that is encoded, where it is not those characters.
        group, alone, names: See `reading.Statement`.
    """

    source: int
    span: Span | None
    read_as: str | None = None
    group: int = 0
    alone: bool = True
    names: tuple[tuple[Names, int], ...] = ()

    @property
    def part(self) -> tuple[int, int]:
        """What passages stay in: its source, and its group there."""
        return self.source, self.group


@dataclass
class Block:
    """Sentences that are judged together.

    Args:
        sentences (`list[Sentence]`): In the order of the sources.
        states (`TokenStates`): Of each of them; `None` for heads that judge texts only.
        carried (`int`): How many of the first were in the block before: they only complete passages.
        ended (`bool`): Whether the last one is the last of its source.
    """

    sentences: list[Sentence]
    states: TokenStates | None
    carried: int = 0
    ended: bool = True

    def passages(self, sizes: Sequence[int]) -> list[Span]:
        """Each passage as its first sentence and the one after its last, by number in this block.

        Passages of nothing but headings and lead-ins are left out.

        Args:
            sizes (`Sequence[int]`): Sentences in a passage, ascending. Of a part of a source with fewer
                sentences there is one passage with all of them.
        """
        found: list[Span] = []
        start = 0
        while start < len(self.sentences):
            part, stop = self.sentences[start].part, start
            while stop < len(self.sentences) and self.sentences[stop].part == part:
                stop += 1
            new = max(start, self.carried)  # the first that no block before had
            ended = stop < len(self.sentences) or self.ended
            less = 0
            for size in sizes:
                found += [(at, at + size) for at in range(start, stop - size + 1) if at + size > new]
                if ended and less < stop - start < size:
                    found.append((start, stop))
                less = size
            start = stop
        return [(at, end) for at, end in found if any(one.alone for one in self.sentences[at:end])]


@dataclass
class Read:
    """How much of a source was read: its name, its characters, and the share of them (1.0: all)."""

    source: Any
    characters: int | None
    read: float


@dataclass
class Sources:
    """Sources that were read once, for any number of answers; what `nli.read` returns."""

    blocks: list[Block]
    texts: list[str | None]
    reads: list[Read] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.reads)


class Reader:
    """Reads sources into blocks, one after the other, and notes how much of each was read.

    Args:
        model (`ModernBertNliModel`): Its encoder and tokenizer.
        splitter (`Callable`, *optional*): Text to sentences; see `sentences.py`.
        sizes (`Sequence[int]`): Sentences in a passage.
        max_characters (`int`, *optional*): Read no more than so many of each source.
        encode (`bool`): Whether states are needed.
        keep (`KeptTexts`, *optional*): Where those of texts that are read again are.
    """

    def __init__(
        self,
        model: "ModernBertNliModel",
        sizes: Sequence[int],
        splitter: Splitter | None = None,
        max_characters: int | None = None,
        encode: bool = True,
        keep: KeptTexts | None = None,
    ):
        if max_characters is not None and max_characters < 1:
            raise ValueError(f"`max_characters` must be at least 1, got {max_characters}.")
        self.model, self.sizes, self.splitter, self.max_characters = model, sizes, splitter, max_characters
        self.encode, self.keep = encode, keep
        self.window = max_pair_length(model.config.encoder_config, model.tokenizer) - 2
        self.texts: dict[int, str | None] = {}  # of the sources that are being read
        self.reads: list[Read] = []

    def blocks(self, sources: Iterable[tuple[Any, str]]) -> Iterator[Block]:
        """Names and texts to blocks of at most `BLOCK` characters, or one sentence."""
        waiting: list[Sentence] = []
        carried = characters = 0
        for number, (name, text) in enumerate(sources):
            check_text(text, "source", number)
            self.texts[number] = text
            read = text if self.max_characters is None else text[: self.max_characters]
            self.reads.append(Read(_json(name), len(text), len(read) / len(text)))
            for said in self.statements(read):
                length = len(said.text)
                new = _sentence(number, said, read)
                if characters and characters + length > BLOCK:
                    yield self._block(waiting, carried, waiting[-1].part != new.part)
                    waiting = [s for s in waiting[1 - max(self.sizes) :] if s.part == new.part]
                    waiting = waiting if max(self.sizes) > 1 else []
                    carried, characters = len(waiting), 0
                    for done in [key for key in self.texts if key < number]:
                        del self.texts[done]
                waiting.append(new)
                characters += length
        if len(waiting) > carried:
            yield self._block(waiting, carried, True)

    def statements(self, text: str) -> Iterator[Statement]:
        """What a source says, in parts that the encoder can read at once; of a splitter its sentences."""
        for one in _statements(text, self.splitter):
            if len(one.text.encode()) <= self.window:
                yield one
                continue
            spans = self._fitting(text, *one.span) if one.places == (one.span,) else [one.span]
            for span in spans:
                said = one.text
                if span != one.span:
                    said = text[slice(*span)] if self.splitter else shown(text, span) or text[slice(*span)]
                for start, end in self._fitting(said, 0, len(said)):
                    yield replace(one, span=span, text=said[start:end])

    def split(self, text: str) -> Iterator[Span]:
        """Sentences, those cut in pieces that the encoder cannot read at once."""
        for start, end in sentences_of(text, self.splitter):
            yield from self._fitting(text, start, end)

    def _fitting(self, text: str, start: int, end: int) -> Iterator[Span]:
        """A sentence, or its parts where it has more tokens than the window."""
        while len(text[start : min(end, start + self.window + 1)].encode()) > self.window:
            part = text[start : min(end, start + 16 * self.window)]  # a token has a byte at least
            size = len(part)
            while size > 1 and token_count(self.model, part[:size]) > self.window:
                size = _break(part, size // 2)
            yield start, start + len(part[:size].rstrip())
            start += size
            while start < end and text[start].isspace():
                start += 1
        if start < end:
            yield start, end

    def _block(self, sentences: list[Sentence], carried: int, ended: bool) -> Block:
        states = None
        if self.encode:
            states = self.encoded([said_by(one, self.texts[one.source]) for one in sentences])
        return Block(sentences, states, carried, ended)

    def encoded(self, texts: list[str]) -> TokenStates:
        """Their states; a text that is too long is an error, as none of ours is."""
        if self.keep is None:
            return self.model.encode(texts, cut=False)
        return self.keep.of(self.model).encode(texts, cut=False)


def speaking(block: Block, passages: Sequence[Span], claims: Sequence[str]) -> torch.Tensor:
    """Which passages can be about which claims, `(claims, passages)`: all but those of `silent`."""
    about = torch.ones(len(claims), len(passages), dtype=torch.bool)
    for claim, row in silent(block, passages, claims):
        about[claim, row] = False
    return about


def silent(block: Block, passages: Sequence[Span], claims: Sequence[str]) -> Iterator[tuple[int, int]]:
    """Numbers of claims, and of passages that cannot be about them.

    Such is a cell of another row or column than those that the claim names, or another item than those; and
    several cells or items together, unless the claim names several of them.
    """
    named: dict[Names, list[tuple[int, set[int]]]] = {}
    for row, passage in enumerate(passages):
        ours: dict[Names, set[int]] = {}
        for one in block.sentences[slice(*passage)]:
            for names, number in one.names:
                ours.setdefault(names, set()).add(number)
        for names, numbers in ours.items():
            if names not in named:
                found = ((claim, names.named(text)) for claim, text in enumerate(claims))
                named[names] = [(claim, several) for claim, several in found if several]
            for claim, several in named[names]:
                if len(several & numbers) < min(2, len(numbers)):
                    yield claim, row


def _statements(text: str, splitter: Splitter | None) -> Iterator[Statement]:
    """What a text says by our own rules, or the sentences of somebody's splitter."""
    if splitter is None:
        return statements(text)
    return (Statement(span, text[slice(*span)], (span,)) for span in sentences_of(text, splitter))


def _sentence(number: int, said: Statement, text: str) -> Sentence:
    raw = text[slice(*said.span)]
    read_as = None if said.text == raw else said.text
    return Sentence(number, said.span, read_as, said.group, said.alone, said.names)


def said_by(sentence: Sentence, text: str | None) -> str:
    """What is encoded of a sentence of a source."""
    return sentence.read_as or (text or "")[slice(*sentence.span or (0, 0))]


def sentences_of(text: str, splitter: Splitter | None) -> Iterable[Span]:
    """Sentences by our own rules, or by somebody's splitter."""
    return split_sentences(text) if splitter is None else placed(text, splitter(text))


def token_count(model: "ModernBertNliModel", text: str) -> int:
    """Tokens of a text, special ones left out."""
    ids = model.tokenizer(text, add_special_tokens=False, split_special_tokens=True, verbose=False)
    return len(ids["input_ids"])


def _break(text: str, size: int) -> int:
    """Where to break a text of this size: after the last white space of its second half, if there is one."""
    space = max(text.rfind(" ", size // 2, size), text.rfind("\n", size // 2, size))
    return space + 1 if space > 0 else max(1, size)


def named(sources: Any) -> Iterator[tuple[Any, str]]:
    """A text, texts or a mapping of names to texts, as names and texts; without a name, by number from 0."""
    if isinstance(sources, str):
        return iter([(0, sources)])
    if isinstance(sources, Mapping):
        return iter(sources.items())
    return enumerate(
        items_of(sources, "a text, texts, a mapping of names to texts, or what `encode` or `read` returned")
    )


def _json(name: Any) -> str | int | float:
    """A name as JSON has it, as long as it says the same: numbers and strings; else what it prints as."""
    name = plain(name)
    known = isinstance(name, str | int) or (isinstance(name, float) and math.isfinite(name))
    return name if known else str(name)


def kept(
    model: "ModernBertNliModel", states: TokenStates, texts: Sequence[str] | None, splitter: Splitter | None
) -> Sources:
    """States that `model.encode` made of whole texts, as sources.

    With the texts, sentences are found in them and their states are cut out (late chunking, Günther et al.
    2024, arXiv:2409.04701); without, each text is one passage, and evidence has no place.

    Raises:
        ValueError: texts that are not those of the states.
    """
    if len(states) == 0:
        return Sources([], [])
    if texts is None:
        sentences = [Sentence(number, None) for number in range(len(states))]
        reads = [Read(number, None, 1.0) for number in range(len(states))]
        return Sources([Block(sentences, states)], [None] * len(states), reads)
    texts = [texts] if isinstance(texts, str) else list(texts)
    if len(texts) != len(states):
        raise ValueError(f"{len(texts)} texts, but the states of {len(states)}: give each text's states.")
    sentences, parts, reads = [], [], []
    for number, text in enumerate(texts):
        check_text(text, "source", number)
        tokens = states.text(number)
        places = token_places(model.tokenizer, text)
        if places is None or len(places) + 2 < len(tokens):  # it cannot be told which token is where
            sentences.append(Sentence(number, (0, len(text))))
            parts.append(tokens)
            reads.append(Read(number, len(text), 1.0))
            continue
        end = len(text)
        if len(places) + 2 > len(tokens):  # the rest was beyond the window
            places = places[: len(tokens) - 2]
            end = places[-1][1] if places else 0
        reads.append(Read(number, len(text), end / len(text)))
        for said in _statements(text[:end], splitter):
            inside = [
                1 + row
                for start, stop in said.places
                for row, (a, b) in enumerate(places)
                if a < stop and b > start
            ]
            sentences.append(_sentence(number, said, text))
            parts.append(tokens[[0, *inside, len(tokens) - 1]])
    return Sources([Block(sentences, TokenStates.gather(parts, states.source))], list(texts), reads)


def token_places(tokenizer: Any, text: str) -> list[Span] | None:
    """Where each token of a text stands, special ones left out; `None` where the tokenizer does not tell."""
    if not tokenizer.is_fast:
        return None
    encoded = tokenizer(
        text,
        add_special_tokens=False,
        return_offsets_mapping=True,
        split_special_tokens=True,
        verbose=False,
    )
    return [tuple(place) for place in encoded["offset_mapping"]]


def inner(states: TokenStates, layer: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Tokens of all texts in a layer in float32, and whose each is, without the first and last of each text.

    A text that is nothing but special tokens keeps them.
    """
    owner = torch.repeat_interleave(torch.arange(len(states)), states.lengths)
    place = torch.arange(len(states.states)) - states.offsets[:-1][owner]
    length = states.lengths[owner]
    mine = ((place > 0) & (place < length - 1)) | (length <= 2)
    return states.states[mine, layer].float(), owner[mine]


def inner_counts(states: TokenStates) -> torch.Tensor:
    """How many tokens of each text `inner` gives, `(texts,)`."""
    return torch.where(states.lengths > 2, states.lengths - 2, states.lengths)
