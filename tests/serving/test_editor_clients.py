"""What editors' own clients send, as read in their sources or recorded from them, and
what they read in the answer. docs/backend.md says which were run for real."""

import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import attrs
import pytest

from support.backend import HeldRunner, RunningBackend, running_backend

BEFORE, AFTER = "def area(w, h):\n    return ", "\n\nprint(area(2, 3))\n"
PIPED = f"<|fim_prefix|>{BEFORE}<|fim_suffix|>{AFTER}<|fim_middle|>"
PLAIN = f"<fim_prefix>{BEFORE}<fim_suffix>{AFTER}<fim_middle>"
QWEN_STOPS = ["<|endoftext|>", "<|fim_prefix|>", "<|fim_middle|>", "<|fim_suffix|>"]
CONTINUE_STOPS = [
    *QWEN_STOPS,
    *("<|fim_pad|>", "<|repo_name|>", "<|file_sep|>", "<|im_start|>", "<|im_end|>"),
    *("/src/", "#- coding: utf-8", "```"),
]


def from_choice(text: str) -> str:
    return str(json.loads(text)["choices"][0]["text"])


def from_content(text: str) -> str:
    return str(json.loads(text)["content"])


def from_events(read: Callable[[Any], str]) -> Callable[[str], str]:
    """What a client puts together that reads lines beginning with `data: `."""

    def joined(text: str) -> str:
        lines = (line[6:] for line in text.split("\n") if line.startswith("data: "))
        return "".join(read(json.loads(line)) for line in lines if line != "[DONE]")

    return joined


@attrs.frozen
class Client:
    """How one client asks for 12 tokens or more between BEFORE and AFTER."""

    path: str
    body: dict[str, Any]
    read: Callable[[str], str]
    headers: dict[str, str] = attrs.Factory(dict)


ZED = {"model": "any", "max_tokens": 12}
LLAMA = {
    "id_slot": 0,
    "input_prefix": "def area(w, h):\n",
    "input_suffix": AFTER,
    "input_extra": [],
    "prompt": "    return ",
    "n_predict": 12,
    "top_k": 40,
    "samplers": ["top_k", "top_p", "infill"],
    "cache_prompt": True,
    "t_max_prompt_ms": 500,
    "t_max_predict_ms": 500,
}
CLIENTS = {
    "Zed, Qwen's prompt": Client(
        "/v1/completions", {**ZED, "prompt": PIPED, "stop": QWEN_STOPS}, from_choice
    ),
    "Zed, a model it does not know": Client(
        "/v1/completions",
        {
            **ZED,
            "prompt": PLAIN,
            "stop": ["<|endoftext|>", "<fim_prefix>", "<fim_middle>", "<fim_suffix>"],
        },
        from_choice,
    ),
    "Continue, provider llama.cpp": Client(
        "/completion",
        {"prompt": PIPED, "stream": True, "n_predict": 12, "stop": CONTINUE_STOPS,
         "temperature": 0.01, "top_k": 1, "frequency_penalty": 0.1},
        from_events(lambda event: event["content"]),
        {"Authorization": "Bearer undefined"},
    ),
    "Continue, provider openai": Client(
        "/v1/completions",
        {"model": "any", "prompt": PLAIN, "stream": True, "max_tokens": 12,
         "stop": CONTINUE_STOPS, "temperature": 0.01, "top_p": 1e-3},
        from_events(lambda event: event["choices"][0]["text"]),
        {"Authorization": "Bearer x", "api-key": "x"},
    ),
    "minuet, streaming": Client(
        "/v1/completions",
        {"model": "any", "stream": True, "max_tokens": 12, "prompt": BEFORE,
         "suffix": AFTER},
        from_events(lambda event: event["choices"][0]["text"]),
        {"Accept": "application/json", "Authorization": "Bearer x"},
    ),
    "minuet": Client(
        "/v1/completions",
        {"model": "any", "stream": False, "max_tokens": 12, "prompt": BEFORE,
         "suffix": AFTER, "top_p": 0.9},
        from_choice,
    ),
    "llama.vim": Client(
        "/infill",
        {**LLAMA, "top_p": 0.9, "stream": False, "stop": [], "n_indent": 0,
         "response_fields": ["content", "timings/prompt_n", "truncated"]},
        from_content,
    ),
    "llama.vscode": Client(
        "/infill",
        {**LLAMA, "top_p": 0.99, "stream": False, "n_cmpl": 3, "model": "any"},
        from_content,
    ),
}  # fmt: skip


@pytest.fixture
async def backend() -> AsyncIterator[RunningBackend]:
    async with running_backend(HeldRunner()) as running:
        yield running


@pytest.mark.parametrize("name", CLIENTS)
async def test_an_editors_client_reads_what_fits_between(
    backend: RunningBackend, name: str
) -> None:
    client = CLIENTS[name]
    between = {"prefix": BEFORE, "suffix": AFTER, "stop": "none", "max_new_tokens": 12}
    _, expected = await backend.post("/v1/tabwise/complete", between)
    async with backend.http.post(
        backend.url + client.path, json=client.body, headers=client.headers
    ) as answer:
        assert answer.status == 200
        assert client.read(await answer.text()) == expected["text"]


async def test_llama_clients_that_only_warm_the_cache_get_no_text(
    backend: RunningBackend,
) -> None:
    chunks = [{"text": "x = 1\n", "time": [1, 2], "filename": "a.py"}]
    body = {
        **{name: LLAMA[name] for name in ("id_slot", "cache_prompt")},
        **dict.fromkeys(("input_prefix", "input_suffix", "prompt"), ""),
        "input_extra": chunks,
        "n_predict": 0,
        "temperature": 0.0,
        "samplers": [],
        "stream": False,
        "t_max_prompt_ms": 1,
        "t_max_predict_ms": 1,
        "response_fields": [""],
    }
    assert await backend.post("/infill", body) == (200, {})
