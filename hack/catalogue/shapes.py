# SPDX-License-Identifier: Apache-2.0
"""Write what the vLLM release that is on the Python path needs in memory for each model of configs.yaml, a JSON file a
model. workspace-operator/internal/engine/shape.go describes the fields.

Nothing is loaded or computed: the engine builds its own model on the device "meta", as often as there are ways to share
it, and its own functions sort the layers into groups (v1/core/kv_cache_utils.py) and stages (get_pp_indices). What the
engine refuses is missing in the file, and the log says why.
"""

import argparse
import contextlib
import json
import os
import pathlib
import re
import sys
import tempfile

import configs

TENSOR_PARALLEL = (1, 2, 4, 8)
MOST_STAGES = 8
RANK = 16
FEWEST_TOKENS = 2048


def engine():
    """The parts of vLLM, which take a while to import."""
    import torch
    from torch.fx.experimental import _config
    from torch.overrides import TorchFunctionMode

    _config.meta_nonzero_assume_all_nonzero = True  # which experts are on this GPU is not computed

    class OnMeta(TorchFunctionMode):
        """Every tensor for a GPU is one without data."""

        def __torch_function__(self, function, types, args=(), kwargs=None):
            kwargs = dict(kwargs or {})
            meta = torch.device("meta")

            def moved(value):
                if isinstance(value, torch.device) and value.type == "cuda":
                    return meta
                return meta if isinstance(value, str) and value.startswith("cuda") else value

            if function is torch.device:
                return function(*args, **kwargs)
            if kwargs.get("device") is not None:
                kwargs["device"] = meta
            if getattr(function, "__name__", "") == "cuda":
                return args[0].to(meta)
            return function(*[moved(a) for a in args], **kwargs)

    return torch, OnMeta


class Processes:
    """As many processes as a group of the engine's has, of which this is one."""

    def __init__(self, size, rank=0):
        self.world_size, self.rank_in_group, self.rank, self.local_rank = size, rank, rank, rank
        self.ranks, self.first_rank, self.last_rank = list(range(size)), 0, size - 1
        self.is_first_rank, self.is_last_rank = rank == 0, rank == size - 1
        self.device_group = self.cpu_group = self
        self.unique_name = "pretended"

    def size(self):
        return self.world_size

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return None


def group(tensor, stages=1, stage=0):
    from vllm.distributed import parallel_state

    for name in ("_TP", "_EP"):
        setattr(parallel_state, name, Processes(tensor))
    for name in ("_DP", "_DCP", "_PCP", "_EPLB", "_ETP"):
        setattr(parallel_state, name, Processes(1))
    parallel_state._PP = Processes(stages, stage)
    parallel_state._WORLD = Processes(tensor * stages)
    parallel_state._NODE_COUNT = 1


class Model:
    """A model as the engine builds it on one GPU."""

    def __init__(self, folder, tensor, stages=1, stage=0, **arguments):
        torch, on_meta = engine()
        from vllm.config import set_current_vllm_config
        from vllm.engine.arg_utils import EngineArgs
        from vllm.model_executor.model_loader.utils import initialize_model
        from vllm.platforms import current_platform
        from vllm.v1.worker.workspace import init_workspace_manager

        self.config = EngineArgs(
            model=folder, tokenizer=folder, skip_tokenizer_init=True, load_format="dummy", enforce_eager=True,
            max_model_len=FEWEST_TOKENS, tensor_parallel_size=tensor, pipeline_parallel_size=stages,
            distributed_executor_backend="mp", **arguments,
        ).create_engine_config()
        group(tensor, stages, stage)
        init_workspace_manager(torch.device("meta"))
        torch.set_default_dtype(self.config.model_config.dtype)
        with torch.device("meta"), on_meta(), set_current_vllm_config(self.config):
            self.module = initialize_model(self.config)
        current_platform.update_block_size_for_backend(self.config)
        self.layers = self.config.model_config.hf_text_config.num_hidden_layers

    def weights(self):
        """Bytes of each layer, and of everything else."""
        per_layer, other, seen = [0] * self.layers, 0, set()
        for name, parameter in [*self.module.named_parameters(), *self.module.named_buffers()]:
            if parameter.data_ptr() and parameter.data_ptr() in seen or "rotary" in name or "cos_sin" in name:
                continue
            size = parameter.numel() * self.item_size(name, parameter)
            index = layer_of(name)
            if index is not None and index < self.layers:
                per_layer[index] += size
            else:
                other += size
        return per_layer, other

    def item_size(self, name, parameter):
        """Bytes of an element once the weights are loaded: methods named Online quantize them to one byte."""
        module = self.module.get_submodule(name.rpartition(".")[0])
        method = type(getattr(module, "quant_method", None)).__name__
        online = "Online" in method or "Fp8" in method and parameter.element_size() == 2
        return 1 if online and parameter.dim() > 1 else parameter.element_size()

    def cache_specs(self):
        """What the cache has for each layer, as GPUModelRunner.get_kv_cache_spec collects it."""
        from vllm.model_executor.layers.attention_layer_base import AttentionLayerBase

        specs = {}
        for name, layer in self.config.compilation_config.static_forward_context.items():
            if not isinstance(layer, AttentionLayerBase) or getattr(layer, "kv_sharing_target_layer_name", None):
                continue
            if spec := layer.get_kv_cache_spec(self.config):
                try:
                    from vllm.v1.worker.utils import customize_attention_spec
                    from vllm.v1.kv_cache_interface import AttentionSpec

                    if isinstance(spec, AttentionSpec):
                        spec = customize_attention_spec(layer.get_attn_backend(), spec)
                except ImportError:
                    pass
                specs[name] = spec
        return specs


    def together(self, stages):
        """Whether each layer that uses another one's cache is on the same stage."""
        for name, layer in self.config.compilation_config.static_forward_context.items():
            target = getattr(layer, "kv_sharing_target_layer_name", None)
            if target and not any(start <= layer_of(name) < end and start <= layer_of(target) < end for start, end in stages):
                return False
        return True


def layer_of(name):
    """The number of the layer in a parameter's or a cache's name; None for what is not in a layer of the language model."""
    if any(word in name for word in ("vision", "visual", "audio", "mtp", "patch")):
        return None
    found = re.search(r"(?:^|\.)(?:layers|h|blocks)\.(\d+)(?:\.|$)", name)
    return int(found.group(1)) if found else None


def runs(values):
    """[how many, value] of neighbours that are alike."""
    out = []
    for value in values:
        if out and out[-1][1] == value:
            out[-1][0] += 1
        else:
            out.append([1, value])
    return out


def weights_of(folder, tensor, **arguments):
    """The model, and its weights on one GPU. Without first, middle and last, the engine makes no pipeline of it."""
    whole = Model(folder, tensor, **arguments)
    layers, alone = whole.weights()
    answer = {"layers": runs(layers), "alone": alone}
    with refusals(folder, tensor, "pipeline"):
        ends = {}
        for name, stages, stage in (("first", 2, 0), ("middle", 3, 1), ("last", 2, 1)):
            _, ends[name] = Model(folder, tensor, stages, stage, **arguments).weights()
        answer.update(ends)
    return whole, answer


def blocks_of(spec, config):
    """[tokens of a block, window, fixed blocks] of a group, checked against the engine's own count."""
    from vllm.v1 import kv_cache_interface as kinds

    inner = next(iter(spec.kv_cache_specs.values())) if isinstance(spec, kinds.UniformTypeKVCacheSpecs) else spec
    if isinstance(inner, kinds.MambaSpec) or type(inner).__name__ == "CircularBufferSpec":
        return [0, 0, -(-inner.max_memory_usage_bytes(config) // inner.page_size_bytes)]
    if isinstance(inner, kinds.SlidingWindowSpec):
        return [inner.block_size, inner.sliding_window, 1]
    if isinstance(inner, kinds.FullAttentionSpec):
        return [inner.block_size, 0, 0]
    raise SystemExit(f"the cache {type(inner).__name__} is new: teach hack/catalogue/shapes.py how many blocks it has")


def held(groups, tokens, in_flight):
    total = 0
    for block, window, fixed in groups:
        kept = min(window - 1 + in_flight, tokens) if window else tokens
        total += fixed + (-(-kept // block) if block else 0)
    return total


def lay_out(config, specs):
    """Chooses the layout of the cache as the engine's core does when it starts."""
    from vllm.config import get_layers_from_vllm_config
    from vllm.model_executor.layers.attention_layer_base import AttentionLayerBase
    from vllm.v1.attention.backends.utils import get_supported_kv_cache_layouts, resolve_kv_cache_layout

    layers = get_layers_from_vllm_config(config, AttentionLayerBase)
    backends = [layers[name].get_attn_backend() for name in specs]
    layouts = [layout.name for layout in get_supported_kv_cache_layouts(backends)]
    layout = resolve_kv_cache_layout(config, [layouts], list(specs.values()))
    config.cache_config.kv_cache_layout = layout.name


def cache_of(model):
    from vllm.distributed.utils import get_pp_indices
    from vllm.v1.core import kv_cache_utils

    config, specs = model.config, model.cache_specs()
    lay_out(config, specs)
    groups = kv_cache_utils.get_kv_cache_groups(config, dict(specs))
    answer = {"groups": [blocks_of(g.kv_cache_spec, config) for g in groups], "stages": {}}
    for stages in range(1, min(MOST_STAGES, model.layers) + 1):
        ends = [get_pp_indices(model.layers, stage, stages) for stage in range(stages)]
        if not model.together(ends):
            continue  # the engine refuses a layer whose cache is on another stage
        sizes = []
        for start, end in ends:
            mine = {n: s for n, s in specs.items() if start <= (layer_of(n) or 0) < end}
            projected = kv_cache_utils._project_kv_cache_groups_to_worker(groups, mine)
            sizes.append(kv_cache_utils._pool_bytes_per_block(config, projected) if mine else 0)
        answer["stages"][str(stages)] = sizes
    for tokens in (FEWEST_TOKENS, 5000, 40000):
        config.model_config.max_model_len = tokens
        own = kv_cache_utils._max_memory_usage_bytes_from_groups(config, groups)
        ours = held(answer["groups"], tokens, config.max_in_flight_tokens) * answer["stages"]["1"][0]
        if own != ours:
            raise SystemExit(f"the engine needs {own} bytes for {tokens} tokens, and we count {ours}: {groups}")
    config.model_config.max_model_len = FEWEST_TOKENS
    return answer


def adapters_of(folder, tensor):
    """(bytes of each further adapter, what the first needs besides) on one GPU; None where the engine serves none."""
    torch, on_meta = engine()
    from vllm.lora.model_manager import create_lora_manager
    from vllm.config import set_current_vllm_config

    sizes = []
    for slots in (1, 2):
        model = Model(folder, tensor, enable_lora=True, max_loras=slots, max_lora_rank=RANK)
        config = model.config
        with torch.device("meta"), on_meta(), set_current_vllm_config(config):
            for module in model.module.modules():
                if "MoE" in type(method := getattr(module, "quant_method", None)).__name__:
                    method.process_weights_after_loading(module)  # chooses the kernel, which adapters are a part of
            manager = create_lora_manager(
                model.module, 16, 2048, config.model_config.get_vocab_size(), config.lora_config, config, torch.device("meta"),
            )
        total = 0
        for module in manager.modules.values():
            for value in vars(module).values():
                for tensor_ in value if isinstance(value, (list, tuple)) else [value]:
                    if isinstance(tensor_, torch.Tensor) and not isinstance(tensor_, torch.nn.Parameter) and tensor_.is_meta:
                        total += tensor_.numel() * tensor_.element_size()
        sizes.append(total)
    return sizes[1] - sizes[0], 2 * sizes[0] - sizes[1]


def shape_of(text):
    fields = {
        "vocabulary": ("vocab_size",), "hidden": ("hidden_size",), "intermediate": ("intermediate_size",),
        "experts": ("num_experts", "n_routed_experts", "num_local_experts"),
        "expertsPerToken": ("num_experts_per_tok", "top_k_experts"),
        "expertIntermediate": ("moe_intermediate_size",),
    }
    out = {}
    for name, candidates in fields.items():
        for candidate in candidates:
            if isinstance(value := getattr(text, candidate, None), int) and value > 0:
                out[name] = value
                break
    return out


@contextlib.contextmanager
def folder_of(config):
    config.pop("auto_map", None)
    with tempfile.TemporaryDirectory() as folder:
        pathlib.Path(folder, "config.json").write_text(json.dumps(config))
        yield folder


def ask(name, config):
    """What the engine says about a model, by the number of GPUs that share a layer."""
    quantized = "quantization_config" in config or "quantization_config" in config.get("text_config", {})
    answer = {"shape": {}, "parallel": {}, "vision": "vision_config" in config, "least": 0}
    with folder_of(config) as folder:
        for tensor in TENSOR_PARALLEL:
            row = None
            with refusals(name, tensor, "weights"):
                model, row = weights_of(folder, tensor)
            if row is None:
                continue
            answer["shape"] = shape_of(model.config.model_config.hf_text_config)
            answer["least"] = least_batch(folder)
            row["cache"] = {}
            for kind in ("auto", "fp8"):
                with refusals(name, tensor, f"cache {kind}"):
                    row["cache"][kind] = cache_of(model if kind == "auto" else Model(folder, tensor, kv_cache_dtype="fp8"))
            if not quantized:
                with refusals(name, tensor, "fp8"):
                    _, row["fp8"] = weights_of(folder, tensor, quantization="fp8")
            with refusals(name, tensor, "adapters"), adapted(folder, config):
                row["adapter"], row["adapters"] = adapters_of(folder, tensor)
            answer["parallel"][str(tensor)] = row
    return answer


@contextlib.contextmanager
def adapted(folder, config):
    """The folder without the weights' own quantization: adapters are of 16 bits, and some kernels that quantized weights
    choose cannot be prepared without data."""
    file = pathlib.Path(folder, "config.json")
    plain = {key: value for key, value in config.items() if key != "quantization_config"}
    if "text_config" in plain:
        plain["text_config"] = {key: value for key, value in plain["text_config"].items() if key != "quantization_config"}
    file.write_text(json.dumps(plain))
    try:
        yield
    finally:
        file.write_text(json.dumps(config))


def least_batch(folder):
    """The fewest tokens of a step that the engine accepts on a GPU whose default is small; 0: that default."""
    from unittest import mock

    from vllm.engine.arg_utils import EngineArgs
    from vllm.usage.usage_lib import UsageContext

    server = UsageContext.OPENAI_API_SERVER
    defaults = classmethod(lambda cls, world_size: ({server: FEWEST_TOKENS}, {server: 256}))
    with mock.patch.object(EngineArgs, "get_batch_defaults", defaults):
        small = EngineArgs(
            model=folder, tokenizer=folder, skip_tokenizer_init=True, load_format="dummy", max_model_len=FEWEST_TOKENS,
        ).create_engine_config(usage_context=server)
    tokens = small.scheduler_config.max_num_batched_tokens
    return tokens if tokens > FEWEST_TOKENS else 0


def table(name, release, answer, entry):
    """The file of a model."""
    out = {"model": name, "release": release, **answer["shape"], "gpus": {}}
    if answer["vision"]:
        out["vision"] = True
    if answer["least"]:
        out["leastBatch"] = answer["least"]
    if entry.get("approximate"):
        out["approximate"] = True
    for tensor, row in answer["parallel"].items():
        share = {key: row[key] for key in ("adapter", "adapters") if row.get(key)}
        names = ("tokens", "window", "fixed")
        share["groups"] = {
            kind: [{n: v for n, v in zip(names, group) if v} for group in cache["groups"]] for kind, cache in row["cache"].items()
        }
        share["pipelines"] = pipelines_of(row)
        out["gpus"][tensor] = share
    return out


def pipelines_of(row):
    out = {}
    weights = spread(row)
    quantized = spread(row["fp8"]) if "fp8" in row else {}
    for stages, sizes in weights.items():
        if any(stages not in cache["stages"] for cache in row["cache"].values()):
            continue
        rows = []
        for stage, size in enumerate(sizes):
            entry = {"weights": size, "block": {kind: cache["stages"][stages][stage] for kind, cache in row["cache"].items()}}
            if stages in quantized:
                entry["fp8"] = quantized[stages][stage]
            if entry not in rows:
                rows.append(entry)
        out[stages] = [r for r in rows if not any(other is not r and exceeds(other, r) for other in rows)]
    return out


def exceeds(a, b):
    """Whether a stage needs at least as much as another one in every respect."""
    return (
        a["weights"] >= b["weights"] and a.get("fp8", 0) >= b.get("fp8", 0)
        and all(a["block"][kind] >= b["block"][kind] for kind in b["block"])
    )


def spread(row):
    """Bytes of the weights on each stage, by the number of stages."""
    from vllm.distributed.utils import get_pp_indices

    layers = [value for count, value in row["layers"] for _ in range(count)]
    out = {"1": [sum(layers) + row["alone"]]}
    for stages in range(2, min(MOST_STAGES, len(layers)) + 1) if "last" in row else ():
        sizes = []
        for stage in range(stages):
            start, end = get_pp_indices(len(layers), stage, stages)
            besides = row["first"] if stage == 0 else row["last"] if stage == stages - 1 else row["middle"]
            sizes.append(sum(layers[start:end]) + besides)
        out[str(stages)] = sizes
    return out


@contextlib.contextmanager
def refusals(name, tensor, question):
    """What the engine refuses has no figures; the log says why."""
    try:
        yield
    except Exception as why:  # noqa: BLE001
        print(f"{name}, {tensor} GPUs, {question}: {type(why).__name__}: {str(why)[:200]}", file=sys.stderr)
        if os.environ.get("SHAPES_TRACE"):
            import traceback

            traceback.print_exc()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--other", metavar="CAPABILITY", help="only models that differ on GPUs of this compute capability, in files of their own")
    parser.add_argument("configs", type=pathlib.Path, help="the folder of the publishers' config.json files")
    parser.add_argument("out", type=pathlib.Path, help="the folder that the files are written to")
    parser.add_argument("models", nargs="*", help="models of configs.yaml; without any, all")
    arguments = parser.parse_args()
    known = configs.Configs(pathlib.Path(__file__).with_name("configs.yaml"), arguments.configs)
    arguments.out.mkdir(parents=True, exist_ok=True)
    names = arguments.models or list(known.models)
    if arguments.other:
        os.environ["PRETEND_CAPABILITY"] = arguments.other.replace(".", ",")
        names = [name for name in names if arguments.other in known.models[name].get("others", ())]
    import vllm  # here, because it asks what GPU there is

    for number, name in enumerate(names, 1):
        print(f"{number} of {len(names)}: {name}", file=sys.stderr, flush=True)
        file = arguments.out / (name.replace("/", "--") + (f"@{arguments.other}" if arguments.other else "") + ".json")
        file.write_text(written(table(name, vllm.__version__, ask(name, known.config(name)), known.models[name])))


def written(value):
    """JSON with a line for each stage, so that a change can be read."""
    text = json.dumps(value, indent=1, sort_keys=True)
    return re.sub(r"\{[^{}]*(?:\{[^{}]*\}[^{}]*)?\}", lambda m: re.sub(r"\s+", " ", m.group(0)), text) + "\n"


if __name__ == "__main__":
    main()
