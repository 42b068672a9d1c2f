"""Rows that are longer than max_length. TRL cuts off their end, where the answer is."""

from report import Failure

# The share of rows that may lose their whole answer, where DatasetConfig.max_truncated_answers does not say otherwise.
ALLOWED = 0.1
# Tokens that a chat template may add to a turn. Tokenizers of bytes make at most one token of a byte.
PER_TURN = 32


def check(rows, tokenizer, longest, allowed, reporter):
    """Return the rows without those whose whole answer is cut off. More than the allowed share of them is a Failure."""
    if not longest or "text" in rows.column_names:
        return rows
    without, cut, needed = [], 0, 0
    for number, row in enumerate(rows):
        if _bytes(row) + PER_TURN * _turns(row) <= longest:
            continue
        before, whole = _tokens(row, tokenizer)
        needed = max(needed, whole)
        if before >= longest:
            without.append(number)
        elif whole > longest:
            cut += 1
    if cut or without:
        reporter.event("truncated", _text(rows, without, cut, longest, needed), rows=len(rows), truncated=cut, withoutAnswer=len(without))
    if len(without) > allowed * len(rows):
        raise Failure("DatasetInvalid", _text(rows, without, cut, longest, needed) + (
            "; at most %g%% of the rows may lose it: raise TrainingArguments.max_length, shorten the rows, or set DatasetConfig.max_truncated_answers" % (100 * allowed)
        ))
    if not without:
        return rows
    dropped = set(without)
    return rows.select([number for number in range(len(rows)) if number not in dropped])


def _text(rows, without, cut, longest, needed):
    """Return what is lost: TrainingArguments.max_length is 1024 tokens, and the longest row has 5000: …"""
    text = "TrainingArguments.max_length is %d tokens, and the longest row has %d: of %d rows, %d lose a part of the answer" % (longest, needed, len(rows), cut)
    if without:
        text += " and %d the whole of it (the first is row %d), which are not trained on" % (len(without), without[0] + 1)
    return text


def _conversation(row):
    """Return (turns before the last answer, all turns); None where the row is plain text."""
    if "messages" in row:
        turns = row["messages"]
        last = max((number for number, turn in enumerate(turns) if turn["role"] == "assistant"), default=len(turns))
        return turns[:last], turns
    if isinstance(row["prompt"], list):
        return row["prompt"], row["prompt"] + row["completion"]
    return None


def _bytes(row):
    parts = _conversation(row)
    texts = [row["prompt"], row["completion"]] if parts is None else [turn.get("content") or "" for turn in parts[1]]
    return sum(len(text.encode(errors="replace")) for text in texts) + len(str(row.get("tools") or ""))


def _turns(row):
    parts = _conversation(row)
    return 1 if parts is None else len(parts[1])


def _tokens(row, tokenizer):
    """Return the tokens (before the last answer, of the whole row)."""
    parts = _conversation(row)
    if parts is None:
        return [len(tokenizer(text)["input_ids"]) for text in (row["prompt"], row["prompt"] + row["completion"])]
    tools = row.get("tools") or None
    before = tokenizer.apply_chat_template(parts[0], tools=tools, add_generation_prompt=True) if parts[0] else []
    return len(before), len(tokenizer.apply_chat_template(parts[1], tools=tools))
