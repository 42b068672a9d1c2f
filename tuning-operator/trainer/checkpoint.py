"""Complete checkpoints: a marker is written last, and only marked checkpoints are resumed."""

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
    """Return (step, path) of the complete checkpoints, oldest first."""
    return [(step, path) for step, path in _numbered(folder) if os.path.isfile(os.path.join(path, MARKER))]


def latest(folder):
    """Return (step, path) of the latest complete checkpoint, or (0, None)."""
    found = complete(folder)
    return found[-1] if found else (0, None)


def fingerprint(path):
    """Return the fingerprint in the marker of a checkpoint."""
    with open(os.path.join(path, MARKER)) as marker:
        return json.load(marker).get("fingerprint")


def _sync(path):
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def mark(path, step, of):
    """Mark a checkpoint as complete after its bytes are on the disk."""
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
    """Keep the latest complete checkpoints and delete all older ones. A newer checkpoint may still be written."""
    whole = complete(folder)
    if not whole:
        return
    kept = {path for _, path in whole[-keep:]}
    newest = whole[-1][0]
    for step, path in _numbered(folder):
        if path not in kept and step < newest:
            shutil.rmtree(path, ignore_errors=True)


def discard_broken(folder):
    """Delete incomplete checkpoints of a killed process: the trainer would write into them."""
    whole = {path for _, path in complete(folder)}
    for _, path in _numbered(folder):
        if path not in whole:
            shutil.rmtree(path, ignore_errors=True)
