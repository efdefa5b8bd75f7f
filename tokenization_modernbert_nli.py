"""Text to tokens: one way to turn pairs into model inputs, for the pipeline and for training."""

from collections.abc import Sequence
from typing import Any

from transformers import AutoTokenizer, BatchEncoding, PretrainedConfig, PreTrainedTokenizerBase
from transformers.utils import logging

logger = logging.get_logger(__name__)

# These keep their first `pad_token_id + 1` position embeddings for padding.
_OFFSET_POSITIONS = ("roberta", "xlm-roberta", "xlm-roberta-xl", "camembert", "mpnet", "longformer")
_UNLIMITED = 10**9  # tokenizers without a window say 1e30


class PairError(ValueError):
    """A pair that cannot be judged: `row`, its position, and `reason`, what is wrong and what to do."""

    def __init__(self, row: int, reason: str):
        super().__init__(f"Pair {row}: {reason}")
        self.row, self.reason = row, reason

    def __reduce__(self) -> Any:
        return type(self), (self.row, self.reason)


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
    window.

    Args:
        name_or_path (`str`): Repository id or folder.
        encoder_config (`PretrainedConfig`): Configuration of the base; passed on, so that no remote code is
        asked for. **kwargs: Arguments of `AutoTokenizer.from_pretrained` (revision, token, cache_dir, …).
    """
    tokenizer = AutoTokenizer.from_pretrained(
        name_or_path, config=encoder_config, split_special_tokens=True, **kwargs
    )
    tokenizer.model_max_length = max_pair_length(encoder_config, tokenizer)
    return tokenizer


def check_pair(premise: Any, hypothesis: Any, row: int = 0) -> None:
    """Raise `PairError` unless both are texts: not empty, and without lone surrogates (a wrong decoding)."""
    for text, what in ((premise, "premise"), (hypothesis, "hypothesis")):
        if not isinstance(text, str):
            raise PairError(
                row, f"the {what} must be a string, got {type(text).__name__}: {str(text)[:40]!r}."
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


def encode_pairs(
    tokenizer: PreTrainedTokenizerBase, pairs: Sequence[tuple[str, str]], max_length: int
) -> tuple[BatchEncoding, list[int]]:
    """Tokenise pairs as "[CLS] premise [SEP] hypothesis [SEP]", in the base's own format.

    Where a pair is longer than the window, the end of its premise is left out; a hypothesis is never cut.

    Args:
        tokenizer (`PreTrainedTokenizerBase`): Tokenizer of the base.
        pairs (`Sequence[tuple[str, str]]`): Premises and hypotheses.
        max_length (`int`): Window in tokens, see `max_pair_length`.

    Returns:
        The encoding, as lists without padding, and the positions of the pairs whose premise was cut.

    Raises:
        PairError: something that is no text, or a hypothesis that leaves no room for a premise.
    """
    for row, (premise, hypothesis) in enumerate(pairs):
        check_pair(premise, hypothesis, row)
    encoding = _tokenize(tokenizer, pairs)
    cut = [row for row, ids in enumerate(encoding["input_ids"]) if len(ids) > max_length]
    if cut:
        for row in cut:
            length = len(tokenizer(pairs[row][1], split_special_tokens=True, verbose=False)["input_ids"])
            if (
                length > max_length - 2
            ):  # with its own special tokens; a premise token and a [SEP] come on top
                raise PairError(
                    row,
                    f"the hypothesis has {length} tokens, but the encoder reads {max_length} at once and a "
                    "hypothesis is never cut. Split it into shorter claims. It begins "
                    f"{pairs[row][1][:60]!r}.",
                )
        shorter = _tokenize(
            tokenizer, [pairs[row] for row in cut], truncation="only_first", max_length=max_length
        )
        for key, rows in shorter.items():
            for row, value in zip(cut, rows, strict=True):
                encoding[key][row] = value
        logger.warning_once(
            f"A premise was longer than the encoder's window of {max_length} tokens: its end was left out. "
            "Split long sources into passages to have all of them read. (Said once.)"
        )
    return encoding, cut


def _tokenize(
    tokenizer: PreTrainedTokenizerBase, pairs: Sequence[tuple[str, str]], **kwargs: Any
) -> BatchEncoding:
    premises, hypotheses = map(list, zip(*pairs, strict=True))
    encoding = tokenizer(premises, hypotheses, split_special_tokens=True, verbose=False, **kwargs)
    # Some sentencepiece vocabularies hold "[SEP]" as an ordinary piece, which no option splits.
    separators = _separators(tokenizer)
    if any(ids.count(tokenizer.sep_token_id) != separators for ids in encoding["input_ids"]):
        premises, hypotheses = (
            [_break_up(text, tokenizer) for text in texts] for texts in (premises, hypotheses)
        )
        encoding = tokenizer(premises, hypotheses, split_special_tokens=True, verbose=False, **kwargs)
    return encoding


def _separators(tokenizer: PreTrainedTokenizerBase) -> int:
    return tokenizer("a", "b")["input_ids"].count(tokenizer.sep_token_id)


def _break_up(text: str, tokenizer: PreTrainedTokenizerBase) -> str:
    for token in tokenizer.all_special_tokens:
        text = text.replace(token, f"{token[:1]} {token[1:]}")
    return text
