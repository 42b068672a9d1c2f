"""A GPU whose memory is too small: what was short, and what would do with less."""

import gc

GIB = 1 << 30


def is_short(error):
    import torch

    return isinstance(error, torch.cuda.OutOfMemoryError)


def smaller(args):
    """(per_device_train_batch_size, gradient_accumulation_steps) of the same steps in smaller parts, or None."""
    batch = args.per_device_train_batch_size
    for part in range(batch // 2, 0, -1):
        if batch % part == 0:
            return part, args.gradient_accumulation_steps * (batch // part)
    return None


def may_shrink(settings, world_size):
    """Whether the user lets the trainer take smaller parts by itself. Ranks would have to agree on it, so one process only."""
    return bool(settings.config.get("trainer", {}).get("auto_find_batch_size")) and world_size == 1


def release():
    """Give back what the failed attempt held."""
    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def explain(error, args, quantized):
    """The arithmetic, and what to change."""
    import torch

    text = str(error).splitlines()[0] if str(error) else "out of memory"
    if torch.cuda.is_available():
        _, total = torch.cuda.mem_get_info()
        text = "the GPU has %.2f GiB, of which the training has used up to %.2f GiB: %s" % (total / GIB, torch.cuda.max_memory_allocated() / GIB, text)
    batch, length = args.per_device_train_batch_size, args.max_length
    text += "; a part of a step is %d x %s tokens (per_device_train_batch_size x max_length)" % (batch, length)
    proposal = smaller(args)
    if proposal:
        return text + (
            "; per_device_train_batch_size %d with gradient_accumulation_steps %d trains the same in 1/%d of the memory for activations:"
            " set them, or auto_find_batch_size: true, which has the trainer do so by itself" % (*proposal, batch // proposal[0])
        )
    ways = ["lower max_length" if not length else "lower max_length, to %d for a start" % (length // 2), "set gradient_checkpointing"]
    if not quantized:
        ways.append("use method qlora")
    return text + "; the part cannot be smaller: %s, or choose a larger size" % ", ".join(ways)
