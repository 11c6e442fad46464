"""llama.cpp's own server in this process, where the package xllamacpp has it."""

import json
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from support.greedy import until_end


class LlamaCpp:
    """One GGUF file behind llama.cpp's HTTP routes, on one thread.

    Attention is computed in float32; llama.cpp's defaults round it to float16.
    """

    def __init__(self, file: Path) -> None:
        module = pytest.importorskip("xllamacpp")
        settings = module.CommonParams()
        settings.model.path = str(file)
        settings.port = 0
        settings.n_ctx = 512
        settings.n_parallel = 1
        settings.cache_type_k = settings.cache_type_v = module.ggml_type.GGML_TYPE_F32
        settings.flash_attn_type = module.llama_flash_attn_type(0)
        settings.cpuparams.n_threads = 1
        settings.cpuparams_batch.n_threads = 1
        self._server: Any = module.Server(settings)
        self.url: str = self._server.listening_address

    def encode(self, text: str) -> list[int]:
        """Ids of text; sentinel names are text."""
        asked = {"content": text, "add_special": False, "parse_special": False}
        found: list[int] = self._post("/tokenize", asked)["tokens"]
        return found

    def greedy_tokens(self, prompt: list[int], count: int, end: int) -> list[int]:
        """The likeliest `count` tokens after `prompt`, up to `end`."""
        return self._greedy("/completion", count, end, prompt=prompt)

    def infill(self, prefix: str, suffix: str, count: int, end: int) -> list[int]:
        """As `greedy_tokens`, from the prompt that llama.cpp makes of a hole."""
        return self._greedy(
            "/infill", count, end, input_prefix=prefix, input_suffix=suffix
        )

    def _greedy(self, route: str, count: int, end: int, **prompt: Any) -> list[int]:
        how = {"n_predict": count, "temperature": 0, "return_tokens": True}
        return until_end(self._post(route, how | prompt)["tokens"], end)

    def _post(self, route: str, body: dict[str, Any]) -> Any:
        request = urllib.request.Request(
            self.url + route,
            json.dumps(body).encode(),
            {"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request) as answer:
            return json.load(answer)
