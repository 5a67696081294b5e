import os

from deploy.cpu import CpuInfo, cpu_info, has_vnni, parse_cpuinfo

X86 = """processor\t: 0
model name\t: Some CPU @ 2.00GHz
flags\t\t: fpu sse4_1 avx f16c fma avx2 avx512f avx512_vnni amx_int8 amx_tile rdrand

processor\t: 1
model name\t: Some CPU @ 2.00GHz
flags\t\t: fpu
"""
ARM = """processor\t: 0
BogoMIPS\t: 50.00
Features\t: fp asimd evtstrm asimdhp asimddp i8mm bf16
CPU implementer\t: 0x41
"""


def test_x86_flags_are_read_and_reduced_to_the_relevant_ones() -> None:
    model, isa = parse_cpuinfo(X86)
    assert model == "Some CPU @ 2.00GHz"
    assert isa == (
        "amx_int8", "amx_tile", "avx", "avx2", "avx512_vnni", "avx512f", "f16c", "fma", "sse4_1",
    )  # fmt: skip


def test_arm_features_are_read() -> None:
    assert parse_cpuinfo(ARM) == ("", ("asimd", "asimddp", "asimdhp", "bf16", "i8mm"))


def test_text_without_flags_gives_nothing() -> None:
    assert parse_cpuinfo("") == ("", ())


def test_vnni_is_told_from_the_flags() -> None:
    def cpu(*isa: str) -> CpuInfo:
        return CpuInfo("", "x86_64", isa, 1)

    assert has_vnni(cpu("avx2", "avx_vnni"))
    assert has_vnni(cpu("avx512f", "avx512_vnni"))
    assert not has_vnni(cpu("avx2", "fma", "avx512f"))
    assert not has_vnni(cpu())


def test_this_machine_is_described() -> None:
    cpu = cpu_info()
    assert cpu.architecture == os.uname().machine
    assert cpu.cores >= 1
    assert has_vnni() == has_vnni(cpu)
