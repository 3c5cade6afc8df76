"""What Linux says of a processor."""

import pytest
import torch

from insta_rtdetr import processor

X86 = """processor\t: 0
model name\t: AMD EPYC 9000
flags\t\t: fpu avx2 avx512f avx512_bf16 avx512_vnni sse4_2

processor\t: 1
model name\t: another
"""
ARM = "processor\t: 0\nFeatures\t: fp asimd i8mm bf16\n"


@pytest.fixture
def of(monkeypatch, tmp_path):
    """Lets a text be this machine's /proc/cpuinfo."""

    def use(text: str | None) -> None:
        file = tmp_path / f"cpuinfo{len(list(tmp_path.iterdir()))}"
        if text is not None:
            file.write_text(text)
        monkeypatch.setattr(processor, "CPUINFO", file)

    return use


def test_an_x86_processor(of):
    of(X86)
    assert processor.processor_name() == "AMD EPYC 9000"
    assert processor.instruction_sets() == ["AVX2", "AVX-512", "AVX-512 VNNI", "AVX-512 BF16"]
    assert processor.multiplies_bfloat16()
    of(X86.replace("avx512_bf16", "amx_bf16"))
    assert processor.multiplies_bfloat16()
    of(X86.replace("avx512_bf16 ", ""))
    assert not processor.multiplies_bfloat16()


def test_an_arm_processor(of):
    of(ARM)
    assert processor.instruction_sets() == ["NEON", "I8MM", "BF16"]
    assert processor.multiplies_bfloat16() and processor.processor_name()


def test_without_linux_pytorch_tells(of):
    of(None)
    assert processor.instruction_sets() == [torch.backends.cpu.get_cpu_capability()]
    assert not processor.multiplies_bfloat16() and processor.processor_name()
