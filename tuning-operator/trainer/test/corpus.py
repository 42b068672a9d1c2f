"""Write the corpus of datasets: shapes that users have, right and wrong, in the folder that the argument names.

The runner checks each in make test, and the trainer's libraries load each in make test-trainer. Both verdicts are those of
verdicts.json beside the folders.
"""

import csv
import gzip
import io
import json
import pathlib
import sys

import pyarrow
import pyarrow.parquet

TURNS = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]
MESSAGES = [{"messages": TURNS}] * 3
PAIRS = [{"prompt": "p", "completion": "c"}] * 3
TEXTS = [{"text": "t"}] * 3
POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:%s\nsize 12345\n" % ("0" * 64)


def lines(rows):
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def table(rows, header=None):
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerows([header or list(rows[0])] + [list(row.values()) for row in rows])
    return out.getvalue()


def parquet(rows, schema=None, **options):
    out = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows, schema=schema), out, **options)
    return out.getvalue()


def column(kind, name="text", values=("a", "b", "c")):
    return parquet([{name: value} for value in values], schema=pyarrow.schema([(name, kind)]))


def shapes():
    """Yield (name, {file: content}, settings of DatasetConfig)."""
    for form in ("snappy", "gzip", "zstd", "none", "brotli", "lz4"):
        yield "parquet-" + form, {"train.parquet": parquet(MESSAGES, compression=form)}, {}
    yield "parquet-plain", {"train.parquet": parquet(PAIRS, use_dictionary=False)}, {}
    yield "parquet-delta", {"train.parquet": parquet(PAIRS, use_dictionary=False, column_encoding="DELTA_BYTE_ARRAY")}, {}
    yield "parquet-delta-length", {"train.parquet": parquet(PAIRS, use_dictionary=False, column_encoding="DELTA_LENGTH_BYTE_ARRAY")}, {}
    yield "parquet-version-1", {"train.parquet": parquet(PAIRS, version="1.0", data_page_version="1.0")}, {}
    yield "parquet-page-2", {"train.parquet": parquet(MESSAGES, data_page_version="2.0")}, {}
    yield "parquet-large-text", {"train.parquet": column(pyarrow.large_string())}, {}
    yield "parquet-categories", {"train.parquet": column(pyarrow.dictionary(pyarrow.int32(), pyarrow.string()))}, {}
    yield "parquet-bytes", {"train.parquet": column(pyarrow.binary(), values=(b"a", b"b"))}, {}
    yield "parquet-numbers", {"train.parquet": column(pyarrow.int64(), values=(1, 2))}, {}
    yield "parquet-null", {"train.parquet": column(pyarrow.string(), values=("a", None))}, {}
    yield "parquet-half", {"train.parquet": parquet(PAIRS)[:-30]}, {}
    yield "parquet-several", {"train-0.parquet": parquet(PAIRS), "train-1.parquet": parquet(PAIRS)}, {}
    yield "parquet-other-columns", {"train.parquet": parquet([{**row, "id": 1, "score": 0.5, "extra": {"a": [1]}} for row in PAIRS])}, {}
    yield "parquet-nested-map", {"train.parquet": parquet([{"text": "a", "meta": {"k": {"l": "v"}}}] * 2)}, {}
    yield "parquet-text-of-map", {"train.parquet": parquet([{"text": {"a": "b"}}] * 2)}, {}

    yield "jsonl-messages", {"train.jsonl": lines(MESSAGES)}, {}
    yield "jsonl-pairs", {"train.jsonl": lines(PAIRS)}, {}
    yield "jsonl-text", {"train.jsonl": lines(TEXTS)}, {}
    yield "jsonl-one-row", {"train.jsonl": lines(TEXTS[:1])}, {}
    yield "jsonl-empty", {"train.jsonl": ""}, {}
    yield "jsonl-empty-lines", {"train.jsonl": "\n" + lines(TEXTS) + "\n\n"}, {}
    yield "jsonl-bom", {"train.jsonl": b"\xef\xbb\xbf" + lines(TEXTS).encode()}, {}
    yield "jsonl-latin-1", {"train.jsonl": '{"text":"caf\xe9"}\n'.encode("latin-1")}, {}
    yield "jsonl-lone-surrogate", {"train.jsonl": '{"text":"\\ud800"}\n{"text":"b"}\n'}, {}
    yield "jsonl-crlf", {"train.jsonl": lines(TEXTS).replace("\n", "\r\n")}, {}
    yield "jsonl-half-line", {"train.jsonl": lines(TEXTS) + '{"text":"a'}, {}
    yield "jsonl-comma", {"train.jsonl": '{"text":"a"},\n{"text":"b"}\n'}, {}
    yield "jsonl-not-objects", {"train.jsonl": '["a"]\n["b"]\n'}, {}
    yield "jsonl-html", {"train.jsonl": "<!DOCTYPE html><html><body>Sign in</body></html>"}, {}
    yield "jsonl-pointer", {"train.jsonl": POINTER}, {}
    yield "jsonl-number-as-text", {"train.jsonl": lines([{"text": 1}, {"text": 2}])}, {}
    yield "jsonl-boolean-as-text", {"train.jsonl": lines([{"text": True}])}, {}
    yield "jsonl-mixed-types", {"train.jsonl": lines([{"text": "a"}, {"text": 1}])}, {}
    yield "jsonl-null", {"train.jsonl": lines([{"text": "a"}, {"text": None}])}, {}
    yield "jsonl-missing-column", {"train.jsonl": lines([{"text": "a"}, {"other": "b"}])}, {}
    yield "jsonl-later-column", {"train.jsonl": lines([{"text": "a"}, {"text": "b", "id": 1}])}, {}
    yield "jsonl-other-column-changes", {"train.jsonl": lines([{"text": "a", "id": 1}, {"text": "b", "id": "x"}])}, {}
    yield "jsonl-empty-text", {"train.jsonl": lines([{"text": ""}, {"text": "a"}])}, {}
    yield "jsonl-empty-prompt", {"train.jsonl": lines([{"prompt": "", "completion": "c"}, *PAIRS])}, {}
    yield "jsonl-empty-completion", {"train.jsonl": lines([{"prompt": "p", "completion": ""}, *PAIRS])}, {}
    yield "jsonl-null-prompt", {"train.jsonl": lines([{"prompt": None, "completion": "c"}, *PAIRS])}, {}
    yield "jsonl-overlong", {"train.jsonl": lines([{"text": "word " * 2000}])}, {}
    yield "jsonl-pairs-of-turns", {"train.jsonl": lines([{"prompt": TURNS[:1], "completion": TURNS[1:]}])}, {}
    yield "jsonl-system", {"train.jsonl": lines([{"messages": [{"role": "system", "content": "s"}, *TURNS]}])}, {}
    yield "jsonl-no-answer", {"train.jsonl": lines([{"messages": TURNS[:1]}])}, {}
    yield "jsonl-no-turns", {"train.jsonl": lines([{"messages": []}, *MESSAGES])}, {}
    yield "jsonl-no-role", {"train.jsonl": lines([{"messages": [{"content": "q"}]}])}, {}
    yield "jsonl-other-role", {"train.jsonl": lines([{"messages": [{"role": "bot", "content": "q"}]}])}, {}
    yield "jsonl-content-of-parts", {"train.jsonl": lines([{"messages": [{"role": "user", "content": [{"type": "text", "text": "q"}]}, TURNS[1]]}])}, {}
    yield "jsonl-messages-as-text", {"train.jsonl": lines([{"messages": json.dumps(TURNS)}])}, {}
    yield "jsonl-tool-calls", {"train.jsonl": lines([{"messages": [TURNS[0], {"role": "assistant", "content": None, "tool_calls": [{"type": "function", "function": {"name": "f", "arguments": {}}}]}]}])}, {}
    yield "jsonl-tools", {"train.jsonl": lines([{"messages": TURNS, "tools": [{"type": "function", "function": {"name": "f"}}]}])}, {}
    yield "jsonl-alpaca", {"train.jsonl": lines([{"instruction": "i", "input": "x", "output": "o"}, {"instruction": "i", "input": "", "output": "o"}])}, {}
    yield "jsonl-alpaca-named", {"train.jsonl": lines([{"instruction": "i", "input": "x", "output": "o"}])}, {"promptColumn": "instruction", "completionColumn": "output"}
    yield "jsonl-alpaca-without-input", {"train.jsonl": lines([{"instruction": "i", "output": "o"}])}, {}
    yield "jsonl-instruction-response", {"train.jsonl": lines([{"instruction": "i", "response": "o"}])}, {}
    yield "jsonl-sharegpt", {"train.jsonl": lines([{"id": "1", "conversations": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}]}])}, {}
    yield "jsonl-sharegpt-other-speaker", {"train.jsonl": lines([{"conversations": [{"from": "observation", "value": "q"}, {"from": "gpt", "value": "a"}]}])}, {}
    yield "jsonl-preferences", {"train.jsonl": lines([{"prompt": "p", "chosen": "c", "rejected": "r"}])}, {}
    yield "jsonl-question-answer", {"train.jsonl": lines([{"question": "q", "answer": "a"}])}, {}
    yield "jsonl-named-columns", {"train.jsonl": lines([{"question": "q", "answer": "a"}])}, {"promptColumn": "question", "completionColumn": "answer"}
    yield "jsonl-named-column-missing", {"train.jsonl": lines([{"question": "q", "reply": "a"}])}, {"promptColumn": "question", "completionColumn": "answer"}
    yield "jsonl-named-text", {"train.jsonl": lines([{"body": "b"}])}, {"textColumn": "body"}
    yield "jsonl-named-messages", {"train.jsonl": lines([{"chat": TURNS}])}, {"messagesColumn": "chat"}
    yield "jsonl-same-key-twice", {"train.jsonl": '{"text":"a","text":"b"}\n'}, {}
    yield "jsonl-test-beside", {"train.jsonl": lines(TEXTS), "test.jsonl": lines([{"other": 1}])}, {}
    yield "jsonl-two-schemas", {"a.jsonl": lines(TEXTS), "b.jsonl": lines(PAIRS)}, {}

    yield "ndjson", {"train.ndjson": lines(TEXTS)}, {}
    yield "jsonl-gz", {"train.jsonl.gz": gzip.compress(lines(TEXTS).encode(), mtime=0)}, {}
    yield "json-array", {"train.json": json.dumps(PAIRS)}, {}
    yield "json-lines", {"train.json": lines(PAIRS)}, {}
    yield "json-one-object", {"train.json": json.dumps(TEXTS[0])}, {}
    yield "json-field", {"train.json": json.dumps({"data": PAIRS})}, {}
    yield "json-columns", {"train.json": json.dumps({"text": ["a", "b"]})}, {}
    yield "json-pretty", {"train.json": json.dumps(PAIRS, indent=2)}, {}
    yield "json-half", {"train.json": json.dumps(PAIRS)[:-10]}, {}
    yield "json-empty-array", {"train.json": "[]"}, {}
    yield "json-mixed-types", {"train.json": json.dumps([{"text": "a"}, {"text": 1}])}, {}
    yield "json-two-formats", {"a.json": json.dumps(TEXTS), "b.parquet": parquet(TEXTS)}, {}

    yield "csv-pairs", {"train.csv": table(PAIRS)}, {}
    yield "csv-text-of-numbers", {"train.csv": "text\n1\n2\n"}, {}
    yield "csv-text-of-dates", {"train.csv": "text\n2026-01-01\n2026-01-02\n"}, {}
    yield "csv-text-of-booleans", {"train.csv": "text\ntrue\nfalse\n"}, {}
    yield "csv-number-then-text", {"train.csv": "text\n1\nb\n"}, {}
    yield "csv-na", {"train.csv": "text\nNA\nb\n"}, {}
    yield "csv-none", {"train.csv": "prompt,completion\nNone,c\np,d\n"}, {}
    yield "csv-empty-prompt", {"train.csv": "prompt,completion\n,c\np,d\n"}, {}
    yield "csv-empty-completion", {"train.csv": "prompt,completion\np,\np,d\n"}, {}
    yield "csv-quotes-and-lines", {"train.csv": 'text\n"a ""b""\nc"\nd\n'}, {}
    yield "csv-bom", {"train.csv": b"\xef\xbb\xbf" + table(PAIRS).encode()}, {}
    yield "csv-latin-1", {"train.csv": "text\ncaf\xe9\n".encode("latin-1")}, {}
    yield "csv-semicolons", {"train.csv": "prompt;completion\np;c\n"}, {}
    yield "csv-short-row", {"train.csv": "prompt,completion\np\np,c\n"}, {}
    yield "csv-long-row", {"train.csv": "prompt,completion\np,c,x\np,c\n"}, {}
    yield "csv-no-header", {"train.csv": "p,c\np,c\n"}, {}
    yield "csv-only-header", {"train.csv": "text\n"}, {}
    yield "csv-bare-quote", {"train.csv": 'text\na "b" c\nd\n'}, {}
    yield "no-data", {"README.md": "x"}, {}


def write(folder):
    """Write the files, and return {name: settings}."""
    settings = {}
    for name, files, config in shapes():
        for file, content in files.items():
            path = pathlib.Path(folder, name, file)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content.encode() if isinstance(content, str) else content)
        settings[name] = config
    return settings


if __name__ == "__main__":
    write(sys.argv[1])
