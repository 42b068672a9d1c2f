"""Run the given script as if the memory of the GPU were too small for parts of more than PARTS rows."""

import os
import runpy
import sys

import torch
from trl import SFTTrainer

original = SFTTrainer.training_step


def step(self, model, inputs, *args, **kwargs):
    rows = inputs["input_ids"].shape[0]
    if rows > int(os.environ["PARTS"]):
        raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB (%d rows)" % rows)
    return original(self, model, inputs, *args, **kwargs)


SFTTrainer.training_step = step
sys.argv = sys.argv[1:]
sys.path.insert(0, os.path.dirname(sys.argv[0]))
runpy.run_path(sys.argv[0], run_name="__main__")
