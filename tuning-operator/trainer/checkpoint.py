"""Checkpoints that are whole: a marker is written last, and only marked ones are resumed from."""

import json
import os
import re
import shutil

MARKER = "kaito-complete.json"
_NAME = re.compile(r"^checkpoint-(\d+)$")


def _numbered(folder):
    if not os.path.isdir(folder):
        return []
    found = [(int(m.group(1)), os.path.join(folder, m.group(0))) for m in map(_NAME.match, os.listdir(folder)) if m]
    return sorted(found)


def complete(folder):
    """(step, path) of the whole checkpoints, oldest first."""
    return [(step, path) for step, path in _numbered(folder) if os.path.isfile(os.path.join(path, MARKER))]


def latest(folder):
    """(step, path) of the newest whole checkpoint, or (0, None)."""
    found = complete(folder)
    return found[-1] if found else (0, None)


def fingerprint(path):
    """What the marker of a checkpoint says that it belongs to."""
    with open(os.path.join(path, MARKER)) as marker:
        return json.load(marker).get("fingerprint")


def _sync(path):
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def mark(path, step, of):
    """Say that a checkpoint is whole, once its bytes are on the disk."""
    for root, _, files in os.walk(path):
        for name in files:
            _sync(os.path.join(root, name))
        _sync(root)
    marker = os.path.join(path, MARKER)
    with open(marker + ".tmp", "w") as out:
        json.dump({"step": step, "fingerprint": of}, out)
        out.flush()
        os.fsync(out.fileno())
    os.replace(marker + ".tmp", marker)
    _sync(path)


def prune(folder, keep):
    """Keep the newest whole checkpoints; whatever is older, whole or not, goes. What is newer may be being written."""
    whole = complete(folder)
    if not whole:
        return
    kept = {path for _, path in whole[-keep:]}
    newest = whole[-1][0]
    for step, path in _numbered(folder):
        if path not in kept and step < newest:
            shutil.rmtree(path, ignore_errors=True)


def discard_broken(folder):
    """Remove what a killed process left half-written: the trainer would write into it."""
    whole = {path for _, path in complete(folder)}
    for _, path in _numbered(folder):
        if path not in whole:
            shutil.rmtree(path, ignore_errors=True)
