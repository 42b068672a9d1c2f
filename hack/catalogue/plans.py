# SPDX-License-Identifier: Apache-2.0
"""Ask the vLLM release on the Python path about our plans, and print a table with a row for each kind of plan.

For each plan the engine parses the arguments and makes its configuration of them (create_engine_config) with the model's
own configuration, on a pretended GPU of the plan's kind. Its own functions then say how large the weights of the fullest
stage are, which it builds itself, and how much cache the planned context needs there. Columns:

  verdict  ok; configured, where it was not counted; or what the engine refuses
  cache    GiB of the engine's own count, and ours beside it
  weights  GiB of the engine's own count, and ours beside it

Plans of models without a configuration in configs.yaml are only parsed, and marked with "parsed".
"""

import argparse
import collections
import json
import os
import pathlib
import re
import subprocess
import sys

GIB = 2**30
# Words that need the publisher's files, which are not here.
NEEDS_FILES = ("--load-format=", "--config-format=", "--tokenizer-mode=", "--trust-remote-code", "--revision=", "--hf-overrides=")
NEEDS_TOKENIZER = ("--reasoning-parser=", "--tool-call-parser=", "--enable-auto-tool-choice")


def one_gpu(plans, files, templates):
    """Answers for plans of one kind of GPU; its properties are in the environment already."""
    import configs
    import shapes
    from vllm.engine.arg_utils import AsyncEngineArgs
    from vllm.usage.usage_lib import UsageContext

    from flags import serve_parser

    parser = serve_parser()
    known = configs.Configs(pathlib.Path(__file__).with_name("configs.yaml"), files)
    built = {}
    for plan in plans:
        words = [w.replace("/vllm-workspace/examples", str(templates)) for w in plan["words"]]
        answer = {"verdict": "ok"}
        try:
            parsed = parser.parse_args(["MODEL", *words])
            if plan["model"] not in known.models:
                answer["verdict"] = "parsed"
            else:
                with shapes.folder_of(known.config(plan["model"])) as folder:
                    kept = [w for w in words if not w.startswith(NEEDS_FILES)]
                    if known.models[plan["model"]].get("processor"):
                        # The tokenizer would bring the images' processor, which is code of the publisher's.
                        kept = [w for w in kept if not w.startswith(NEEDS_TOKENIZER)] + ["--skip-tokenizer-init"]
                    else:
                        tokenizer_into(folder)
                    parsed = parser.parse_args([folder, *kept, f"--tokenizer={folder}"])
                    parsed.model = folder
                    config = AsyncEngineArgs.from_cli_args(parsed).create_engine_config(usage_context=UsageContext.OPENAI_API_SERVER)
                    try:
                        answer.update(counted(shapes, built, folder, plan, config))
                    except (NotImplementedError, RuntimeError) as why:
                        # Experts that are distributed whole are mapped by data, which there is not. Any other reason is a refusal.
                        if "meta tensors" not in str(why) and "nonzero" not in str(why):
                            raise
                        answer["verdict"], answer["why"] = "configured", str(why)
                    answer["approximate"] = known.models[plan["model"]].get("approximate", False)
        except (Exception, SystemExit) as why:  # noqa: BLE001  (each reason that the engine has)
            answer["verdict"] = f"{type(why).__name__}: " + re.sub(r"\s+", " ", str(why))[:200]
        print(json.dumps({**plan, **answer}), flush=True)


def parse_only(plans, templates):
    """Prints what the parser of an older release says about our argument lists: how many it refuses, and why."""
    from flags import serve_parser

    parser, refused = serve_parser(), []
    for plan in plans:
        try:
            parser.parse_args(["MODEL", *(w.replace("/vllm-workspace/examples", str(templates)) for w in plan["words"])])
        except (Exception, SystemExit) as why:  # noqa: BLE001  (each reason that the parser has)
            refused.append(f"{plan['model']} on {plan['hardware']}: {why}")
    print(f"# vLLM {plans[0]['release']}: {len(plans)} argument lists parsed, {len(refused)} refused.")
    sys.exit("\n".join(refused))


def tokenizer_into(folder):
    """Writes a small tokenizer that has every mark which one of the release's parsers names in its source."""
    import vllm
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    marks = set()
    for name in ("reasoning", "tool_parsers", "parser"):
        for source in pathlib.Path(vllm.__file__).with_name(name).rglob("*.py"):
            marks.update(re.findall(r"""["'](<[^"'\s]{1,60}>|\[[A-Z_/]{3,30}\])["']""", source.read_text()))
    words = Tokenizer(models.WordLevel({"<unk>": 0, "a": 1, "b": 2}, unk_token="<unk>"))
    fast = PreTrainedTokenizerFast(tokenizer_object=words, unk_token="<unk>", bos_token="<s>", eos_token="</s>", pad_token="<pad>")
    fast.add_special_tokens({"additional_special_tokens": sorted(marks)})
    fast.save_pretrained(folder)


def counted(shapes, built, folder, plan, config):
    """Bytes that the engine counts for the planned context, and for the weights of the heaviest stage."""
    from vllm.distributed.utils import get_pp_indices
    from vllm.v1.core import kv_cache_utils

    tensor, stages = plan["tensor"], plan["pipeline"]
    kind = config.cache_config.cache_dtype
    experts = config.parallel_config.enable_expert_parallel
    key = (plan["model"], tensor, kind, experts)
    if key not in built:
        model = shapes.Model(folder, tensor, kv_cache_dtype=kind, enable_expert_parallel=experts)
        specs = model.cache_specs()
        shapes.lay_out(model.config, specs)
        built.clear()
        built[key] = (model, specs, {})
    model, specs, weights = built[key]
    groups = kv_cache_utils.get_kv_cache_groups(model.config, dict(specs))
    model.config.model_config.max_model_len = plan["tokens"]
    model.config.scheduler_config.max_num_batched_tokens = config.scheduler_config.max_num_batched_tokens
    if stages not in weights:
        weights[stages] = {}
        layers_on = [end - start for start, end in (get_pp_indices(model.layers, s, stages) for s in range(stages))]
        between = max(range(1, stages - 1), key=lambda s: (layers_on[s], s), default=0)
        for stage in sorted({0, between, stages - 1}):  # the ends, and the fullest between them
            layers, other = (
                model if stages == 1 else shapes.Model(folder, tensor, stages, stage, enable_expert_parallel=experts)
            ).weights()
            weights[stages][stage] = sum(layers) + other
    model.config.parallel_config.pipeline_parallel_size = stages
    fullest = (0, 0)
    for stage, held in weights[stages].items():
        start, end = get_pp_indices(model.layers, stage, stages)
        mine = {n: s for n, s in specs.items() if start <= (shapes.layer_of(n) or 0) < end}
        if not mine:
            continue
        projected = kv_cache_utils._project_kv_cache_groups_to_worker(groups, mine)
        cache = (kv_cache_utils._max_memory_usage_bytes_from_groups(model.config, projected)
                 + kv_cache_utils._pool_bytes_per_block(model.config, projected))
        fullest = max(fullest, (held, cache), key=sum)
    model.config.parallel_config.pipeline_parallel_size = 1
    return {"engineCache": fullest[1], "engineWeights": fullest[0], "batch": config.scheduler_config.max_num_batched_tokens,
            "inFlight": config.max_in_flight_tokens}


def all_gpus(arguments):
    """Starts a process for each kind of GPU: its properties are read when vLLM is imported."""
    kinds = collections.defaultdict(list)
    for line in arguments.plans.read_text().splitlines():
        plan = json.loads(line)
        if plan["release"] == arguments.release:
            kinds[plan["capability"], plan["deviceGiB"]].append(plan)
    for number, ((capability, gib), plans) in enumerate(sorted(kinds.items()), 1):
        print(f"{number} of {len(kinds)}: {len(plans)} plans on {capability} with {gib:.1f} GiB", file=sys.stderr, flush=True)
        plans.sort(key=lambda p: (p["model"], p["tensor"], p["pipeline"]))
        environment = {**os.environ, "PRETEND_CAPABILITY": capability.replace(".", ","), "PRETEND_GIB": str(gib)}
        child = subprocess.run(
            [sys.executable, __file__, "--one", str(arguments.plans), str(arguments.configs), str(arguments.templates)],
            input="\n".join(map(json.dumps, plans)), stdout=subprocess.PIPE, text=True, env=environment, check=True,
        )
        yield from map(json.loads, child.stdout.splitlines())


def row(p):
    cells = [
        p["model"], p["hardware"], f"{p['nodes']}n", f"{p['tensor']}.{p['pipeline']}.{p['data']}", f"{p['adapters']} adapters", str(p["tokens"]),
    ]
    if "engineCache" in p:
        cells += [f"cache {p['engineCache'] / GIB:.2f}|{p['cache'] / GIB:.2f}"]
        if not p["adapters"]:
            cells += [f"weights {p['engineWeights'] / GIB:.2f}|{p['weights'] / GIB:.2f}"]
    return "  ".join([*cells, p["verdict"]])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--parse", action="store_true", help="only parse the arguments: for older releases")
    parser.add_argument("--release", default="0.32.0", help="the plans of other releases are left out")
    parser.add_argument("plans", type=pathlib.Path, help="what `go test ./internal/plan -args -plans=FILE` has written")
    parser.add_argument("configs", type=pathlib.Path, help="the folder of the publishers' config.json files")
    parser.add_argument("templates", type=pathlib.Path, help="the folder of the release's chat templates")
    arguments = parser.parse_args()
    if arguments.one:
        one_gpu([json.loads(line) for line in sys.stdin], arguments.configs, arguments.templates)
        return
    if arguments.parse:
        plans = [plan for line in arguments.plans.read_text().splitlines() if (plan := json.loads(line))["release"] == arguments.release]
        parse_only(plans, arguments.templates)
    rows = list(all_gpus(arguments))
    refused = [p for p in rows if p["verdict"] not in ("ok", "configured", "parsed")]
    short = [p for p in rows if p.get("engineCache", 0) > p["cache"] + p["free"]]
    cache = [abs(p["cache"] / p["engineCache"] - 1) for p in rows if p.get("engineCache")]
    weights = [
        abs(p["weights"] / p["engineWeights"] - 1) for p in rows
        if p.get("engineWeights") and not p["adapters"] and not p["approximate"]
    ]
    print(f"# vLLM {arguments.release}: {len(rows)} argument lists, {len(refused)} refused; {len(cache)} with the model's configuration,")
    print(f"# {len(short)} whose context needs more than the plan leaves; within 2 %: cache {within(cache)}, weights {within(weights)}.")
    for text in sorted(map(row, rows)):
        print(text)
    sys.exit(1 if refused or short else 0)


def within(differences):
    return f"{sum(d <= 0.02 for d in differences)} of {len(differences)}"


if __name__ == "__main__":
    main()
