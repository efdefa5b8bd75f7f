"""A LangChain step that checks an answer against the documents it came from, without an LLM.

    from modernbert_nli.integrations.langchain_nli import NliCheck

    chain = {"answer": answering, "documents": retriever} | NliCheck()
    NliCheck().invoke({"answer": "It opened in 1932.", "documents": ["It was built in 1932."]})

It passes on what it was given, with `check` added: verdict, confidence, evidence and unsupported words of
each sentence. With `drop=True`, `answer` becomes `None` unless it is supported.
"""

from functools import cached_property
from typing import Any

from langchain_core.documents import Document
from langchain_core.runnables import RunnableConfig, RunnableSerializable
from pydantic import ConfigDict

from ..loading import load_pipeline


class NliCheck(RunnableSerializable[dict[str, Any], dict[str, Any]]):
    """Is an answer supported by its documents?

    Args:
        model, base (`str`, *optional*): Folder or repository of a checkpoint and of its base; by default the
            quick start checkpoint.
        threshold (`float`, *optional*): Abstain from this uncertainty upwards.
        drop (`bool`, *optional*, defaults to `False`): Pass on supported answers alone.
    """

    model_config = ConfigDict(ignored_types=(cached_property,))

    model: str | None = None
    base: str | None = None
    threshold: float | None = None
    drop: bool = False

    @cached_property
    def pipe(self) -> Any:
        """The pipeline, loaded when it is first needed."""
        return load_pipeline(self.model, self.base)

    def invoke(
        self, input: dict[str, Any], config: RunnableConfig | None = None, **kwargs: Any
    ) -> dict[str, Any]:
        """Check one answer.

        Args:
            input (`dict`): `answer`, a text or a message, and `documents`, `Document`s or texts. Evidence
                names a source by its `id`, by the `source` in its metadata, or else by its number.

        Raises:
            ValueError: one of them is missing or has no text.
        """
        if missing := {"answer", "documents"} - set(input):
            raise ValueError(
                f"NliCheck needs `answer` and `documents`; {' and '.join(sorted(missing))} missing."
            )
        answer = getattr(input["answer"], "content", input["answer"])
        sources: dict[str, str] = {}
        for number, document in enumerate(input["documents"]):
            name, text = _named(document, number)
            sources[name if name not in sources else f"{name} ({number})"] = text
        return self._call_with_config(lambda _: self._checked(input, answer, sources), input, config)

    def _checked(self, input: dict[str, Any], answer: str, sources: dict[str, str]) -> dict[str, Any]:
        found = self.pipe.check(answer, sources, threshold=self.threshold)
        kept = {"answer": None} if self.drop and found["verdict"] not in ("supported", "no claim") else {}
        return {**input, **kept, "check": found}


def _named(document: Any, number: int) -> tuple[str, str]:
    if isinstance(document, Document):
        return str(document.id or document.metadata.get("source") or number), document.page_content
    return str(number), document
