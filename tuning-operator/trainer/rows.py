"""The rows of data files, read as the runner's check reads them: what one accepts, the other one does."""

import csv
import hashlib
import json
import os
import tempfile

from report import Failure

ROLES = ("system", "developer", "user", "assistant", "tool")
# Columns that are used where they are: the tools of a conversation, and Alpaca's input.
BESIDES = ("tools", "input")
# Bytes from which the library infers the types of columns. A field that comes later than that is refused.
CHUNK = 256 << 20


def of_json(paths):
    """Yield the objects of JSON files: an array, or one object after another."""
    decoder = json.JSONDecoder()
    for path in paths:
        with open(path, encoding="utf-8-sig") as file:
            if path.lower().endswith(".json"):
                yield from _objects(file.read(), decoder)
                continue
            for line in file:
                if line.strip():
                    yield json.loads(line)


def _objects(text, decoder):
    text = text.lstrip()
    if text.startswith("["):
        yield from json.loads(text)
        return
    at = 0
    while at < len(text):
        value, at = decoder.raw_decode(text, at)
        yield value
        at = len(text) - len(text[at:].lstrip())


def read_json(paths, wanted):
    """Return a dataset with the columns that wanted names, and those of BESIDES that a row has.

    The library reads a copy without the other columns, so that they may have any content. The processes of a pod share it.
    """
    from datasets import load_dataset
    from filelock import FileLock

    names = [*wanted(next(of_json(paths), {}))]
    names += sorted({name for row in of_json(paths) for name in BESIDES if name not in names and row.get(name)})
    key = hashlib.sha256(json.dumps([names, [(path, os.path.getsize(path), os.path.getmtime(path)) for path in paths]]).encode())
    copy = os.path.join(tempfile.gettempdir(), "rows-%s.jsonl" % key.hexdigest()[:16])
    with FileLock(copy + ".lock"):
        if not os.path.exists(copy):
            with open(copy + ".part", "w", encoding="utf-8") as out:
                for row in of_json(paths):
                    out.write(json.dumps({name: row.get(name) for name in names}, ensure_ascii=False) + "\n")
            os.replace(copy + ".part", copy)
    return load_dataset("json", data_files=copy, split="train", chunksize=CHUNK)


def read_csv(paths):
    """Return a dataset in which each column is text: neither a number nor NA means anything else."""
    from datasets import Features, Value, load_dataset

    with open(paths[0], encoding="utf-8-sig", newline="") as file:
        header = next(csv.reader(file), [])
    features = Features({name: Value("string") for name in header})
    return load_dataset("csv", data_files=paths, split="train", features=features, keep_default_na=False, encoding="utf-8-sig")


def check(data):
    """Refuse the first row from which a model would learn nothing, or something else."""
    for number, row in enumerate(data, 1):
        if why := _wrong(row):
            raise Failure("DatasetInvalid", "row %d of the dataset: %s" % (number, why))
    return data


def _wrong(row):
    if "messages" in row:
        return _wrong_turns("messages", row["messages"]) or (
            "messages has no turn of the assistant" if all(turn["role"] != "assistant" for turn in row["messages"]) else ""
        )
    for name in ("prompt", "completion", "text"):
        if name not in row:
            continue
        value = row[name]
        if isinstance(value, list):
            if why := _wrong_turns(name, value):
                return why
        elif not isinstance(value, str):
            return "column %s is not text" % name
        elif not value.strip() and name != "prompt":
            return "column %s is empty" % name
    return ""


def _wrong_turns(name, turns):
    if not isinstance(turns, list) or not turns:
        return "column %s is not a list of turns" % name
    for turn in turns:
        if not isinstance(turn, dict) or turn.get("role") not in ROLES:
            return "column %s has the role %r: use one of %s" % (name, turn.get("role") if isinstance(turn, dict) else turn, ", ".join(ROLES))
        if not isinstance(turn.get("content"), str) and not (turn.get("content") is None and turn.get("tool_calls")):
            return "column %s has a content that is not text" % name
    return ""
