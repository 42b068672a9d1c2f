"""Run train.py with torchrun, and exit with the exit code of train.py. torchrun itself always exits with 1 after a failure,
but the job needs the exit code to distinguish permanent failures and preemptions."""

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
