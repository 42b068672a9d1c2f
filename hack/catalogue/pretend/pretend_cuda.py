# SPDX-License-Identifier: Apache-2.0
"""A platform plugin for vLLM: a GPU that is not there, so that its command line can be read on any machine."""

from vllm.platforms.interface import Platform, PlatformEnum


class PretendedCuda(Platform):
    _enum = PlatformEnum.CUDA
    device_name = "cuda"
    device_type = "cuda"
    dispatch_key = "CUDA"


def register():
    return "pretend_cuda.PretendedCuda"
