"""The reports of the trainer: progress lines, GET /progress, and a termination message.

The formats are those of tuning-operator/README.md; the controller reads them.
"""

import datetime
import http.server
import json
import math
import os
import threading

VERSION = 1
MAX_MESSAGE_BYTES = 4096  # the kubelet cuts longer termination messages

# sysexits(3), as in internal/message: permanent failures end the job, preemptions are not counted.
EXIT_PERMANENT = 65
EXIT_PREEMPTED = 75


class Failure(Exception):
    """A failure with a reason. permanent: another attempt would fail in the same way."""

    def __init__(self, reason, text, permanent=True):
        super().__init__(text)
        self.reason = reason
        self.permanent = permanent


class Preempted(Exception):
    """Interrupted, with a checkpoint on the disk."""


def finite(value):
    """Omit numbers that are not finite: JSON has no NaN."""
    return value if isinstance(value, (int, float)) and math.isfinite(value) else None


class Reporter:
    """Keep the latest figures. Only the first rank of a node prints and serves them."""

    def __init__(self, speaks, port=0):
        self.speaks = speaks
        self.train = {"fromStep": 0, "step": 0}
        self._lock = threading.Lock()
        self._server = None
        if speaks and port:
            self._serve(port)

    def update(self, **figures):
        with self._lock:
            for key, value in figures.items():
                value = finite(value)
                if value is None:
                    self.train.pop(key, None)
                else:
                    self.train[key] = value
            line = self._line("progress")
        self._print(line)

    def event(self, event, text="", **fields):
        with self._lock:
            line = self._line(event)
        line["message"] = text
        if fields:
            line["fields"] = fields
        self._print(line)

    def snapshot(self):
        with self._lock:
            return self._line("progress")

    def _line(self, event):
        now = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds").replace("+00:00", "Z")
        return {"time": now, "step": "train", "event": event, "train": dict(self.train)}

    def _print(self, line):
        if self.speaks:
            print(json.dumps(line, allow_nan=False), flush=True)

    def _serve(self, port):
        reporter = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                if self.path not in ("/progress", "/healthz"):
                    self.send_error(404)
                    return
                body = json.dumps(reporter.snapshot(), allow_nan=False).encode()
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass

        self._server = http.server.ThreadingHTTPServer(("", port), Handler)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self):
        if self._server:
            self._server.shutdown()
            self._server.server_close()

    def result(self, failure=None, preempted=False):
        """Return the termination message as bytes. The text is shortened to fit, the figures are kept."""
        out = {"version": VERSION, "step": "train", "train": dict(self.train)}
        if preempted:
            out.update(reason="Preempted", message="interrupted, with a checkpoint at step %d" % self.train.get("checkpointStep", 0))
        elif failure is not None:
            out.update(reason=getattr(failure, "reason", "TrainingFailed"), message=str(failure) or type(failure).__name__)
            if getattr(failure, "permanent", False):
                out["permanent"] = True
        raw = json.dumps(out, allow_nan=False, ensure_ascii=False).encode()
        while len(raw) > MAX_MESSAGE_BYTES:
            text = out["message"]
            out["message"] = text[: max(len(text) - (len(raw) - MAX_MESSAGE_BYTES) - 1, 0)] + "…"
            if out["message"] == "…":
                del out["message"]
            raw = json.dumps(out, allow_nan=False, ensure_ascii=False).encode()
        return raw


def write_result(raw, *paths, first=False):
    """Write the message to the termination log. first: keep the message of another rank, which failed first."""
    for path in filter(None, paths):
        if first and os.path.exists(path) and os.path.getsize(path) > 0:
            continue
        with open(path, "wb") as out:
            out.write(raw)


def exit_code(raw):
    """Return the exit code for a message."""
    message = json.loads(raw)
    if message.get("reason") == "Preempted":
        return EXIT_PREEMPTED
    if message.get("permanent"):
        return EXIT_PERMANENT
    return 1 if message.get("reason") else 0
