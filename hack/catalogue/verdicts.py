# SPDX-License-Identifier: Apache-2.0
"""Ask the parser of the vLLM release on the Python path about each case of cases.yaml, and print its verdicts as JSON.

A case with words is parsed as a command line. One that we refuse is given to the engine's own reading of a
configuration file, which the key would reach with `vllm serve --config`.
"""

import contextlib
import io
import json
import pathlib
import re
import sys
import tempfile

import yaml

from flags import serve_parser


def without_addresses(text):
    """The text without the addresses of Python's objects, which differ from run to run."""
    return re.sub(r" at 0x[0-9a-f]+", "", text)


def verdict(parser, args):
    """accepted, or what the parser says, in a line."""
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said), contextlib.redirect_stdout(said):
            parser.parse_args(["serve", "org/model", *args])
    except SystemExit:
        said = said.getvalue()
        return "refused: " + without_addresses(" ".join(said[said.find("error: ") + 7 :].split()))[:200]
    except Exception as error:  # what the parser does not catch ends the engine as well
        return without_addresses(f"refused: {type(error).__name__}: {error}".replace("\n", " "))[:200]
    return "accepted"


def main():
    import vllm

    release = vllm.__version__
    old = tuple(int(x) for x in release.split(".")[:2]) < (0, 30)
    cases = yaml.safe_load((pathlib.Path(__file__).parent / "cases.yaml").read_text())
    out = []
    for case in cases:
        words = case.get("words")
        if old and "before" in case:
            words = None if case["before"] == "refused" else case["before"]
        with tempfile.TemporaryDirectory() as folder:
            file = pathlib.Path(folder, "config.yaml")
            file.write_text(yaml.safe_dump(case["config"]))
            own = verdict(subcommand(), ["--config", str(file)])
            own = own.replace(folder, "FOLDER")
        row = {"config": case["config"], "words": words, "own": own}
        if words is not None:
            row["verdict"] = verdict(subcommand(), words)
        out.append(row)
    json.dump({"version": release, "cases": out}, sys.stdout, indent=1)
    print()


def subcommand():
    """`vllm serve` as the engine has it: the parser of the command with a subcommand."""
    parser = serve_parser()
    inner = parser.parse_args

    class Serve:
        def parse_args(self, args):
            # The engine reads a configuration file only behind the word serve, which its outer parser then takes off.
            if "--config" in args:
                args = parser._pull_args_from_config(args)
            return inner(args[1:])

    return Serve()


if __name__ == "__main__":
    main()
