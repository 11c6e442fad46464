"""How much of a machine's matrix rate a training run uses."""

from __future__ import annotations

import time

import torch

from tabwise_model.gpt import GPT

PROBE = 1024  # rows and columns of the measured product
PROBE_GPU = 8192


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
    """Floating-point operations a second of a large product here; the best of several.

    Takes a fraction of a second.
    """
    size = PROBE_GPU if device.type == "cuda" else PROBE
    a = torch.randn(size, size, device=device, dtype=dtype)
    best = float("inf")
    for _ in range(6):
        began = time.perf_counter()
        float((a @ a)[0, 0])  # reading one value waits for the device
        best = min(best, time.perf_counter() - began)
    return 2.0 * size**3 / best
