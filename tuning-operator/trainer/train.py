"""Fine-tune a model with TRL's SFTTrainer. The run can be stopped at any time and resumed.

The settings come from the environment variables KAITO_*, which the tuning-operator sets. The reports go through report.py.
The arguments of TRL and PEFT are passed on unchanged.
"""

import hashlib
import inspect
import json
import math
import os
import pathlib
import shutil
import signal
import sys
import time

import checkpoint
import data
import lengths
import memory
from report import Failure, Preempted, Reporter, exit_code, write_result

# Number of consecutive logged losses that are NaN or infinite before the run fails: mixed precision skips single ones.
MAX_NAN = 3


class Settings:
    """The settings from the environment."""

    def __init__(self, env):
        self.config = json.loads(env["KAITO_TRAINING_CONFIG"])
        if self.config.get("version") != 1:
            raise Failure("ConfigInvalid", "the training configuration has version %r, but this trainer supports version 1" % self.config.get("version"))
        self.model = env["KAITO_MODEL_DIR"]
        self.data = env["KAITO_DATA_DIR"]
        self.adapter = env["KAITO_ADAPTER_DIR"]
        self.checkpoints = env["KAITO_CHECKPOINT_DIR"]
        self.every = int(env.get("KAITO_CHECKPOINT_STEPS", "100"))
        self.keep = int(env.get("KAITO_CHECKPOINT_KEEP", "2"))
        self.base_model = env.get("KAITO_BASE_MODEL", "")
        self.parts = {}
        self.template = None  # the chat template, where turns are trained
        # A checkpoint of another configuration, model or dataset is not resumed. The facts are what the runner has fetched.
        parts = [self.config, self.base_model]
        if path := env.get("KAITO_FACTS_FILE"):
            facts = json.loads(pathlib.Path(path).read_text())
            parts += [facts.get("baseRevision"), facts.get("datasetDigest")]
        self.fingerprint = hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]

    def shrink(self, batch, accumulation):
        """Use smaller parts of the same steps. Checkpoints stay valid."""
        self.parts = {"per_device_train_batch_size": batch, "gradient_accumulation_steps": accumulation}


def dtype_for(name):
    """Return the requested torch dtype, or float16 if this device has no bfloat16."""
    import torch

    if not torch.cuda.is_available():
        return torch.float32
    # V100 and T4 (compute capability below 8.0) have no bfloat16.
    bfloat16 = torch.cuda.get_device_capability()[0] >= 8
    wanted = getattr(torch, str(name).removeprefix("torch."), None) if name and name != "auto" else torch.bfloat16
    if not isinstance(wanted, torch.dtype):
        raise Failure("ConfigInvalid", "ModelConfig.torch_dtype is %r, which is not a dtype of torch" % name)
    return torch.float16 if wanted is torch.bfloat16 and not bfloat16 else wanted


def construct(section, kind, args):
    """Return a configuration object of a library. Its errors are permanent."""
    try:
        return kind(**args)
    except (TypeError, ValueError) as error:
        raise Failure("ConfigInvalid", "%s: %s" % (section, error)) from error


def quantization(settings):
    """Return the configuration of the quantizer, or None."""
    from transformers import BitsAndBytesConfig

    args = dict(settings.config.get("quantization") or {})
    if not args:
        return None
    if "bnb_4bit_compute_dtype" in args:
        args["bnb_4bit_compute_dtype"] = dtype_for(args["bnb_4bit_compute_dtype"])
    return construct("QuantizationConfig", BitsAndBytesConfig, args)


def load_model(settings, reporter):
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    args = dict(settings.config.get("model", {}))
    dtype = dtype_for(args.pop("torch_dtype", None))
    trust = bool(args.pop("trust_remote_code", False))
    if quantized := quantization(settings):
        args["quantization_config"] = quantized
    if torch.cuda.is_available():
        # One replica per GPU: each process has the model on its own device.
        args["device_map"] = {"": int(os.environ.get("LOCAL_RANK", "0"))}
    tokenizer = AutoTokenizer.from_pretrained(settings.model, trust_remote_code=trust)
    template = settings.config.get("chatTemplate")
    if template:
        tokenizer.chat_template = template
    model = AutoModelForCausalLM.from_pretrained(settings.model, torch_dtype=dtype, trust_remote_code=trust, **args)
    reporter.event("loaded", str(dtype), parameters=model.num_parameters())
    return model, tokenizer, dtype


def arguments(settings, dtype):
    """Return TRL's configuration: the user's settings, and then those of the job."""
    import torch
    from trl import SFTConfig

    args = {**settings.config.get("trainer", {}), **settings.parts}
    args.pop("auto_find_batch_size", None)  # the trainer's own version keeps the steps, the checkpoints and the learning rate
    unknown = set(args) - set(inspect.signature(SFTConfig.__init__).parameters)
    if unknown:
        raise Failure("ConfigInvalid", "TrainingArguments: TRL's SFTConfig has no %s; correct or remove it" % ", ".join(sorted(unknown)))
    gpu = torch.cuda.is_available() and not args.get("use_cpu")
    args.update(
        output_dir=settings.checkpoints, save_strategy="steps", save_steps=settings.every, save_total_limit=None,
        report_to="none", logging_strategy="steps", logging_nan_inf_filter=False, disable_tqdm=True,
        bf16=gpu and dtype is torch.bfloat16, fp16=gpu and dtype is torch.float16, use_cpu=not gpu,
    )
    args.setdefault("seed", 42)
    if args.get("gradient_checkpointing", True):
        # DDP refuses the reentrant kind for adapters, because it recomputes inside backward. The other kind always works.
        args.setdefault("gradient_checkpointing_kwargs", {"use_reentrant": False})
    return construct("TrainingArguments", SFTConfig, args)


def load_data(settings, tokenizer, args, reporter):
    """Return (training set, held-out set or None)."""
    config = settings.config["dataset"]
    rows = data.load(settings.data, config)
    if tokenizer.chat_template and "text" not in rows.column_names:
        rows = data.as_turns(rows)
        # Some models have several templates, one of them for tools.
        settings.template = tokenizer.get_chat_template(tools=[] if "tools" in rows.column_names else None)
    if not args.packing or args.packing_strategy != "wrapped":  # that one cuts no row off, it continues it
        rows = lengths.check(rows, tokenizer, args.max_length, config.get("maxTruncatedAnswers", lengths.ALLOWED), reporter)
    return data.split(rows, config)


def keep_the_order_when_resuming():
    """Resume the second and later epochs with the correct rows.

    accelerate (1.12, skip_first_batches) creates a new loader for the rest of an epoch. It counts its epochs from 0 and
    shuffles as in the first one. This patch copies the epoch of the original loader.
    """
    import transformers.trainer as library

    original = library.skip_first_batches

    def skip(loader, batches=0):
        rest = original(loader, batches)
        if hasattr(loader, "iteration") and hasattr(rest, "iteration"):
            rest.iteration = loader.iteration
        return rest

    library.skip_first_batches = skip


def keep_adapters_in_32_bits(model):
    """Keep the adapter of a quantized model in float32, as PEFT does for other models and after loading a checkpoint.

    TRL (0.26) uses bfloat16 for the adapter of a quantized model, but PEFT loads it from a checkpoint as float32. A resumed
    run would give other numbers than an uninterrupted one. float32 also permits the scaling of float16 without bfloat16.
    """
    import torch

    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.to(torch.float32)


def make_trainer(settings, reporter, stop):
    from peft import LoraConfig
    from transformers import PrinterCallback
    from trl import SFTTrainer

    model, tokenizer, dtype = load_model(settings, reporter)
    args = arguments(settings, dtype)
    train, held_out = load_data(settings, tokenizer, args, reporter)
    trainer = SFTTrainer(
        model=model, args=args, processing_class=tokenizer, peft_config=construct("LoraConfig", LoraConfig, settings.config["lora"]),
        train_dataset=train, eval_dataset=held_out if args.eval_strategy != "no" else None,
    )
    keep_adapters_in_32_bits(trainer.model)
    trainer.remove_callback(PrinterCallback)  # prints Python dicts between the JSON lines
    trainer.add_callback(make_callback(settings, reporter, stop))
    return trainer


def make_callback(settings, reporter, stop):
    from transformers import TrainerCallback

    class Watch(TrainerCallback):
        """Reports progress, marks checkpoints, and stops on SIGTERM."""

        def __init__(self):
            self.nan = 0
            self.started = self.before = time.monotonic()
            self.tokens = 0

        def on_train_begin(self, args, state, control, **_):
            self.started = self.before = time.monotonic()
            reporter.update(fromStep=state.global_step, step=state.global_step, totalSteps=state.max_steps, checkpointStep=state.global_step)

        def on_log(self, args, state, control, logs=None, **_):
            logs = logs or {}
            if "loss" not in logs:
                return
            now = time.monotonic()
            figures = {"loss": logs["loss"], "learningRate": logs.get("learning_rate"), "epoch": state.epoch}
            tokens = logs.get("num_tokens")
            if tokens is not None and now > self.before:
                if self.tokens:
                    figures["tokensPerSecond"] = (tokens - self.tokens) / (now - self.before)
                self.tokens, self.before = tokens, now
            reporter.update(step=state.global_step, totalSteps=state.max_steps, elapsedSeconds=now - self.started, **figures)
            self.nan = 0 if math.isfinite(logs["loss"]) else self.nan + 1
            if self.nan >= MAX_NAN:
                raise Failure("TrainingDiverged", "the loss was not a finite number %d times in a row, at step %d; lower TrainingArguments.learning_rate, or check the data" % (self.nan, state.global_step))

        def on_step_end(self, args, state, control, **_):
            if stop.agreed():
                control.should_save = True
                control.should_training_stop = True
            return control

        def on_save(self, args, state, control, **_):
            if state.is_world_process_zero:
                checkpoint.mark(os.path.join(settings.checkpoints, "checkpoint-%d" % state.global_step), state.global_step, settings.fingerprint)
                checkpoint.prune(settings.checkpoints, settings.keep)
            reporter.update(checkpointStep=state.global_step, step=state.global_step)

    return Watch()


class Stop:
    """Return whether any rank got SIGTERM. All ranks stop together: one that stopped alone would block the others."""

    def __init__(self):
        self.asked = False
        signal.signal(signal.SIGTERM, self._ask)

    def _ask(self, *_):
        self.asked = True

    def agreed(self):
        import torch
        import torch.distributed as dist

        if not (dist.is_available() and dist.is_initialized()):
            return self.asked
        device = "cuda" if dist.get_backend() == "nccl" else "cpu"
        flag = torch.tensor([int(self.asked)], device=device)
        dist.all_reduce(flag, op=dist.ReduceOp.MAX)
        self.asked = bool(flag.item())
        return self.asked


def resume_from(settings, reporter):
    """Return the latest complete checkpoint of this configuration."""
    if os.environ.get("RANK", "0") == "0":
        checkpoint.discard_broken(settings.checkpoints)
    step, path = checkpoint.latest(settings.checkpoints)
    if path is None:
        return None
    if checkpoint.fingerprint(path) != settings.fingerprint:
        raise Failure("CheckpointInvalid", "the checkpoint volume has checkpoints of another training configuration, model or dataset (%s); empty it, or use another volume" % path)
    reporter.event("resuming", path, step=step)
    return path


def save_adapter(trainer, settings):
    """Move the complete adapter to the folder that push reads."""
    temporary = settings.adapter + ".part"
    shutil.rmtree(temporary, ignore_errors=True)
    model = trainer.accelerator.unwrap_model(trainer.model)
    if settings.base_model:
        for config in model.peft_config.values():
            config.base_model_name_or_path = settings.base_model
    model.save_pretrained(temporary)
    for name in os.listdir(temporary):  # PEFT's model card names folders of this pod
        if name not in ("adapter_config.json", "adapter_model.safetensors"):
            os.remove(os.path.join(temporary, name))
    if settings.template:  # the adapter is served with it
        pathlib.Path(temporary, "chat_template.jinja").write_text(settings.template)
    shutil.rmtree(settings.adapter, ignore_errors=True)
    os.replace(temporary, settings.adapter)


def train(settings, reporter, stop):
    from transformers import set_seed

    set_seed(settings.config.get("trainer", {}).get("seed", 42))
    keep_the_order_when_resuming()
    trainer = None
    while trainer is None:
        trainer = attempt(settings, reporter, stop)
    if stop.asked and trainer.state.global_step < trainer.state.max_steps:
        raise Preempted()
    if trainer.is_world_process_zero():
        save_adapter(trainer, settings)
    trainer.accelerator.wait_for_everyone()


def attempt(settings, reporter, stop):
    """Train to the end, or until stopped. Return None if another attempt with smaller parts may need less memory."""
    trainer = make_trainer(settings, reporter, stop)
    resume = resume_from(settings, reporter)
    try:
        trainer.train(resume_from_checkpoint=resume)
        return trainer
    except (OSError, ValueError, RuntimeError, KeyError) as error:
        if memory.is_short(error):
            proposal = memory.smaller(trainer.args)
            if not proposal or not memory.may_shrink(settings, trainer.args.world_size):
                raise Failure("GPUOutOfMemory", memory.explain(error, trainer.args, bool(settings.config.get("quantization")))) from error
            text = memory.explain(error, trainer.args, bool(settings.config.get("quantization")))
        elif resume and trainer.state.global_step == 0:
            raise Failure("CheckpointInvalid", "resuming from %s: %s" % (resume, error)) from error
        else:
            raise
    # Outside of the handler, whose traceback references the tensors of the failed attempt.
    settings.shrink(*proposal)
    reporter.event("smallerParts", text, perDeviceTrainBatchSize=proposal[0], gradientAccumulationSteps=proposal[1])
    del trainer
    memory.release()
    return None


def cause_of(error):
    """Return the error that began it: the libraries wrap errors of their processes."""
    while error.__cause__ is not None:
        error = error.__cause__
    return error


def explain(error, begun):
    """Return the Failure for an error of the libraries. begun: a step was trained."""
    if isinstance(error, (Failure, Preempted)):
        return error
    if memory.is_short(error):  # before the first step: only the model is in memory
        return Failure("GPUOutOfMemory", "the GPU's memory is too small for the model itself: %s; use method qlora, or choose a larger size" % str(error).splitlines()[0])
    cause = cause_of(error)
    text = "%s: %s" % (type(cause).__name__, cause)
    # Before the first step, only the configuration, the model and the data have been read: another attempt reads the same.
    repeats = not begun and not isinstance(cause, (OSError, RuntimeError, MemoryError)) or isinstance(cause, ImportError)
    return Failure("TrainingFailed", text, permanent=repeats)


def main(env):
    stop = Stop()
    local_rank = env.get("LOCAL_RANK", "0")
    reporter = Reporter(speaks=local_rank == "0", port=int(env.get("KAITO_PROGRESS_PORT", "0")))
    paths = [env.get("KAITO_TERMINATION_LOG"), env.get("KAITO_RESULT_FILE")]
    try:
        train(Settings(env), reporter, stop)
    except Preempted:
        raw = reporter.result(preempted=True)
    except Exception as error:
        import traceback

        traceback.print_exc()
        raw = reporter.result(failure=explain(error, begun=reporter.train["step"] > reporter.train["fromStep"]))
        write_result(raw, *paths, first=True)
        return exit_code(raw)
    else:
        raw = reporter.result()
    if local_rank == "0":
        write_result(raw, *paths)
    reporter.close()
    return exit_code(raw)


if __name__ == "__main__":
    sys.exit(main(os.environ))
