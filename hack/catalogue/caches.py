# SPDX-License-Identifier: Apache-2.0
"""Print the types of KV cache that the vLLM release on the Python path accepts for each model of configs.yaml, by the
compute capability of the GPU, as JSON: {"release": …, "models": {"model": {"8.0": ["auto", "fp8"], …}}}. A model without
a type is refused whole.

As in shapes.py, the engine builds the model on the device "meta" and chooses the attention backend of each layer, which
is what refuses. The log says why. Each capability has a process of its own.
"""

import argparse
import concurrent.futures
import json
import os
import pathlib
import subprocess
import sys

import configs
from shapes import Model, folder_of, refusals

# Those of the catalogue's GPUs that the newest release serves.
CAPABILITIES = ("7.5", "8.0", "8.6", "9.0", "12.0")
# bfloat16 is computed from here on; older GPUs are given float16, as the operator does.
BFLOAT16 = (8, 0)
# The fewest GPUs are enough: which backend a layer has depends on the size of its heads, not on their number.
TENSOR = 1


def types(name, config, dtype):
    out = []
    with folder_of(config) as folder:
        for kind in ("auto", "fp8"):
            with refusals(name, TENSOR, f"cache {kind}"):
                Model(folder, TENSOR, kv_cache_dtype=kind, dtype=dtype)
                out.append(kind)
    return out


def one(known, names):
    capability = tuple(int(part) for part in os.environ["PRETEND_CAPABILITY"].split(","))
    dtype = "auto" if capability >= BFLOAT16 else "float16"
    out = {}
    for number, name in enumerate(names, 1):
        print(f"{number} of {len(names)}: {name}", file=sys.stderr, flush=True)
        out[name] = types(name, known.config(name), dtype)
    return out


def every(names, arguments):
    """The answers of a process for each capability."""

    def ask(capability):
        env = {**os.environ, "PRETEND_CAPABILITY": capability.replace(".", ",")}
        call = [sys.executable, __file__, "--one", str(arguments.configs), *names]
        return json.loads(subprocess.run(call, env=env, stdout=subprocess.PIPE, check=True).stdout)

    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        answers = dict(zip(CAPABILITIES, pool.map(ask, CAPABILITIES)))
    return {name: {capability: answers[capability][name] for capability in CAPABILITIES} for name in names}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--one", action="store_true", help="only the GPU that PRETEND_CAPABILITY names")
    parser.add_argument("configs", type=pathlib.Path, help="the folder of the publishers' config.json files")
    parser.add_argument("models", nargs="*", help="models of configs.yaml; without any, all")
    arguments = parser.parse_args()
    known = configs.Configs(pathlib.Path(__file__).with_name("configs.yaml"), arguments.configs)
    names = arguments.models or list(known.models)
    if arguments.one:
        json.dump(one(known, names), sys.stdout)
        return
    import vllm

    text = json.dumps({"release": vllm.__version__, "models": every(names, arguments)}, indent=1, sort_keys=True)
    print(text.replace("[\n    ", "[").replace(",\n    ", ", ").replace("\n   ]", "]"))


if __name__ == "__main__":
    main()
