"""The arguments of Trainer as the stages use them."""

from dataclasses import dataclass, field

import torch
from transformers import TrainingArguments

from .arguments import StageOptions


@dataclass
class StageArguments(StageOptions, TrainingArguments):
    """Arguments of Trainer, with defaults for small heads; stage 2 shares all but its epochs."""

    per_device_eval_batch_size: int = 256
    weight_decay: float = 0.01
    warmup_steps: float = 0.06
    lr_scheduler_type: str = "cosine"
    eval_strategy: str = "epoch"
    save_strategy: str = "epoch"
    save_total_limit: int = 1
    logging_steps: float = 100
    report_to: str = "none"
    remove_unused_columns: bool = False
    dataloader_pin_memory: bool = torch.cuda.is_available()
    label_names: list[str] = field(default_factory=lambda: ["labels"])
    ddp_find_unused_parameters: bool = False
