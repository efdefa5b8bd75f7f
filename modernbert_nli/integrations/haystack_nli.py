"""Faithfulness of answers in Haystack, without an LLM.

    from modernbert_nli.integrations.haystack_nli import NliFaithfulnessEvaluator

    evaluator = NliFaithfulnessEvaluator()
    evaluator.run(contexts=[["The bridge opened in 1932."]], predicted_answers=["The bridge opened in 1932."])

The inputs and outputs are those of Haystack's own `FaithfulnessEvaluator`, which asks an LLM. Here each
claim of an answer is a statement, judged by `check`; what it abstains from counts as half. A saved
pipeline is read by `Pipeline.load(file, allowed_modules=["modernbert_nli.integrations.haystack_nli"])`.
"""

import math
from typing import Any

from haystack import component, default_from_dict, default_to_dict

from ..loading import load_pipeline

_SCORES = {"supported": 1.0, "uncertain": 0.5, "not supported": 0.0, "contradicted": 0.0}


@component
class NliFaithfulnessEvaluator:
    """Is each sentence of an answer supported by its contexts?

    Args:
        model, base (`str`, *optional*): Folder or repository of a checkpoint and of its base; by default the
            quick start checkpoint.
        threshold (`float`, *optional*): Abstain from this uncertainty upwards.
    """

    def __init__(self, model: str | None = None, base: str | None = None, threshold: float | None = None):
        self.model, self.base, self.threshold = model, base, threshold
        self._pipe: Any = None

    def warm_up(self) -> None:
        """Load the model; `run` does so too."""
        if self._pipe is None:
            self._pipe = load_pipeline(self.model, self.base)

    @component.output_types(individual_scores=list[float], score=float, results=list[dict[str, Any]])
    def run(
        self, contexts: list[list[str]], predicted_answers: list[str], questions: list[str] | None = None
    ) -> dict[str, Any]:
        """Score answers.

        Args:
            contexts (`list[list[str]]`): The sources of each answer.
            predicted_answers (`list[str]`): The answers.
            questions (`list[str]`, *optional*): As Haystack's evaluator takes them; not needed.

        Returns:
            `dict`: `individual_scores`, the share of each answer's claims that is supported, NaN where it has
            none; `score`, the mean of the others; `results`, for each answer `statements`,
            `statement_scores`, `score` and `verdicts`, the claims as `check` returns them, with evidence.

        Raises:
            ValueError: contexts and answers are not as many, or an answer or its contexts have no text.
        """
        if len(contexts) != len(predicted_answers):
            raise ValueError(f"{len(contexts)} lists of contexts for {len(predicted_answers)} answers.")
        self.warm_up()
        results: list[dict[str, Any]] = []
        for sources, answer in zip(contexts, predicted_answers, strict=True):
            sentences = self._pipe.check(answer, sources, threshold=self.threshold)["sentences"]
            claims = [sentence for sentence in sentences if sentence["verdict"] is not None]
            scores = [_SCORES[sentence["verdict"]] for sentence in claims]
            statements = [sentence["text"] for sentence in claims]
            said = {"statements": statements, "statement_scores": scores, "verdicts": claims}
            results.append({**said, "score": sum(scores) / len(scores) if scores else float("nan")})
        individual: list[float] = [result["score"] for result in results]
        told = [score for score in individual if not math.isnan(score)]
        mean = sum(told) / len(told) if told else float("nan")
        return {"individual_scores": individual, "score": mean, "results": results}

    def to_dict(self) -> dict[str, Any]:
        """For a pipeline that is saved."""
        return default_to_dict(self, model=self.model, base=self.base, threshold=self.threshold)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> "NliFaithfulnessEvaluator":
        """The same, read again."""
        return default_from_dict(cls, data)
