"""An exported ONNX folder in onnxruntime, keys and values carried from call to call."""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime

from support.greedy import until_end

Ids = npt.NDArray[np.int64]
GIVEN = ("input_ids", "position_ids", "attention_mask")


class OnnxRuntime:
    """One session on one thread. `past` is what the last call left."""

    def __init__(self, folder: Path) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(
            folder / "model.onnx", options, providers=["CPUExecutionProvider"]
        )
        self.inputs = {i.name: i for i in self._session.get_inputs()}
        self.outputs = [o.name for o in self._session.get_outputs()]
        self.past: dict[str, npt.NDArray[Any]] = {}

    def begin(self, batch: int) -> None:
        """Forget everything."""
        kind = {"tensor(float)": np.float32, "tensor(float16)": np.float16}
        self.past = {
            name: np.zeros(
                (batch, wanted.shape[1], 0, wanted.shape[3]), kind[wanted.type]
            )
            for name, wanted in self.inputs.items()
            if name not in GIVEN
        }

    def extend(
        self, ids: Ids, mask: Ids | None = None, positions: Ids | None = None
    ) -> npt.NDArray[Any]:
        """Logits (B, T, V) of ids (B, T). mask and positions: for padded rows."""
        batch, tokens = ids.shape
        earlier = next(iter(self.past.values())).shape[2]
        if mask is None:
            mask = np.ones((batch, earlier + tokens), np.int64)
        if positions is None:
            positions = np.arange(earlier, earlier + tokens)[None].repeat(batch, 0)
        given = dict(zip(GIVEN, (ids, positions, mask), strict=True))
        logits, *kept = self._session.run(None, given | self.past)
        self.past = dict(zip(self.past, kept, strict=True))
        found: npt.NDArray[Any] = logits
        return found

    def greedy_tokens(
        self, prompts: list[list[int]], count: int, end: int
    ) -> list[list[int]]:
        """The likeliest `count` tokens after each prompt, up to `end`; one length."""
        self.begin(len(prompts))
        ids, made = np.array(prompts), []
        for _ in range(count):
            ids = self.extend(ids)[:, -1].argmax(-1)[:, None]
            made.append(ids)
        rows = np.concatenate(made, axis=1).tolist()
        return [until_end(row, end) for row in rows]
