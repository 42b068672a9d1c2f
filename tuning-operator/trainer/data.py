"""The training data: the same files, formats and columns as in the check of the runner."""

import os
import re

import rows
from report import Failure

_EXTENSIONS = {".parquet": "parquet", ".jsonl": "json", ".json": "json", ".csv": "csv"}
_METADATA = {"dataset_infos.json", "dataset_info.json", "state.json"}
# The words by which HuggingFace's datasets library tells splits from the names of files and folders.
_TRAINING = {"train", "training"}
_HELD_OUT = {"validation", "valid", "dev", "val", "test", "testing", "eval", "evaluation"}


def files(folder, path=""):
    """Return the data files below a folder, sorted, without hidden files and indexes."""
    start = os.path.join(folder, path)
    if os.path.isfile(start):
        return [start]
    found = []
    for root, folders, names in os.walk(start):
        folders[:] = sorted(f for f in folders if not f.startswith("."))
        found += [os.path.join(root, n) for n in names if os.path.splitext(n)[1].lower() in _EXTENSIONS and n not in _METADATA and not n.startswith(".")]
    return sorted(_trained_on(folder, found))


def _trained_on(folder, found):
    """Leave out files of a test or validation split, unless there are no other files."""
    def held_out(file):
        words = set(re.split(r"[-._ 0-9/]+", os.path.relpath(file, folder).lower()))
        return words & _HELD_OUT and not words & _TRAINING

    return [file for file in found if not held_out(file)] or found


def _kind(path):
    """Detect the format from the content if possible, because users choose the names."""
    with open(path, "rb") as data:
        head = data.read(512)
    if head.startswith(b"PAR1"):
        return "parquet"
    if head.removeprefix(b"\xef\xbb\xbf").lstrip()[:1] in (b"{", b"["):
        return "json"
    return _EXTENSIONS[os.path.splitext(path)[1].lower()]


def columns(config, have):
    """Return the columns used for training, by their names in TRL."""
    if config.get("messagesColumn"):
        return {"messages": config["messagesColumn"]}
    if config.get("promptColumn") or config.get("completionColumn"):
        return {"prompt": config.get("promptColumn") or "prompt", "completion": config.get("completionColumn") or "completion"}
    if config.get("textColumn"):
        return {"text": config["textColumn"]}
    for shape in (("messages",), ("prompt", "completion"), ("text",)):
        if all(name in have for name in shape):
            return {name: name for name in shape}
    if "conversations" in have:
        return {"messages": "conversations"}
    for answer in ("output", "response"):
        if "instruction" in have and answer in have:
            return {"prompt": "instruction", "completion": answer}
    raise Failure("DatasetInvalid", "the dataset has the columns %s; messages, prompt and completion, instruction and output, conversations, or text is required" % ", ".join(sorted(have)))


# The names that ShareGPT's data has for the roles.
_SPEAKERS = {"human": "user", "gpt": "assistant"}


def _turns(conversation):
    """Return a conversation with role and content. ShareGPT's turns have from and value."""
    return [{"role": _SPEAKERS.get(turn["from"], turn["from"]), "content": turn["value"]} if turn.get("from") else turn for turn in conversation]


def _mapped(data, named):
    """Return the data with Alpaca's input in the prompt, and ShareGPT's turns as messages."""
    if "messages" in data.column_names and len(data) and data[0]["messages"] and "from" in data[0]["messages"][0]:
        return data.map(lambda row: {"said": _turns(row["messages"])}, remove_columns=["messages"]).rename_column("said", "messages")
    if "input" not in data.column_names:
        return data
    if named and any((value or "").strip() for value in data["input"]):
        raise Failure("DatasetInvalid", "column input has text, which would not be used: remove context_column and response_column from DatasetConfig")
    joined = data.map(lambda row: {"prompt": row["prompt"] + "\n\n" + row["input"] if (row["input"] or "").strip() else row["prompt"]})
    return joined.remove_columns(["input"])


def as_turns(data):
    """Return rows of prompt and completion as turns, so that the model's chat template is trained, with which it is served."""
    if "prompt" not in data.column_names or not len(data) or not isinstance(data[0]["prompt"], str):
        return data
    return data.map(lambda row: {
        "prompt": [{"role": "user", "content": row["prompt"]}], "completion": [{"role": "assistant", "content": row["completion"]}],
    })


def _read(kind, found, config):
    """Return the data with its columns, as one dataset."""
    if kind == "json":
        return rows.read_json(found, lambda first: columns(config, first).values())
    if kind == "csv":
        return rows.read_csv(found)
    from datasets import Value, load_dataset

    data = load_dataset(kind, data_files=found, split="train")
    for name, feature in data.features.items():  # text that was written as bytes
        if getattr(feature, "dtype", "") in ("binary", "large_binary"):
            data = data.cast_column(name, Value("string"))
    return data


def load(folder, config):
    """Return the rows in the order of the files, with the columns that TRL reads."""
    found = files(folder, config.get("path", ""))
    if not found:
        raise Failure("DatasetInvalid", "no parquet, jsonl, json or csv file was found in the dataset")
    kinds = {_kind(f) for f in found}
    if len(kinds) > 1:
        raise Failure("DatasetInvalid", "the dataset mixes the formats " + ", ".join(sorted(kinds)))
    data = _read(kinds.pop(), found, config)
    wanted = columns(config, data.column_names)
    missing = [name for name in wanted.values() if name not in data.column_names]
    if missing:
        raise Failure("DatasetInvalid", "the dataset has no column " + ", ".join(missing))
    # The chat template has the tools that a conversation may call.
    others = [name for name in ("tools",) if name in data.column_names and "text" not in wanted]
    if wanted.get("prompt") == "instruction" and "input" in data.column_names:
        others.append("input")
    data = data.select_columns([*wanted.values(), *others])
    for name, column in wanted.items():
        if name != column:
            data = data.rename_column(column, name)
    return rows.check(_mapped(data, named=bool(config.get("promptColumn"))))


def split(data, config):
    """Return (training set, held-out set or None)."""
    if config.get("shuffle", True):
        data = data.shuffle(seed=config.get("seed", 42))
    fraction = config.get("trainFraction", 1)
    if fraction >= 1 or len(data) < 2:
        return data, None
    cut = min(max(int(len(data) * fraction), 1), len(data) - 1)
    return data.select(range(cut)), data.select(range(cut, len(data)))
