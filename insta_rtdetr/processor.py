"""What the processor is, and what it can compute with."""

import functools
import platform
from pathlib import Path

import torch

# Linux' name of an instruction set -> the usual one, of those that decide how fast a network is.
INSTRUCTION_SETS = {
    "avx2": "AVX2", "avx512f": "AVX-512", "avx_vnni": "AVX-VNNI", "avx512_vnni": "AVX-512 VNNI",
    "avx512_bf16": "AVX-512 BF16", "amx_int8": "AMX INT8", "amx_bf16": "AMX BF16",
    "asimd": "NEON", "i8mm": "I8MM", "bf16": "BF16",
}  # fmt: skip
CPUINFO = Path("/proc/cpuinfo")


def processor_name() -> str:
    """Model of the processor, as Linux names it; elsewhere what Python knows."""
    return _cpuinfo(CPUINFO).get("model name") or platform.processor() or platform.machine()


def instruction_sets() -> list[str]:
    """The processor's, of `INSTRUCTION_SETS`, as Linux lists them; elsewhere what PyTorch uses."""
    info = _cpuinfo(CPUINFO)
    flags = (info.get("flags") or info.get("Features", "")).split()
    found = [name for flag, name in INSTRUCTION_SETS.items() if flag in flags]
    return found or [torch.backends.cpu.get_cpu_capability()]


def multiplies_bfloat16() -> bool:
    """Whether the processor has instructions for products of bfloat16, without which it is slower than float32."""
    return any(name.endswith("BF16") for name in instruction_sets())


@functools.cache
def _cpuinfo(file: Path) -> dict[str, str]:
    """What is told of the first core; empty where there is no such file."""
    if not file.is_file():
        return {}
    core = file.read_text().partition("\n\n")[0]
    pairs = (line.partition(":") for line in core.splitlines())
    return {key.strip(): value.strip() for key, _, value in pairs}
