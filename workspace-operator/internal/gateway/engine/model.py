"""Make a model and a tokenizer small enough for a test: random weights, and a vocabulary of a few lines.

    model.py FOLDER [--base]          --base leaves out the chat template
    model.py FOLDER --adapter SEED    a LoRA adapter of the model, with random weights
"""

import argparse
import json
import pathlib

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

LINES = ["the capital of France is Paris", "the sky is blue", "grass is green and snow is white", "one two three four five six seven"]
TEMPLATE = "{% for m in messages %}<|{{ m['role'] }}|> {{ m['content'] }} {% endfor %}<|assistant|>"
LENGTH = 4096


# A tool parser looks for its token.
SPECIAL = ["<s>", "</s>", "<|python_tag|>"]
LAYERS, HIDDEN, HEADS = 2, 64, 2


def model(folder, base):
    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer, raw.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    raw.train_from_iterator(LINES, trainers.BpeTrainer(vocab_size=400, special_tokens=SPECIAL, initial_alphabet=alphabet))
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=raw, bos_token="<s>", eos_token="</s>", model_max_length=LENGTH)
    if not base:
        tokenizer.chat_template = TEMPLATE
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    # Heads of 32: vLLM's attention on CPUs has no smaller ones.
    LlamaForCausalLM(LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=HIDDEN, intermediate_size=128, num_hidden_layers=LAYERS, num_attention_heads=HEADS,
        num_key_value_heads=HEADS, max_position_embeddings=LENGTH, bos_token_id=0, eos_token_id=1,
    )).save_pretrained(folder)


def adapter(folder, seed, rank=8):
    """The files that PEFT writes, with weights large enough to change each answer."""
    torch.manual_seed(seed)
    weights = {}
    for layer in range(LAYERS):
        for name in ("q_proj", "v_proj"):
            at = f"base_model.model.model.layers.{layer}.self_attn.{name}"
            weights[f"{at}.lora_A.weight"] = torch.randn(rank, HIDDEN)
            weights[f"{at}.lora_B.weight"] = torch.randn(HIDDEN, rank)
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    save_file(weights, folder / "adapter_model.safetensors")
    config = {"peft_type": "LORA", "r": rank, "lora_alpha": 16, "target_modules": ["q_proj", "v_proj"], "bias": "none"}
    (folder / "adapter_config.json").write_text(json.dumps(config))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("folder")
    parser.add_argument("--base", action="store_true")
    parser.add_argument("--adapter", type=int)
    args = parser.parse_args()
    if args.adapter is not None:
        adapter(args.folder, args.adapter)
    else:
        model(args.folder, args.base)


if __name__ == "__main__":
    main()
