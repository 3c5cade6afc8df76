"""The processor's name and its instruction sets."""

import functools
import platform
from pathlib import Path

import torch

# Linux's name of an instruction set -> the usual name, for those that affect the speed of networks.
INSTRUCTION_SETS = {
    "avx2": "AVX2", "avx512f": "AVX-512", "avx_vnni": "AVX-VNNI", "avx512_vnni": "AVX-512 VNNI",
    "avx512_bf16": "AVX-512 BF16", "amx_int8": "AMX INT8", "amx_bf16": "AMX BF16",
    "asimd": "NEON", "i8mm": "I8MM", "bf16": "BF16",
}  # fmt: skip
CPUINFO = Path("/proc/cpuinfo")


def processor_name() -> str:
    """Return the processor's model on Linux, and Python's description of it elsewhere."""
    return _cpuinfo(CPUINFO).get("model name") or platform.processor() or platform.machine()


def instruction_sets() -> list[str]:
    """Return which `INSTRUCTION_SETS` the processor has on Linux, and the one that PyTorch uses elsewhere."""
    info = _cpuinfo(CPUINFO)
    flags = (info.get("flags") or info.get("Features", "")).split()
    found = [name for flag, name in INSTRUCTION_SETS.items() if flag in flags]
    return found or [torch.backends.cpu.get_cpu_capability()]


def multiplies_bfloat16() -> bool:
    """Return whether the processor has instructions for bfloat16, which is slower than float32 without them."""
    return any(name.endswith("BF16") for name in instruction_sets())


@functools.cache
def _cpuinfo(file: Path) -> dict[str, str]:
    """Read the description of the first core; return an empty dict if there is no such file."""
    if not file.is_file():
        return {}
    core = file.read_text().partition("\n\n")[0]
    pairs = (line.partition(":") for line in core.splitlines())
    return {key.strip(): value.strip() for key, _, value in pairs}
