"""Run train.py by torchrun, and end as it ended: torchrun itself ends with 1 whatever its workers end with, and the
job tells permanent failures and preemptions apart by the exit code."""

import os
import signal
import subprocess
import sys

from report import exit_code


def main(args):
    worker = subprocess.Popen([sys.executable, "-m", "torch.distributed.run", *args])
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda n, _: worker.send_signal(n))
    code = worker.wait()
    if code == 0:
        return 0
    try:
        with open(os.environ["KAITO_TERMINATION_LOG"], "rb") as message:
            return exit_code(message.read()) or 1
    except (OSError, KeyError, ValueError):
        return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
