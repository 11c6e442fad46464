"""How much of a machine's matrix rate a training run uses."""

from __future__ import annotations

import time

import torch

from tabwise_model.gpt import GPT

PROBE = 1024  # rows and columns of the measured product
PROBE_GPU = 8192
TRIES, ENOUGH_S = 6, 0.5


def flops_per_token(model: GPT) -> float:
    """Matrix work of one token, forward and backward, in floating-point operations.

    Six a weight of every matrix, the tied head once, and attention's two products over
    half a block on average. Source: PaLM, arXiv 2204.02311, appendix B.
    """
    config = model.config
    matrices = sum(p.numel() for p in model.parameters() if p.dim() == 2)
    if model.positions is not None:
        matrices -= model.positions.weight.numel()
    attention = 12 * config.n_layer * config.query_width * config.block_size / 2
    return 6.0 * matrices + attention


def measure_matrix_rate(device: torch.device, dtype: torch.dtype) -> float:
    """Floating-point operations a second of a large product here, in `dtype` or in
    float32 if that is faster: what lacks 16-bit units can take a hundred times as long
    for them, and its float32 is what training could use instead.

    Takes a fraction of a second, or where a product takes longer, one of them.
    """
    return max(_rate(device, kind) for kind in {dtype, torch.float32})


def _rate(device: torch.device, dtype: torch.dtype) -> float:
    """The best of several products."""
    size = PROBE_GPU if device.type == "cuda" else PROBE
    a = torch.randn(size, size, device=device, dtype=dtype)
    best, first = float("inf"), time.perf_counter()
    for _ in range(TRIES):
        began = time.perf_counter()
        float((a @ a)[0, 0])  # reading one value waits for the device
        now = time.perf_counter()
        best = min(best, now - began)
        if now - first > ENOUGH_S:
            break
    return 2.0 * size**3 / best
