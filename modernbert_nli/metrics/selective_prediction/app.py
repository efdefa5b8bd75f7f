"""The page of the metric where it is published as a Space."""

import evaluate
from evaluate.utils import launch_gradio_widget

launch_gradio_widget(evaluate.load("selective_prediction.py"))
