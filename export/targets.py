"""The targets: which number formats and which graph each runtime executes best."""

import platform
from collections.abc import Mapping
from dataclasses import dataclass

from deploy.cpu import has_vnni
from quant.encoding import ActivationCodes, Encoding, WeightGuard
from quant.errors import BadInput

__all__ = ["GUARDS", "TARGETS", "AttentionLimits", "Target", "get_target"]

GUARDS = ("auto", "on", "off", "seven_bits")


@dataclass(frozen=True)
class AttentionLimits:
    """Which attention a target computes in INT8.

    Attributes:
        head_sizes: channels of a head.
        tokens: the longest sequence.
    """

    head_sizes: tuple[int, ...]
    tokens: int


@dataclass(frozen=True)
class Target:
    """A runtime on a kind of hardware.

    Attributes:
        name: as written in configurations.
        description: one line.
        activations: codes of activations.
        saturates: whether its u8 × s8 kernels may saturate, so that weights need a guard.
        dropped_roles: roles it does not want quantized.
        matmul_patches: run convolutions with kernel = stride as matrix products.
        integer_bias: write the biases of Gemm as int32, without which it is not run in integers.
        half_remainder: write everything that stays float in float16.
        fused_attention: write float attention as one operator.
        packed_weights: run weight-only products and grouped weights as com.microsoft MatMulNBits.
        simulates_fp8: it has no FP8 kernels, so FP8 is rounded by casts and multiplied in float32.
        weight_blocks: the group sizes of 4-bit weights that it takes, weight-only and symmetric; empty where
            it takes any.
        integer_attention: which attention it multiplies in INT8; None where it takes any.
        opset: the newest operator set that it reads; None where it reads every one that is exported.
        float_weights: store quantized weights in float32, on the grid of their codes: it has no other.
    """

    name: str
    description: str
    activations: ActivationCodes
    saturates: bool = False
    dropped_roles: frozenset[str] = frozenset()
    matmul_patches: bool = False
    integer_bias: bool = False
    half_remainder: bool = False
    fused_attention: bool = False
    packed_weights: bool = False
    simulates_fp8: bool = False
    weight_blocks: tuple[int, ...] = ()
    integer_attention: AttentionLimits | None = None
    opset: int | None = None
    float_weights: bool = False

    @property
    def lowers_float(self) -> bool:
        """Whether the float model gets a graph or numbers of its own for it."""
        return self.fused_attention or self.half_remainder or self.opset is not None

    @property
    def runs_here(self) -> bool:
        """Whether this machine's ONNX Runtime executes it as the target does."""
        return self.name == "ort-x86" and platform.machine().lower() in ("x86_64", "amd64")

    def encoding(self, guard: str = "auto") -> Encoding:
        """The number formats.

        Args:
            guard: ``on`` protects the rows that could overflow 16-bit sums, ``seven_bits`` all of them,
                ``off`` none; ``auto`` is ``on`` where this machine's CPU lacks VNNI.

        Raises:
            BadInput: another word.
        """
        if guard not in GUARDS:
            raise BadInput(f"saturation_guard '{guard}' is unknown; allowed: {', '.join(GUARDS)}")
        if guard == "auto":
            guard = "off" if has_vnni() else "on"
        guards = {
            "on": WeightGuard.PAIRS,
            "off": WeightGuard.NONE,
            "seven_bits": WeightGuard.SEVEN_BITS,
        }
        chosen = guards[guard] if self.saturates else WeightGuard.NONE
        return Encoding(self.activations, chosen, self.dropped_roles, half_scales=self.half_remainder)


_TENSORRT_ATTENTION = AttentionLimits((16, 32, 64), 512)

TARGETS: Mapping[str, Target] = {
    target.name: target
    for target in (
        Target(
            name="ort-x86",
            description="ONNX Runtime on x86-64: u8 activations, s8 weights",
            activations=ActivationCodes.UNSIGNED,
            saturates=True,
            matmul_patches=True,
            integer_bias=True,
            fused_attention=True,
            packed_weights=True,
            simulates_fp8=True,
        ),
        Target(
            name="ort-arm64",
            description="ONNX Runtime on 64-bit ARM: s8 activations and weights",
            activations=ActivationCodes.SIGNED,
            matmul_patches=True,
            integer_bias=True,
            packed_weights=True,
            simulates_fp8=True,
        ),
        Target(
            name="tensorrt",
            description="TensorRT 10 and later: s8 symmetric, float16 remainder, strongly typed",
            activations=ActivationCodes.SIGNED_SYMMETRIC,
            dropped_roles=frozenset({"conv.output"}),
            half_remainder=True,
            weight_blocks=(64, 128),
            integer_attention=_TENSORRT_ATTENTION,
        ),
        Target(
            name="tensorrt8",
            description="TensorRT 8.5 and 8.6: s8 symmetric, float32 in the file, precision by builder flags",
            activations=ActivationCodes.SIGNED_SYMMETRIC,
            dropped_roles=frozenset({"conv.output"}),
            integer_attention=_TENSORRT_ATTENTION,
            opset=17,
            float_weights=True,
        ),
    )
}


def get_target(name: str) -> Target:
    """The target called ``name``.

    Raises:
        BadInput: there is none.
    """
    if name not in TARGETS:
        raise BadInput(f"unknown target '{name}'; known: {', '.join(TARGETS)}")
    return TARGETS[name]
