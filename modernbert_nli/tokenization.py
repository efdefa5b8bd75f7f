"""Text to tokens: one way to turn pairs into model inputs, for the pipeline and for training."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import compress
from typing import Any

import torch
from transformers import AutoTokenizer, BatchEncoding, PretrainedConfig, PreTrainedTokenizerBase
from transformers.utils import logging

from .fingerprint import tokens_of

logger = logging.get_logger(__name__)

# These keep their first `pad_token_id + 1` position embeddings for padding.
_OFFSET_POSITIONS = ("roberta", "xlm-roberta", "xlm-roberta-xl", "camembert", "mpnet", "longformer")
_SPECIAL_TOKENS = 50  # more than any tokenizer has
_UNLIMITED = 10**9  # tokenizers without a window say 1e30


_KEYS = (("premise", "hypothesis"), ("text", "text_pair"))
PAIRS = (
    "pipe(premise, hypothesis), a pair as {'premise': …, 'hypothesis': …} or (premise, hypothesis), "
    "or a list or generator of such pairs"
)
USAGE = f"Give {PAIRS}"


class PairError(ValueError):
    """A pair that cannot be judged: `row`, its position, and `reason`, what is wrong and what to do."""

    def __init__(self, row: int, reason: str):
        super().__init__(f"Pair {row}: {reason}")
        self.row, self.reason = row, reason

    def __reduce__(self) -> Any:
        return type(self), (self.row, self.reason)


class TokenizerMismatch(ValueError):
    """The tokenizer is not that of the base that these heads belong to."""


def max_pair_length(encoder_config: PretrainedConfig, tokenizer: PreTrainedTokenizerBase) -> int:
    """The window in tokens: the smaller of the encoder's and the tokenizer's; ModernBERT's names none."""
    positions = getattr(encoder_config, "max_position_embeddings", None) or _UNLIMITED
    if encoder_config.model_type in _OFFSET_POSITIONS:
        positions -= (encoder_config.pad_token_id or 0) + 1
    return int(min(positions, tokenizer.model_max_length, _UNLIMITED))


def load_tokenizer(
    name_or_path: str, encoder_config: PretrainedConfig, **kwargs: Any
) -> PreTrainedTokenizerBase:
    """The base's tokenizer, set up, also for whoever loads it once saved, to be safe with any text.

    `split_special_tokens`: a literal "[SEP]" in the text stays text. `model_max_length`: the encoder's
    window. `padding_side`: right, because the first token is read as [CLS].

    Args:
        name_or_path (`str`): Repository id or folder.
        encoder_config (`PretrainedConfig`): Configuration of the base; with it, no remote code is asked for.
        **kwargs: Arguments of `AutoTokenizer.from_pretrained` (revision, token, cache_dir, …).

    Raises:
        OSError: there is no tokenizer, or it cannot be reached or read.
    """
    try:
        tokenizer = AutoTokenizer.from_pretrained(
            name_or_path, config=encoder_config, split_special_tokens=True, **kwargs
        )
    except (ValueError, ImportError) as error:  # without their files some raise this, others are made empty
        raise OSError(f"{str(name_or_path)!r} has no tokenizer that can be read: {error}") from error
    if is_empty(tokenizer):
        raise OSError(f"{str(name_or_path)!r} has no tokenizer files.")
    tokenizer.padding_side = "right"
    tokenizer.model_max_length = max_pair_length(encoder_config, tokenizer)
    return tokenizer


def is_empty(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether it knows no word or letter: what transformers makes, without an error, where its files lack."""
    if len(tokenizer) > _SPECIAL_TOKENS:
        return False
    words = set(tokenizer.get_vocab()) - set(tokenizer.all_special_tokens)
    return not any(character.isalnum() for word in words for character in word)


def check_tokenizer(tokenizer: PreTrainedTokenizerBase, config: PretrainedConfig) -> None:
    """Raise `TokenizerMismatch` where a tokenizer cannot be the one of the base that these heads are for.

    Args:
        tokenizer (`PreTrainedTokenizerBase`): A tokenizer.
        config (`ModernBertNliConfig`): Configuration of the heads.
    """
    name, base = repr(tokenizer.name_or_path), repr(config.base_model_name_or_path)
    # A base may have some embeddings to spare, to a round number; far more are another vocabulary's.
    if not config.vocab_size < 2 * len(tokenizer) <= 2 * config.vocab_size:
        raise TokenizerMismatch(
            f"The tokenizer {name} knows {len(tokenizer):,} tokens, but the base {base} has embeddings for "
            f"{config.vocab_size:,}: load the tokenizer of that base."
        )
    for key in ("sep_token_id", "pad_token_id"):
        expected, found = getattr(config, key), getattr(tokenizer, key)
        if expected is not None and found != expected:
            raise TokenizerMismatch(
                f"The tokenizer {name} has {key} = {found}, but the heads on {base} were made for "
                f"{expected}: load the tokenizer of that base."
            )
    known = (config.base_fingerprint or {}).get("tokens")
    if known and tokens_of(tokenizer) != known:
        raise TokenizerMismatch(
            f"The tokenizer {name} makes other tokens of a text than that of the base {base}: load the "
            "tokenizer of that base."
        )


def as_pair(item: Any, row: int) -> tuple[Any, Any]:
    """Premise and hypothesis of an item of a list; what they are is looked at later.

    Raises:
        PairError: it is no pair.
    """
    if isinstance(item, Mapping):
        for first, second in _KEYS:
            if first in item and second in item:
                return item[first], item[second]
        raise PairError(
            row, f"a pair needs the keys 'premise' and 'hypothesis', got {sorted(map(str, item))}."
        )
    if isinstance(item, tuple | list) and len(item) == 2:
        return item[0], item[1]
    raise PairError(row, f"expected a premise and a hypothesis, got {type(item).__name__}. {USAGE}.")


def check_pair(premise: Any, hypothesis: Any, row: int = 0) -> None:
    """Raise `PairError` unless both are texts, see `check_text`."""
    check_text(premise, "premise", row)
    check_text(hypothesis, "hypothesis", row)


def check_text(text: Any, what: str, row: int = 0) -> None:
    """Raise `PairError` unless this is a text: not empty, and without lone surrogates (a wrong decoding)."""
    if not isinstance(text, str):
        column = " Give the column that holds the texts, not rows." if isinstance(text, Mapping) else ""
        raise PairError(
            row, f"the {what} must be a string, got {type(text).__name__}: {str(text)[:40]!r}.{column}"
        )
    if not text or text.isspace():
        raise PairError(row, f"the {what} is empty. Give it some text, or leave this pair out.")
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise PairError(
                row,
                f"the {what} is not valid Unicode at character {error.start}. Read its source as UTF-8 "
                "(`errors='replace'` marks what cannot be read).",
            ) from None


def items_of(values: Any, what: str) -> Iterable[Any]:
    """What a container of many holds, in its order: Python's own objects for arrays, rows for tables.

    Arrays and columns of NumPy, torch, pandas, polars and pyarrow, data frames and Arrow tables (a dict for
    each row), data sets, generators, and whatever has a length and items by number.

    Args:
        values: What a caller gave.
        what (`str`): What it is to be, in words, for the error.

    Raises:
        ValueError: one thing alone, or what has no order, or no items that could be meant.
    """
    reads = getattr(values, "to_pylist", None) or getattr(values, "to_dicts", None)  # pyarrow, polars
    if callable(reads):
        values = reads()
    elif hasattr(values, "columns") and callable(getattr(values, "to_dict", None)):  # pandas
        values = values.to_dict("records")
    elif hasattr(values, "dtype"):  # one value, where an array has no dimension, is refused below
        values = values.to_list() if hasattr(values, "to_list") else values.tolist()
    if hasattr(values, "readline"):
        raise ValueError(f"Give {what}, not an open file: read it first, such as by `file.read()`.")
    alone = isinstance(values, str | bytes | bytearray | Mapping | set | frozenset)
    if not alone and isinstance(values, Iterable):
        return values
    if not alone and hasattr(values, "__len__") and hasattr(values, "__getitem__"):
        try:
            count = len(values)
        except TypeError as error:
            raise ValueError(
                f"This {type(values).__name__} has no length ({error}), as over a dataset that is streamed. "
                "Give a generator instead: ((row['premise'], row['hypothesis']) for row in dataset)."
            ) from None
        return (values[row] for row in range(count))
    raise ValueError(f"Give {what}, not {type(values).__name__}.")


def plain(value: Any) -> Any:
    """A scalar of NumPy, torch or pyarrow as Python's own; anything else as it is."""
    if callable(getattr(value, "as_py", None)):
        return value.as_py()
    scalar = hasattr(value, "dtype") and getattr(value, "ndim", None) == 0
    return value.item() if scalar else value


def encode_pairs(
    tokenizer: PreTrainedTokenizerBase,
    pairs: Sequence[tuple[str, str]],
    max_length: int,
    apart: bool = False,
    truncated: list[int] | None = None,
) -> BatchEncoding:
    """Tokenise pairs as "[CLS] premise [SEP] hypothesis [SEP]", in the base's own format, without padding.

    Where a pair is longer than the window, the end of its premise is left out; a hypothesis is never cut.

    Args:
        tokenizer (`PreTrainedTokenizerBase`): Tokenizer of the base.
        pairs (`Sequence[tuple[str, str]]`): Premises and hypotheses.
        max_length (`int`): Window in tokens, see `max_pair_length`.
        apart (`bool`, *optional*): Each text has the window to itself (separate encoding).
        truncated (`list[int]`, *optional*): To it the numbers of the pairs that were cut are added.

    Raises:
        PairError: something that is no text, or a hypothesis that leaves no room for a premise.
    """
    for row, (premise, hypothesis) in enumerate(pairs):
        check_pair(premise, hypothesis, row)
    if not pairs:
        return BatchEncoding({"input_ids": []})
    encoding = _tokenize(tokenizer, pairs)
    cut = False
    for row, ids in enumerate(encoding["input_ids"]):
        if len(ids) <= max_length:
            continue
        sides = encoding.sequence_ids(row)
        premise, hypothesis = sides.count(0), sides.count(1)
        # Apart, each text has two special tokens beside it; together, the template's are there already.
        extra = premise - (max_length - 2) if apart else len(ids) - max_length
        if extra >= premise or (apart and hypothesis > max_length - 2):
            raise PairError(row, _too_long("hypothesis", pairs[row][1], hypothesis, max_length))
        if extra > 0:
            cut = True
            if truncated is not None:
                truncated.append(row)
            end = len(sides) - sides[::-1].index(0)  # one past the premise
            for rows in encoding.values():
                rows[row] = rows[row][: end - extra] + rows[row][end:]
    if cut:
        warn_of_cut(max_length)
    return encoding


def encode_texts(
    tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], max_length: int, cut: bool
) -> list[list[int]]:
    """Tokenise texts alone, as "[CLS] text [SEP]"; what exceeds the window is cut with a warning, or raises.

    Raises:
        PairError: something that is no text, or too long without `cut`; its position is named.
    """
    for row, text in enumerate(texts):
        check_text(text, "text", row)
    if not texts:
        return []
    rows = _tokenize(tokenizer, [(text,) for text in texts])["input_ids"]
    for row, ids in enumerate(rows):
        if len(ids) > max_length:
            if not cut:
                raise PairError(row, _too_long("text", texts[row], len(ids), max_length))
            rows[row] = [*ids[: max_length - 1], ids[-1]]
            warn_of_cut(max_length)
    return rows


def split_pairs(
    input_ids: torch.Tensor, attention_mask: torch.Tensor | None, sep_token_id: int
) -> tuple[list[tuple[int, ...]], list[tuple[int, ...]]]:
    """Rows of "[CLS] premise [SEP] hypothesis [SEP]" to the tokens of each text as "[CLS] text [SEP]"."""
    rows = input_ids.tolist()
    if attention_mask is not None:
        masks = attention_mask.tolist()
        rows = [list(compress(row, mask)) for row, mask in zip(rows, masks, strict=True)]
    return split_rows(rows, sep_token_id)


def split_rows(
    rows: Sequence[Sequence[int]], sep_token_id: int
) -> tuple[list[tuple[int, ...]], list[tuple[int, ...]]]:
    """The same of rows of tokens without padding."""
    premises, hypotheses = [], []
    for ids in map(list, rows):
        end = ids.index(sep_token_id) + 1 if sep_token_id in ids else len(ids)
        rest = ids[end:]
        while rest and rest[0] == sep_token_id:  # some formats put two between the texts
            rest.pop(0)
        premises.append(tuple(ids[:end]))
        hypotheses.append((ids[0], *rest))
    return premises, hypotheses


def _too_long(what: str, text: str, tokens: int, max_length: int) -> str:
    return (
        f"the {what} has {tokens} tokens, but the encoder reads {max_length} at once and a hypothesis is "
        f"never cut. Split it into shorter claims. It begins {text[:60]!r}."
    )


def warn_of_cut(max_length: int) -> None:
    logger.warning_once(
        f"A premise was longer than the encoder's window of {max_length} tokens: its end was left out. "
        "Split long sources into passages to have all of them read. (Said once.)"
    )


def _tokenize(tokenizer: PreTrainedTokenizerBase, rows: Sequence[tuple[str, ...]]) -> BatchEncoding:
    """Rows of one text or of two, with special tokens typed in them taken as text."""
    columns = [list(column) for column in zip(*rows, strict=True)]
    encoding = tokenizer(*columns, split_special_tokens=True, verbose=False)
    # Some sentencepiece vocabularies hold "[SEP]" as an ordinary piece, which no option splits.
    expected = tokenizer(*["a"] * len(columns))["input_ids"].count(tokenizer.sep_token_id)
    if any(ids.count(tokenizer.sep_token_id) != expected for ids in encoding["input_ids"]):
        columns = [[_break_up(text, tokenizer) for text in column] for column in columns]
        encoding = tokenizer(*columns, split_special_tokens=True, verbose=False)
    return encoding


def _break_up(text: str, tokenizer: PreTrainedTokenizerBase) -> str:
    for token in tokenizer.all_special_tokens:
        text = text.replace(token, f"{token[:1]} {token[1:]}")
    return text
