"""llama.cpp itself, where llama-cpp-python is installed."""

from pathlib import Path
from typing import Any

import pytest

from support.greedy import until_end


class LlamaCpp:
    """One GGUF file, on one thread."""

    def __init__(self, file: Path) -> None:
        module = pytest.importorskip("llama_cpp")
        self._model: Any = module.Llama(
            str(file), n_ctx=512, n_threads=1, n_threads_batch=1, verbose=False
        )

    def encode(self, text: str) -> list[int]:
        """Ids of text; sentinel names are text."""
        found: list[int] = self._model.tokenize(
            text.encode(), add_bos=False, special=False
        )
        return found

    def greedy_tokens(self, prompt: list[int], count: int) -> list[int]:
        """The likeliest `count` tokens after `prompt`, up to its end of text."""
        steps = self._model.generate(prompt, temp=0.0, repeat_penalty=1.0)
        found = [int(token) for token, _ in zip(steps, range(count), strict=False)]
        return until_end(found, self._model.token_eos())

    def close(self) -> None:
        self._model.close()
