"""Print how many bytes a logit takes while SFTTrainer computes its loss and the gradients: a step of two lengths is compared.

Only the logits of this model are large: its layers are narrow and its vocabulary is not. The model is in bfloat16 and the
step runs with mixed precision, as on a GPU.
"""

import ctypes
import gc
import re
import sys
import tempfile

VOCABULARY = 32064
LENGTHS = (512, 2048)
M_MMAP_THRESHOLD = -3  # of mallopt: memory of at least this size goes back to the system when it is freed


def peak():
    """Return the largest resident size since mark(), in bytes."""
    with open("/proc/self/status") as status:
        return int(re.search(r"VmHWM:\s+(\d+)", status.read()).group(1)) * 1024


def mark():
    """Forget the largest resident size, and return the size of now, in bytes."""
    gc.collect()
    with open("/proc/self/clear_refs", "w") as refs:
        refs.write("5")
    return peak()


def make_trainer(folder):
    import torch
    from datasets import Dataset
    from peft import LoraConfig
    from tokenizers import Tokenizer, models
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
    from trl import SFTConfig, SFTTrainer

    words = Tokenizer(models.WordLevel({"<unk>": 0, "</s>": 1, "a": 2}, unk_token="<unk>"))
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, unk_token="<unk>", eos_token="</s>", pad_token="</s>")
    model = LlamaForCausalLM(LlamaConfig(
        vocab_size=VOCABULARY, hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=1, num_key_value_heads=1,
        max_position_embeddings=max(LENGTHS),
    )).to(torch.bfloat16)
    return SFTTrainer(
        model=model, processing_class=tokenizer, peft_config=LoraConfig(r=1, target_modules=["q_proj"], task_type="CAUSAL_LM"),
        args=SFTConfig(output_dir=folder, bf16=True, use_cpu=True, report_to="none", max_length=max(LENGTHS), per_device_train_batch_size=1),
        train_dataset=Dataset.from_dict({"text": ["a a"]}),
    )


def main():
    import torch

    torch.set_num_threads(1)
    ctypes.CDLL(None).mallopt(M_MMAP_THRESHOLD, 1 << 20)
    with tempfile.TemporaryDirectory() as folder:
        trainer = make_trainer(folder)
        model = trainer.accelerator.prepare(trainer.model)
        model.train()
        trainer.current_gradient_accumulation_steps = 1  # train() sets it for each step
        taken = []
        for length in (LENGTHS[0], *LENGTHS):  # what is loaded by the first step is not counted
            batch = {"input_ids": torch.randint(0, VOCABULARY, (1, length)), "attention_mask": torch.ones(1, length, dtype=torch.long)}
            batch["labels"] = batch["input_ids"].clone()
            before = mark()
            trainer.training_step(model, batch)
            taken.append(peak() - before)
    print(round((taken[2] - taken[1]) / ((LENGTHS[1] - LENGTHS[0]) * VOCABULARY), 1))


if __name__ == "__main__":
    sys.exit(main())
