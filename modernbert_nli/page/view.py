"""The view of the page, in Gradio: tabs of two fields, a button, examples and an answer."""

import sys
from collections.abc import Callable, Sequence
from functools import partial
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

try:
    import gradio as gr
except ModuleNotFoundError:
    sys.exit('app.py: error: Gradio is not installed. Run `make app`, or `pip install ".[app]"`.')

from starlette.middleware import Middleware

from . import examples
from .about import about
from .answers import check_answer, choose_category, judge_pair
from .drawing import problem
from .examples import Example
from .guarantee import choice, limit
from .offline import Offline

if TYPE_CHECKING:
    from ..pipeline_modernbert_nli import NliAbstentionPipeline

STYLE = Path(__file__).parent / "style.css"
WAITING = 100  # requests in the queue, before further ones are turned away

TITLE = "ModernBERT-NLI"
INTRODUCTION = (
    "Does a text support a claim, contradict it, or say nothing about it? "
    "The model answers, and where it had better not, it abstains."
)


class Field(NamedTuple):
    """A text box. With one line it grows as needed, and Enter asks for the answer; with more, Shift+Enter."""

    label: str
    lines: int = 1
    info: str | None = None


class Tab(NamedTuple):
    """Two fields, a button, examples and an answer: `judge(pipe, first, second, risk)`, as HTML."""

    title: str
    fields: tuple[Field, Field]
    button: str
    judge: Callable[[Any, str, str, float | None], str]
    examples: Sequence[Example]


TABS = (
    Tab(
        "A pair",
        (Field("Premise: what is known"), Field("Hypothesis: what is to be judged")),
        "Judge",
        judge_pair,
        examples.PAIRS,
    ),
    Tab(
        "Route",
        (
            Field("Text"),
            Field("Categories", 4, "One a line, with the sentence that would be true of the text."),
        ),
        "Route",
        choose_category,
        examples.ROUTES,
    ),
    Tab(
        "Check facts",
        (Field("Answer", 3), Field("Document", 8, "Up to 100,000 characters; all of it is read.")),
        "Check",
        check_answer,
        examples.FACTS,
    ),
)


def serve(pipe: "NliAbstentionPipeline") -> None:
    """Serve the page of a pipeline until it is interrupted."""
    page = build(pipe)
    page.queue(max_size=WAITING)
    page.launch(
        theme=theme(),
        css_paths=[STYLE],
        app_kwargs={"middleware": [Middleware(Offline)]},
        footer_links=[],
        ssr_mode=False,
    )


def theme() -> gr.themes.Base:
    """Fonts of the system, and for all that Gradio draws the colours of `style.css`, light and dark."""
    text, code = gr.themes.Font("sans-serif"), gr.themes.Font("monospace")
    colours = {
        "body_text_color": "ink",
        "body_text_color_subdued": "quiet",
        "background_fill_primary": "sheet",
        "background_fill_secondary": "paper",
        "block_background_fill": "sheet",
        "block_border_color": "line",
        "block_info_text_color": "quiet",
        "block_title_text_color": "ink",
        "border_color_primary": "line",
        "button_primary_background_fill": "action",
        "button_primary_background_fill_hover": "action",
        "button_primary_text_color": "on-action",
        "button_secondary_background_fill": "paper",
        "button_secondary_background_fill_hover": "sheet",
        "button_secondary_text_color": "ink",
        "input_background_fill": "paper",
        "input_background_fill_focus": "paper",
        "input_border_color": "line",
        "input_border_color_focus": "action",
        "input_placeholder_color": "quiet",
        "slider_color": "action",
    }
    both = {f"{name}{dark}": f"var(--{colour})" for name, colour in colours.items() for dark in ("", "_dark")}
    # What is seen until style.css is read.
    ground = {"body_background_fill": "#faf9f6", "body_background_fill_dark": "#181715"}
    return gr.themes.Base(font=text, font_mono=code).set(color_accent="var(--action)", **both, **ground)


def build(pipe: "NliAbstentionPipeline") -> gr.Blocks:
    """The view. All that computes waits in one queue, so that people do not slow each other's answers."""
    options = choice(pipe)
    start = options.start if options else None
    one_at_a_time: dict[str, Any] = {
        "concurrency_limit": 1,
        "concurrency_id": "model",
        "api_visibility": "private",
        "show_progress": "minimal",
    }
    with gr.Blocks(title=TITLE, analytics_enabled=False) as page:
        _html(f"<header><h1>{TITLE}</h1><p>{INTRODUCTION}</p></header>")
        with gr.Tabs(overflow_behavior="wrap"):
            drawn = [_tab(pipe, tab, start) for tab in TABS]
        with gr.Column(elem_classes="guarantee"):
            risk: gr.Slider | gr.State
            if options:
                risk = gr.Slider(
                    round(100 * options.lowest, 1),
                    round(100 * options.highest, 1),
                    value=round(100 * options.start, 1),
                    step=0.5,
                    label="Wrong answers that you accept, at most (%)",
                )
            else:
                risk = gr.State(None)
            guarantee = _html(_guarantee(pipe, start), spoken=True)
        _html(about(pipe))

        shown = gr.State(0)  # the number of the tab that is seen
        fields = [field for inputs, _, _ in drawn for field in inputs]
        answers = [answer for _, _, answer in drawn]

        def judge(number: int, percent: float | None, first: str, second: str) -> str:
            return TABS[number].judge(pipe, first, second, _share(percent))

        def on_tab(number: int, percent: float | None, first: str, second: str) -> tuple[int, str]:
            return number, judge(number, percent, first, second)

        def on_example(number: int, example: Example, percent: float | None) -> tuple[str, str, str]:
            return example.first, example.second, judge(number, percent, example.first, example.second)

        def on_risk(number: int, percent: float | None, *texts: str) -> list[Any]:
            changed: list[Any] = [gr.skip()] * len(TABS)
            changed[number] = judge(number, percent, texts[2 * number], texts[2 * number + 1])
            return [_guarantee(pipe, _share(percent)), *changed]

        for number, (tab, (inputs, actions, answer)) in enumerate(zip(TABS, drawn, strict=True)):
            asked = [field.submit for field in inputs] + [actions.ask.click]
            gr.on(asked, partial(judge, number), [risk, *inputs], answer, **one_at_a_time)
            actions.tab.select(partial(on_tab, number), [risk, *inputs], [shown, answer], **one_at_a_time)
            for button, example in zip(actions.examples, tab.examples, strict=True):
                filled = partial(on_example, number, example)
                button.click(filled, risk, [*inputs, answer], **one_at_a_time)
        if options:
            every, parts = [shown, risk, *fields], [guarantee, *answers]
            risk.change(on_risk, every, parts, trigger_mode="always_last", **one_at_a_time)
    return page


class Actions(NamedTuple):
    """What can be clicked in a tab."""

    tab: gr.Tab
    ask: gr.Button
    examples: list[gr.Button]


def _tab(
    pipe: "NliAbstentionPipeline", tab: Tab, risk: float | None
) -> tuple[list[gr.Textbox], Actions, gr.HTML]:
    """Draw a tab, with its first example filled in and answered."""
    first = tab.examples[0]
    with gr.Tab(tab.title) as drawn, gr.Row(equal_height=False):
        with gr.Column(elem_classes="asked"):
            inputs = [
                gr.Textbox(value, label=label, lines=lines, max_lines=12, info=info)
                for (label, lines, info), value in zip(tab.fields, first[1:], strict=True)
            ]
            ask = gr.Button(tab.button, variant="primary")
            with gr.Row(elem_classes="examples"):
                _html('<p class="title">Examples</p>')
                buttons = [gr.Button(example.name, size="sm", min_width=0) for example in tab.examples]
        with gr.Column():
            answer = _html(tab.judge(pipe, *first[1:], risk), spoken=True)
    return inputs, Actions(drawn, ask, buttons), answer


def _html(content: str, spoken: bool = False) -> gr.HTML:
    """Our own HTML in our own style; what replaces it later is read out by a screen reader if `spoken`."""
    on_load = "element.setAttribute('aria-live', 'polite')" if spoken else None
    return gr.HTML(content, apply_default_css=False, js_on_load=on_load)


def _share(percent: float | None) -> float | None:
    return None if percent is None else percent / 100


def _guarantee(pipe: "NliAbstentionPipeline", risk: float | None) -> str:
    try:
        _, guarantee, detail = limit(pipe, risk)
        return f'<p class="cost">{escape(guarantee)}</p><p class="detail">{escape(detail)}</p>'
    except ValueError as error:
        return problem(str(error))
