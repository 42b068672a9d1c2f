# SPDX-License-Identifier: Apache-2.0
"""A platform plugin for vLLM: a GPU that is not there, so that its command line, its configuration and its models can be
looked at on any machine. PRETEND_CAPABILITY (9,0) and PRETEND_GIB (79.1) say what GPU it is."""

import os
import sys
import types

CAPABILITY = tuple(int(part) for part in os.environ.get("PRETEND_CAPABILITY", "9,0").split(","))
MEMORY = int(float(os.environ.get("PRETEND_GIB", "79.1")) * 2**30)
# A GPU of each kind, and the shared memory of a block, by the lowest capability (NVIDIA, CUDA C++ Programming Guide, technical specifications).
NAME, SHARED_MEMORY = next(kind[1:] for kind in (
    ((12, 0), "NVIDIA RTX PRO 6000 Blackwell Server Edition", 101376),
    ((9, 0), "NVIDIA H100 80GB HBM3", 232448),
    ((0, 0), "NVIDIA A100 80GB PCIe", 166912),
) if CAPABILITY >= kind[0])
DEVICES = 8
PROCESSORS = 108


def register():
    """The class of the platform. From here on, everything that asks for a GPU is answered."""
    for extension in ("vllm._C", "vllm._moe_C"):
        try:
            __import__(extension)
        except ImportError:  # this release has it under another name
            sys.modules[extension] = types.ModuleType(extension)
    pretend_torch()
    pretend_triton()
    return "pretend_platform.PretendedCuda"


def pretend_torch():
    import torch

    class Stream:
        def __init__(self, *args, **kwargs):
            pass

    properties = types.SimpleNamespace(
        total_memory=MEMORY, name=NAME, major=CAPABILITY[0], minor=CAPABILITY[1], multi_processor_count=PROCESSORS,
    )
    torch.cuda.device_count = lambda: DEVICES
    torch.cuda.is_available = lambda: True
    torch.cuda.get_device_capability = lambda *_, **__: CAPABILITY
    torch.cuda.get_device_name = lambda *_, **__: NAME
    torch.cuda.get_device_properties = lambda *_, **__: properties
    torch.cuda.set_device = lambda *_, **__: None
    torch.cuda.current_device = lambda *_, **__: 0
    torch.cuda.Stream = torch.cuda.Event = Stream


def pretend_triton():
    """Kernels ask for the properties of the GPU when their modules are loaded."""
    try:
        from triton.runtime.driver import driver
    except ImportError:
        return
    if not hasattr(driver, "set_active"):
        return
    shared = {"max_shared_mem": SHARED_MEMORY, "multiprocessor_count": PROCESSORS}
    target = types.SimpleNamespace(backend="cuda", arch=CAPABILITY[0] * 10 + CAPABILITY[1], warp_size=32)
    driver.set_active(types.SimpleNamespace(
        get_current_target=lambda: target, get_current_device=lambda: 0,
        utils=types.SimpleNamespace(get_device_properties=lambda _: shared),
    ))
