"""The masked-LM head of a base as a classifier: the answer to a question is read at [MASK].

    cloze = ClozeClassifier.from_pretrained("answerdotai/ModernBERT-Large-Instruct")
    cloze.nli([("It rains.", "The ground is wet.")])
    cloze.classify(["Where is my parcel?"], ["delivery", "music"])
    cloze = model.as_cloze()  # the masked-LM head that belongs to a loaded model's base

The question is put as Clavié et al. 2025 (arXiv:2502.03793) put it, with a letter for each answer:

    You will be given a question and options. Select the right answer.
    QUESTION: ...
    CHOICES:
    - A: ...
    - B: ...
    ANSWER: [unused0] [MASK]

`[unused0]` is left out where the tokenizer has no such token. An answer's score is the probability of its
letter at [MASK], with a space before it or without, among the letters offered. A base that was not tuned to
answer questions answers little better than chance.
"""

from collections.abc import Sequence
from contextvars import ContextVar
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn
from transformers import AutoModelForMaskedLM, PreTrainedModel, PreTrainedTokenizerBase
from transformers.modeling_outputs import ModelOutput

from .tokenization import (
    PairError,
    check_pair,
    check_text,
    encode_texts,
    load_tokenizer,
    max_pair_length,
    warn_of_cut,
)

INSTRUCTION = "You will be given a question and options. Select the right answer.\nQUESTION: "
NLI_QUESTION = "Is the hypothesis true, given the premise?"
NLI_CHOICES = {
    "entailment": "Yes, it follows from the premise.",
    "neutral": "The premise does not say.",
    "contradiction": "No, the premise contradicts it.",
}
TOPIC_QUESTION = "What is this text about?"
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_ANY_LENGTH = 10**9


@dataclass(frozen=True)
class Prompt:
    """A question; only `text`, which stands between the other two, may lose its end."""

    before: str
    text: str
    after: str

    def __str__(self) -> str:
        return self.before + self.text + self.after


class ClozeClassifier:
    """Answers questions with given choices, by the masked-LM head of an encoder.

    Args:
        model (`PreTrainedModel`): What `AutoModelForMaskedLM` loads.
        tokenizer (`PreTrainedTokenizerBase`): Its tokenizer, from `load_tokenizer`.

    Raises:
        ValueError: the tokenizer has no [MASK], or none of its tokens is the letter "A".
    """

    def __init__(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase):
        self.model, self.tokenizer = model.eval(), tokenizer
        if tokenizer.mask_token is None:
            raise ValueError(f"The tokenizer of {model.config._name_or_path!r} has no [MASK] token.")
        self.window = max_pair_length(model.config, tokenizer)
        unused = "[unused0] " if "[unused0]" in tokenizer.get_added_vocab() else ""
        answer = f"\nANSWER: {unused}{tokenizer.mask_token}"
        self._answer = tokenizer(answer, add_special_tokens=False, split_special_tokens=False)["input_ids"]
        self._letters = [self._variants(letter) for letter in LETTERS]
        encoder = model.base_model
        if not any(hook is _keep_slots for hook in encoder._forward_hooks.values()):
            encoder.register_forward_hook(_keep_slots)

    @classmethod
    def from_pretrained(
        cls, name: str, encoder: PreTrainedModel | None = None, tokenizer: Any = None, **kwargs: Any
    ) -> "ClozeClassifier":
        """Load a masked language model.

        Args:
            name (`str`): Repository id or folder.
            encoder (`PreTrainedModel`, *optional*): Its encoder, already loaded: its weights are kept once.
            tokenizer (`PreTrainedTokenizerBase`, *optional*): Its tokenizer, already loaded.
            **kwargs: Arguments of `AutoModelForMaskedLM.from_pretrained` (`revision`, `dtype`, `token`, …).

        Raises:
            OSError: it cannot be reached or read.
            ValueError: it has no masked-LM head.
        """
        if encoder is not None:
            kwargs = {"dtype": encoder.dtype, "device_map": encoder.device, **kwargs}
        model, info = AutoModelForMaskedLM.from_pretrained(name, output_loading_info=True, **kwargs)
        if info["missing_keys"]:  # transformers would leave these random
            raise ValueError(
                f"{name!r} has no masked-LM head: it lacks {sorted(info['missing_keys'])[:3]}. Take a base "
                "that was saved with it, such as answerdotai/ModernBERT-Large-Instruct."
            )
        if encoder is not None:
            setattr(model, model.base_model_prefix, encoder)
            model.tie_weights()
        if tokenizer is None:
            hub = {key: kwargs[key] for key in ("revision", "token", "cache_dir") if key in kwargs}
            tokenizer = load_tokenizer(name, model.config, **hub)
        return cls(model, tokenizer)

    def nli(self, pairs: Sequence[tuple[str, str]], batch_size: int = 32) -> list[dict[str, Any]]:
        """Judge pairs of texts.

        Returns:
            For each pair a `dict` of `label`, `confidence`, `uncertainty` (1 - confidence) and `probs`, as
            the NLI pipeline's. A premise that exceeds the window loses its end; a hypothesis never does.

        Raises:
            PairError: something that is no pair of texts, or too long; its position is named.
        """
        names = list(NLI_CHOICES)
        probabilities = self.nli_log_probs(pairs, batch_size).exp().tolist()
        results = []
        for row in probabilities:
            best = max(range(len(row)), key=row.__getitem__)
            probs = dict(zip(names, row, strict=True))
            results.append(
                {"label": names[best], "confidence": row[best], "uncertainty": 1 - row[best], "probs": probs}
            )
        return results

    def nli_log_probs(self, pairs: Sequence[tuple[str, str]], batch_size: int = 32) -> torch.Tensor:
        """Log-probabilities of entailment, neutral and contradiction, `(pairs, 3)`."""
        for row, (premise, hypothesis) in enumerate(pairs):
            check_pair(premise, hypothesis, row)
        return self.log_probs([nli_prompt(*pair) for pair in pairs], len(NLI_CHOICES), batch_size)

    def classify(
        self,
        texts: Sequence[str],
        labels: Sequence[str],
        question: str = TOPIC_QUESTION,
        batch_size: int = 32,
    ) -> list[dict[str, Any]]:
        """Choose a label for each text.

        Args:
            texts (`Sequence[str]`): What to classify.
            labels (`Sequence[str]`): At most 26, in words that say what they mean.
            question (`str`, *optional*): What is asked about a text.

        Returns:
            For each text a `dict` of `sequence`, `labels` and `scores`, the likeliest first, as from the
            zero-shot pipeline of transformers.
        """
        for row, text in enumerate(texts):
            check_text(text, "text", row)
        prompts = [choice_prompt(text, question, labels) for text in texts]
        scores, order = self.log_probs(prompts, len(labels), batch_size).exp().sort(dim=-1, descending=True)
        return [
            {"sequence": text, "labels": [labels[place] for place in places], "scores": row}
            for text, places, row in zip(texts, order.tolist(), scores.tolist(), strict=True)
        ]

    @torch.no_grad()
    def log_probs(self, prompts: Sequence[Prompt], choices: int, batch_size: int = 32) -> torch.Tensor:
        """Log-probabilities of the first letters, `(prompts, choices)`, float32; long meet long prompts."""
        if not 1 <= choices <= len(LETTERS):
            raise ValueError(f"From 1 to {len(LETTERS)} choices can be offered, not {choices}.")
        rows = self.encode(prompts)
        order = sorted(range(len(rows)), key=lambda row: len(rows[row]))
        scores = torch.empty(len(rows), choices)
        for start in range(0, len(order), batch_size):
            batch = order[start : start + batch_size]
            logits = self._logits_at_mask([rows[row] for row in batch])
            letters = [logits[:, ids].logsumexp(dim=-1) for ids in self._letters[:choices]]
            scores[batch] = torch.stack(letters, dim=-1).log_softmax(dim=-1).cpu()
        return scores

    def encode(self, prompts: Sequence[Prompt]) -> list[list[int]]:
        """Tokens of each prompt, [MASK] the last but one; special tokens typed in its text stay text."""
        rows = encode_texts(self.tokenizer, [str(prompt) for prompt in prompts], _ANY_LENGTH, cut=False)
        for row, prompt in enumerate(prompts):
            extra = len(rows[row]) + len(self._answer) - self.window
            if extra > 0:
                rows[row] = self._shortened(prompt, extra, row)
                warn_of_cut(self.window)
        return [[*ids[:-1], *self._answer, ids[-1]] for ids in rows]

    def _shortened(self, prompt: Prompt, extra: int, row: int) -> list[int]:
        """A prompt without the end of its text, so that it fits."""
        ends = self.tokenizer(
            prompt.text, add_special_tokens=False, return_offsets_mapping=True, verbose=False
        )
        offsets, ids = ends["offset_mapping"], []
        while extra > 0:  # what is left can take a token more than it took in its place
            offsets = offsets[: max(0, len(offsets) - extra)]
            if not offsets:
                raise PairError(
                    row,
                    f"the question and its choices alone exceed the encoder's window of {self.window} "
                    "tokens. Make them shorter.",
                )
            shorter = replace(prompt, text=prompt.text[: offsets[-1][1]])
            (ids,) = encode_texts(self.tokenizer, [str(shorter)], _ANY_LENGTH, cut=False)
            extra = len(ids) + len(self._answer) - self.window
        return ids

    def _logits_at_mask(self, rows: list[list[int]]) -> torch.Tensor:
        """Logits of all tokens at each row's [MASK], `(rows, vocabulary)`: the head runs there alone."""
        batch = self.tokenizer.pad({"input_ids": rows}, return_tensors="pt").to(self.model.device)
        token = _slots.set(torch.tensor([len(row) - 2 for row in rows], device=self.model.device))
        try:
            return self.model(**batch).logits[:, 0].float()
        finally:
            _slots.reset(token)

    def _variants(self, letter: str) -> list[int]:
        """The tokens that are this letter, with a space before it or without."""
        tokenized = (
            self.tokenizer(text, add_special_tokens=False)["input_ids"] for text in (letter, f" {letter}")
        )
        ids = {row[0] for row in tokenized if len(row) == 1} - {self.tokenizer.unk_token_id}
        if not ids:
            raise ValueError(f"The letter {letter!r} is no token of this tokenizer: it cannot be an answer.")
        return sorted(ids)


def nli_prompt(premise: str, hypothesis: str) -> Prompt:
    """The question for a pair."""
    prompt = choice_prompt(premise, f"Hypothesis: {hypothesis}\n{NLI_QUESTION}", list(NLI_CHOICES.values()))
    return replace(prompt, before=f"{prompt.before}Premise: ")


def choice_prompt(text: str, question: str, choices: Sequence[str]) -> Prompt:
    """A text, a question about it, and a letter for each choice."""
    lines = (f"\n- {letter}: {choice.strip()}" for letter, choice in zip(LETTERS, choices, strict=False))
    return Prompt(INSTRUCTION, text, f"\n{question}\nCHOICES:{''.join(lines)}")


# Where each row's [MASK] is, during a call. A ContextVar keeps threads apart.
_slots: ContextVar[torch.Tensor | None] = ContextVar("_slots", default=None)


def _keep_slots(_module: nn.Module, _args: Any, output: Any) -> Any:
    """Of an encoder's output the states at [MASK] alone, (batch, 1, hidden_size): the head costs little."""
    slots = _slots.get()
    if slots is None:
        return None
    states = output[0]
    chosen = states[torch.arange(len(states), device=states.device), slots][:, None]
    return (
        type(output)(last_hidden_state=chosen) if isinstance(output, ModelOutput) else (chosen, *output[1:])
    )


def cloze_of(model: Any, **kwargs: Any) -> ClozeClassifier:
    """See `ModernBertNliModel.as_cloze`: only now is the masked-LM head loaded; weights are shared."""
    if not model.origin.bases:
        raise ValueError("This model was made without a base: load it by `from_pretrained` or `from_base`.")
    name, location = model.origin.bases[0]
    return ClozeClassifier.from_pretrained(
        str(name), model.encoder, model.tokenizer, **{**location, **kwargs}
    )
