"""For Inference Endpoints: what a container calls that serves this repository.

`EndpointHandler(folder)` once, then for each request `handler({"inputs": …, "parameters": {…}})`, where the
inputs are one of these, or for pairs a list:

    {"premise": …, "hypothesis": …}     a pair; parameters: those of a call of the pipeline
    {"text": …, "categories": …}        a text to route; parameters: those of `route`
    {"answer": …, "sources": …}         an answer to check; parameters: those of `check`

The convention: https://huggingface.co/docs/inference-endpoints/guides/custom_handler.
"""

from typing import Any

from transformers import pipeline

_FORMS = (("text", "categories"), ("answer", "sources"))


class EndpointHandler:
    """Requests to the pipeline of the repository."""

    def __init__(self, path: str = "", **kwargs: Any):
        self.pipeline = pipeline("nli-abstention", model=path, trust_remote_code=True, **kwargs)

    def __call__(self, data: dict[str, Any]) -> Any:
        """The pipeline's answer: see its documentation.

        Raises:
            ValueError: there are no inputs, or none of the three forms.
        """
        inputs, parameters = data.get("inputs"), data.get("parameters") or {}
        if isinstance(inputs, dict):
            routed, checked = (set(form) <= set(inputs) for form in _FORMS)
            if routed:
                return self.pipeline.route(inputs["text"], inputs["categories"], **parameters)
            if checked:
                return self.pipeline.check(inputs["answer"], inputs["sources"], **parameters)
        if not isinstance(inputs, dict | list):
            raise ValueError(
                "`inputs` is a pair as {'premise': …, 'hypothesis': …}, a list of them, {'text': …, "
                "'categories': …} to route a text, or {'answer': …, 'sources': …} to check an answer."
            )
        return self.pipeline(inputs, **parameters)
