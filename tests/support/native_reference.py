"""The native runner's arithmetic in numpy, operation by operation in its order, so that
its logits can be compared to the last bit. Family llama; no cache, no speed."""

import numpy as np
import numpy.typing as npt

from tabwise_model.checkpoint import Checkpoint
from tabwise_model.quantize import quantize_checkpoint
from tabwise_model.runners.native_weights import rope_table

F = np.float32
Floats = npt.NDArray[np.float32]
Quantized = tuple[npt.NDArray[np.int32], Floats]


def sum_sixteen(values: Floats) -> Floats:
    """Sum of the last axis: sixteen running sums, then folded in halves."""
    short = -values.shape[-1] % 16
    padded = np.pad(values, [(0, 0)] * (values.ndim - 1) + [(0, short)])
    lanes = np.zeros((*values.shape[:-1], 16), F)
    for start in range(0, padded.shape[-1], 16):
        lanes += padded[..., start : start + 16]
    for half in (8, 4, 2, 1):
        lanes = lanes[..., :half] + lanes[..., half:]
    total: Floats = lanes[..., 0]
    return total


def exponential(a: Floats) -> Floats:
    x = np.clip(a * F(1.44269504088896341), F(-126), F(126))
    whole = np.rint(x)
    r = x - whole
    p = r * F(1.326472731307149e-3) + F(9.671512991189957e-3)
    for c in (5.550733581185341e-2, 2.402224242687225e-1, 6.931470036506653e-1, 1.0):
        p = p * r + F(c)
    scaled: Floats = np.ldexp(p, whole.astype(np.int32)).astype(F)
    return scaled


def quantize(x: Floats) -> Quantized:
    """Integers -127..127 and a scale, over the last axis, which stays."""
    top = np.abs(x).max(axis=-1, keepdims=True)
    inverse = np.where(top > 0, F(127) / np.where(top > 0, top, F(1)), F(0))
    return np.rint(x * inverse).astype(np.int32), top / F(127)


class NativeReference:
    def __init__(self, checkpoint: Checkpoint) -> None:
        if checkpoint.bits == 32:
            checkpoint = quantize_checkpoint(checkpoint)
        self.config = checkpoint.config
        self.tensors = checkpoint.tensors

    def logits(self, tokens: tuple[int, ...]) -> Floats:
        """(T, V) after each token of one sequence."""
        t = self.tensors
        rows = list(tokens)
        x = t["embed.weight"][rows].astype(F) * t["embed.scale"][rows, None]
        for layer in range(self.config.n_layer):
            name = f"layers.{layer}"
            normed = self.normalize(x, f"{name}.attention_norm")
            x = x + self.linear(self.attend(normed, name), f"{name}.attention.out")
            normed = self.normalize(x, f"{name}.mlp_norm")
            gate = self.linear(normed, f"{name}.mlp.gate")
            gate = gate / (exponential(-gate) + F(1))
            hidden = gate * self.linear(normed, f"{name}.mlp.up")
            x = x + self.linear(hidden, f"{name}.mlp.down")
        return self.linear(self.normalize(x, "norm"), "embed")

    def linear(self, x: Floats, name: str) -> Floats:
        q, scale = quantize(x)
        sums = q @ self.tensors[f"{name}.weight"].T.astype(np.int32)
        y: Floats = sums.astype(F) * self.tensors[f"{name}.scale"] * scale
        return y

    def normalize(self, x: Floats, name: str) -> Floats:
        mean = sum_sixteen(x * x) / F(self.config.n_embd)
        inverse = F(1) / np.sqrt(mean + F(self.config.norm_eps))
        y: Floats = x * inverse[:, None] * self.tensors[f"{name}.weight"]
        return y

    def attend(self, x: Floats, name: str) -> Floats:
        config = self.config
        q, k, v = (
            self.linear(x, f"{name}.attention.{n}").reshape(
                len(x), -1, config.head_size
            )
            for n in "qkv"
        )
        quantized = [quantize(part) for part in (self.rotate(q), self.rotate(k), v)]
        group = config.n_head // config.n_kv_head
        (q8, q_scale), keys, values = quantized
        mixed = [
            self.attend_row(
                (q8[t, h], q_scale[t, h]),
                (keys[0][: t + 1, h // group], keys[1][: t + 1, h // group]),
                (values[0][: t + 1, h // group], values[1][: t + 1, h // group]),
            )
            for t in range(len(x))
            for h in range(config.n_head)
        ]
        return np.stack(mixed).reshape(len(x), -1)

    def attend_row(self, q: Quantized, keys: Quantized, values: Quantized) -> Floats:
        sums = (keys[0] @ q[0]).astype(F)
        scale = q[1][0] * (F(1) / np.sqrt(F(self.config.head_size)))
        scores = sums * keys[1][:, 0] * scale
        weights = exponential(scores - scores.max())
        scaled = weights * values[1][:, 0]
        top = scaled.max()
        whole = np.rint(scaled * (F(16383) / top)).astype(np.int32)
        high = (whole >> 7) @ values[0]
        low = (whole & 127) @ values[0]
        unit = top / F(16383) / sum_sixteen(weights)
        out: Floats = (high.astype(F) * F(128) + low.astype(F)) * unit
        return out

    def rotate(self, x: Floats) -> Floats:
        """x: (T, heads, D)."""
        table = rope_table(self.config, len(x))
        cos, sin = table[:, 0, None], table[:, 1, None]
        a, b = np.split(x, 2, axis=-1)
        return np.concatenate((a * cos - b * sin, a * sin + b * cos), axis=-1)
