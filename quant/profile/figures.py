"""What a profile says: one record per layer and block, and the figures of the whole model."""

from dataclasses import dataclass

from quant.profile.histogram import Histogram

__all__ = [
    "OUTLIER_SIGMAS",
    "BlockProfile",
    "Comparison",
    "EndToEnd",
    "InputProfile",
    "Isolated",
    "LayerProfile",
    "OutlierLine",
    "Profile",
    "WeightProfile",
]

OUTLIER_SIGMAS = 3.0
"""A value farther than this many standard deviations from the mean of its tensor is an outlier."""


@dataclass(frozen=True, eq=False)
class Comparison:
    """A tensor of the quantized graph against the same tensor of the float graph, over all images.

    Both graphs run from the images on, so the error has accumulated over everything in front of the tensor.

    Attributes:
        qsnr_db: signal to quantization noise, in dB.
        mse: mean squared error.
        cosine: cosine similarity.
        kl: KL divergence of the distribution of values, in nats; see :meth:`Histogram.kl`.
        float_outliers: share of the float values beyond :data:`OUTLIER_SIGMAS`, 0 to 1.
        quantized_outliers: share of the quantized values beyond :data:`OUTLIER_SIGMAS` of their own.
        histogram: of the values.
    """

    qsnr_db: float
    mse: float
    cosine: float
    kl: float
    float_outliers: float
    quantized_outliers: float
    histogram: Histogram


@dataclass(frozen=True)
class Isolated:
    """The error a layer makes by itself: fed with the float graph's input, all else float.

    Attributes:
        qsnr_db: of its output, in dB.
        weight_share: how much of the noise the weight makes, 0 to 1: N_w / (N_w + N_a), where N_w is the
            noise with only the weight quantized, and N_a what quantizing the input adds to that output.
        mean_shift: how much of the noise is a constant offset of each output channel, 0 to 1:
            Σ_c n mean_c(e)² / Σ e².
    """

    qsnr_db: float
    weight_share: float
    mean_shift: float


@dataclass(frozen=True)
class WeightProfile:
    """A quantized weight.

    Attributes:
        bits: width of its codes.
        granularity: as in :class:`quant.spec.QuantSpec`.
        sqnr_db: quantized against the float weight before tuning, in dB.
    """

    bits: int
    granularity: str
    sqnr_db: float


@dataclass(frozen=True)
class InputProfile:
    """What a layer reads, in the float graph, and what its quantizer does to it.

    Attributes:
        source: ``layer_norm``, ``gelu``, ``softmax`` or ``other``: what computes it.
        bits: width of its codes, None where it stays float.
        channel_ratio: largest channel's peak magnitude over the median channel's. Channels that a side path
            carries are left out, here and below.
        range_sigmas: width of the values' range in standard deviations.
        clipped: share of the values beyond the quantizer's range, 0 to 1.
        clipping_share: their share of the noise, 0 to 1; the rest is rounding.
    """

    source: str
    bits: int | None
    channel_ratio: float
    range_sigmas: float
    clipped: float
    clipping_share: float


@dataclass(frozen=True, eq=False)
class LayerProfile:
    """A linear layer, a convolution or a quantized attention product.

    Attributes:
        name: ``blocks.7.mlp.fc2``.
        kind: ``linear``, ``conv``, ``patch_conv``, ``attention_qk`` or ``attention_pv``.
        output: its output behind the quantized prefix (accumulated error), with a float side path and the
            ReLU behind it, if there are any.
        isolated: its own error.
        weight: None where the weight stays float or there is none.
        input: None for products.
    """

    name: str
    kind: str
    output: Comparison
    isolated: Isolated
    weight: WeightProfile | None
    input: InputProfile | None

    @property
    def is_quantized(self) -> bool:
        """Whether anything in it is."""
        return self.weight is not None or self.input is None or self.input.bits is not None


@dataclass(frozen=True, eq=False)
class BlockProfile:
    """The output of a transformer block or a CNN's residual block."""

    name: str
    output: Comparison


@dataclass(frozen=True)
class EndToEnd:
    """Logits [N, K] of the quantized graph against those of the float graph.

    Attributes:
        sqnr_db: over all logits, in dB.
        agreement: share of images with the same best class, 0 to 1.
        cosine: mean over images.
        kl: mean over images of KL(softmax(float) ‖ softmax(quantized)), in nats.
    """

    sqnr_db: float
    agreement: float
    cosine: float
    kl: float


@dataclass(frozen=True)
class OutlierLine:
    """Least squares over layers: quantized outlier ratio ≈ ``intercept + slope`` · float outlier ratio.

    A slope of 1 with intercept 0 says that quantization keeps the tails. NaN where a line is not defined.

    Attributes:
        slope: quantized ratio per float ratio.
        intercept: quantized ratio at a float ratio of 0.
        r2: explained share of the variance, 0 to 1.
    """

    slope: float
    intercept: float
    r2: float


@dataclass(frozen=True, eq=False)
class Profile:
    """A quantized graph against its float reference.

    Attributes:
        images: how many were seen.
        layers: in the order of execution.
        blocks: likewise.
        end_to_end: of the logits.
        outlier_line: over :attr:`layers`.
    """

    images: int
    layers: tuple[LayerProfile, ...]
    blocks: tuple[BlockProfile, ...]
    end_to_end: EndToEnd
    outlier_line: OutlierLine

    def worst(self, count: int = 1) -> list[LayerProfile]:
        """The quantized layers with the lowest isolated QSNR, the worst first."""
        quantized = [layer for layer in self.layers if layer.is_quantized]
        return sorted(quantized, key=lambda layer: layer.isolated.qsnr_db)[:count]
