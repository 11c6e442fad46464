"""Attention in blocks is PyTorch's own, value and gradients, compiled or not."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from tabwise_model.attention import BLOCK, causal_attention


def heads(length: int, dtype: torch.dtype) -> list[Tensor]:
    """q of 4 heads, k and v of 2, laid out as a projection leaves them."""
    torch.manual_seed(length)
    made = [torch.randn(2, length, count, 16, dtype=dtype) for count in (4, 2, 2)]
    return [x.transpose(1, 2).requires_grad_() for x in made]


def expected(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    k, v = (x.repeat_interleave(2, dim=1) for x in (k, v))
    return F.scaled_dot_product_attention(q, k, v, is_causal=True)


@pytest.mark.parametrize("length", [1, BLOCK - 1, BLOCK, BLOCK + 1, 3 * BLOCK + 8])
def test_attention_in_blocks_equals_the_whole(length: int) -> None:
    inputs = heads(length, torch.float64)
    ours, theirs = causal_attention(*inputs), expected(*inputs)
    torch.testing.assert_close(ours, theirs)
    weights = torch.randn_like(ours)
    found = torch.autograd.grad((ours * weights).sum(), inputs)
    wanted = torch.autograd.grad((theirs * weights).sum(), inputs)
    for one, other in zip(found, wanted, strict=True):
        # gradients of keys and values are summed in float32
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)


def test_bfloat16_stays_within_its_rounding() -> None:
    inputs = heads(100, torch.bfloat16)
    exact = expected(*(x.double() for x in inputs))
    error = (causal_attention(*inputs).double() - exact).norm() / exact.norm()
    assert error < 0.01


def test_the_registered_operators_keep_torchs_rules() -> None:
    from torch.library import opcheck

    opcheck(torch.ops.tabwise.causal_attention, tuple(heads(70, torch.float32)))
