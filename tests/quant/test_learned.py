import torch

from quant.kernels import fake_quantize
from quant.learned import learned_fake_quantize
from quant.qparams import QParams


def qparams(scale: torch.Tensor) -> QParams:
    return QParams(scale, torch.tensor(3, dtype=torch.int32), qmin=0, qmax=15)


def test_the_value_is_that_of_fake_quantize():
    x = torch.randn(1000, generator=torch.Generator().manual_seed(0)) * 3
    scale = torch.tensor(0.21, requires_grad=True)
    assert torch.equal(learned_fake_quantize(x, qparams(scale)), fake_quantize(x, qparams(scale.detach())))


def test_the_gradients_are_those_of_lsq():
    generator = torch.Generator().manual_seed(0)
    values = torch.randn(2000, generator=generator) * 3
    weight = torch.randn(2000, generator=generator)
    x, scale = values.clone().requires_grad_(), torch.tensor(0.21, requires_grad=True)
    (learned_fake_quantize(x, qparams(scale)) * weight).sum().backward()

    # The same by automatic differentiation, with the rounding's gradient replaced by one.
    x2, scale2 = values.double().requires_grad_(), torch.tensor(0.21, dtype=torch.float64, requires_grad=True)
    t = x2 / scale2 + 3
    code = t.detach().round()
    bound = scale2 * (code.clamp(0, 15) - 3)
    y = torch.where(code == code.clamp(0, 15), scale2 * (t + (code - t).detach() - 3), bound)
    (y * weight.double()).sum().backward()
    # An element within float32 noise of the clipping border may count in one gradient only.
    assert int((x.grad.double() - x2.grad).abs().gt(1e-6).sum()) <= 1
    torch.testing.assert_close(scale.grad.double(), scale2.grad, rtol=1e-4, atol=1e-2)
