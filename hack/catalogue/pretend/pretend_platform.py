# SPDX-License-Identifier: Apache-2.0
"""vLLM's platform for CUDA, without a driver."""

from pretend_cuda import CAPABILITY, DEVICES, MEMORY, NAME, PROCESSORS
from vllm.platforms import cuda
from vllm.platforms.interface import DeviceCapability


class PretendedCuda(cuda.NonNvmlCudaPlatform):
    @classmethod
    def get_device_capability(cls, device_id=0):
        return DeviceCapability(*CAPABILITY)

    @classmethod
    def get_device_name(cls, device_id=0):
        return NAME

    @classmethod
    def get_device_uuid(cls, device_id=0):
        return "GPU-0"

    @classmethod
    def get_device_total_memory(cls, device_id=0):
        return MEMORY

    @classmethod
    def is_fully_connected(cls, ids):
        return True

    @classmethod
    def device_count(cls):
        return DEVICES

    @classmethod
    def log_warnings(cls):
        pass

    @classmethod
    def num_compute_units(cls, device_id=0):
        return PROCESSORS
