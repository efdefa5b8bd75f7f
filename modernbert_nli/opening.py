"""A loaded model as something else: our pipeline, or a classifier by the masked-LM head of its base."""

from typing import Any

from transformers import PreTrainedTokenizerBase


class OpeningMixin:
    """`as_pipeline` and `as_cloze` of `ModernBertNliModel`."""

    def as_pipeline(self: Any, tokenizer: PreTrainedTokenizerBase | None = None, **kwargs: Any) -> Any:
        """`NliAbstentionPipeline` around this model: `pipeline(task, model=<object>)` cannot find it.

        Args:
            tokenizer (`PreTrainedTokenizerBase`, *optional*): Defaults to the checkpoint's.
            **kwargs: Further arguments of the pipeline (`batch_size`, `threshold`, …).
        """
        # Inside the class, so that transformers sees the import and ships the file with every save.
        from .pipeline_modernbert_nli import NliAbstentionPipeline

        return NliAbstentionPipeline(model=self, tokenizer=tokenizer or self.tokenizer, **kwargs)

    def as_cloze(self: Any, **kwargs: Any) -> Any:
        """`ClozeClassifier` around this model's encoder, with the masked-LM head that its base is saved with.

        Only now is that head loaded; the encoder's weights are shared.

        Args:
            **kwargs: Further arguments of `AutoModelForMaskedLM.from_pretrained`.

        Raises:
            OSError: the base cannot be reached or read.
            ValueError: the base has no masked-LM head.
        """
        from .cloze import ClozeClassifier

        if not self._base_sources:
            raise ValueError(
                "This model was made without a base: load it by `from_pretrained` or `from_base`."
            )
        name, location = self._base_sources[0]
        return ClozeClassifier.from_pretrained(
            str(name), self.encoder, self.tokenizer, **{**location, **kwargs}
        )
