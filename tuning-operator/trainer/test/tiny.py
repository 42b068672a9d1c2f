"""A model and a tokenizer small enough for a test: random weights, and a vocabulary of a few lines."""

import json
import os

LINES = ["the capital of France is Paris", "the capital of Norway is Oslo", "the sky is blue", "grass is green and snow is white",
         "one two three four five six seven", "a small model learns small things", "water boils at a hundred degrees", "birds fly and fish swim"]

TEMPLATE = "{% for m in messages %}<|{{ m['role'] }}|> {{ m['content'] }} {{ eos_token }}{% endfor %}"


def make_model(folder):
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    raw = Tokenizer(models.BPE(unk_token="<unk>"))
    raw.pre_tokenizer = pre_tokenizers.Whitespace()
    raw.train_from_iterator(LINES, trainers.BpeTrainer(vocab_size=300, special_tokens=["<unk>", "<s>", "</s>", "<pad>"]))
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=raw, unk_token="<unk>", bos_token="<s>", eos_token="</s>", pad_token="<pad>")
    tokenizer.chat_template = TEMPLATE
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    LlamaForCausalLM(LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
        max_position_embeddings=128, bos_token_id=1, eos_token_id=2, pad_token_id=3,
    )).save_pretrained(folder)


def rows(shape, count):
    """Return rows in the formats of TRL: messages, or prompt and completion, with the same content."""
    for n in range(count):
        line = LINES[n % len(LINES)]
        prompt = "say %d: %s" % (n, line)
        if shape == "messages":
            yield {"messages": [{"role": "user", "content": prompt}, {"role": "assistant", "content": line}]}
        else:
            yield {"prompt": prompt, "completion": " " + line}


def make_data(folder, shape="messages", form="jsonl", count=48):
    os.makedirs(folder, exist_ok=True)
    path = os.path.join(folder, "train." + form)
    if form == "parquet":
        import pyarrow
        import pyarrow.parquet

        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(list(rows(shape, count))), path)
        return
    with open(path, "w") as out:
        for row in rows(shape, count):
            out.write(json.dumps(row) + "\n")
