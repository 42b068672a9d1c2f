"""A GPU whose memory is too small: the cause, and settings that need less memory."""

import gc

GIB = 1 << 30


def is_short(error):
    import torch

    return isinstance(error, torch.cuda.OutOfMemoryError)


def smaller(args):
    """Return (per_device_train_batch_size, gradient_accumulation_steps) for the same steps in smaller parts, or None."""
    batch = args.per_device_train_batch_size
    for part in range(batch // 2, 0, -1):
        if batch % part == 0:
            return part, args.gradient_accumulation_steps * (batch // part)
    return None


def may_shrink(settings, world_size):
    """Return whether the trainer may use smaller parts. With several processes it may not: ranks would have to agree."""
    return bool(settings.config.get("trainer", {}).get("auto_find_batch_size")) and world_size == 1


def release():
    """Release the memory of the failed attempt."""
    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def explain(error, args, quantized):
    """Return a message with the memory that was needed and the settings to change."""
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
            "; per_device_train_batch_size %d with gradient_accumulation_steps %d gives the same steps with 1/%d of the memory for activations:"
            " set them, or auto_find_batch_size: true, so that the trainer does it automatically" % (*proposal, batch // proposal[0])
        )
    ways = ["lower max_length" if not length else "lower max_length, for example to %d" % (length // 2), "set gradient_checkpointing"]
    if not quantized:
        ways.append("use method qlora")
    return text + "; the part cannot be smaller: %s, or choose a larger size" % ", ".join(ways)
