"""Zed and Continue in their written form: neither installs here, so what they send,
read from their source, is sent in their place, with what our configurations make it."""

import json
import re
import urllib.request
from typing import Any
from urllib.parse import urlsplit

import yaml

from support.editors import CLIENTS, EXAMPLE, TYPED, Served

PREFIX = EXAMPLE + TYPED
QWEN = "<|fim_prefix|>{prefix}<|fim_suffix|>{suffix}<|fim_middle|>"
ZED_STOPS = [
    *("<|endoftext|>", "<|file_separator|>", "<|fim_pad|>", "<|fim_prefix|>"),
    *("<|fim_middle|>", "<|fim_suffix|>", "<fim_prefix>", "<fim_middle>"),
    *("<fim_suffix>", "<PRE>", "<SUF>", "<MID>", "[PREFIX]", "[SUFFIX]"),
]
CONTINUE_STOPS = ["\n\n", "\r\n\r\n", "/src/", "#- coding: utf-8", "```"]


def post(url: str, body: Any) -> str:
    headers = {"Content-Type": "application/json", "Authorization": "Bearer none"}
    request = urllib.request.Request(url, json.dumps(body).encode(), headers)
    with urllib.request.urlopen(request) as answer:
        text: str = answer.read().decode()
        return text


def test_zed_gets_a_prediction(served: Served) -> None:
    text = (CLIENTS / "zed" / "settings.json").read_text()
    settings = json.loads(re.sub(r"(?m)^\s*//.*$| // .*$", "", text))
    api = settings["edit_predictions"]["open_ai_compatible_api"]
    assert api["prompt_format"] == "qwen"
    body = {
        "model": api["model"],
        "prompt": QWEN.format(prefix=PREFIX, suffix="\n"),
        "max_tokens": api["max_output_tokens"],
        "temperature": None,
        "stop": ZED_STOPS,
        "environment": None,
    }
    answer = json.loads(post(served.url + urlsplit(api["api_url"]).path, body))
    assert answer["choices"][0]["text"].startswith("[name]")


def test_continue_gets_a_completion(served: Served) -> None:
    config = yaml.safe_load((CLIENTS / "continue" / "config.yaml").read_text())
    [model] = config["models"]
    template = model["promptTemplates"]["autocomplete"]
    options = model["defaultCompletionOptions"]
    body = {
        "model": model["model"],
        "prompt": template.replace("{{{prefix}}}", PREFIX).replace("{{{suffix}}}", ""),
        "max_tokens": options["maxTokens"],
        "temperature": options["temperature"],
        "stop": CONTINUE_STOPS,
        "stream": True,
    }
    path = urlsplit(model["apiBase"]).path
    events = post(f"{served.url}{path}completions", body).split("\n\n")
    data = [event.removeprefix("data: ") for event in events if event]
    assert data.pop() == "[DONE]"
    texts = [choice["text"] for one in data for choice in json.loads(one)["choices"]]
    assert "".join(texts).startswith("[name]")
    assert "\n\n" not in "".join(texts)


def test_each_configuration_is_in_the_table_that_says_whether_it_was_tried() -> None:
    table = (CLIENTS / "README.md").read_text()
    for file in CLIENTS.glob("*/*"):
        if file.parent.name in ("vscode", "playground"):
            continue
        link = file.relative_to(CLIENTS).as_posix()
        assert f"({link})" in table, f"{link} is not in editor-client/README.md"
