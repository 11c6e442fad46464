"""Engines over a runner that tells when they keep their books wrong."""

from typing import Any

import attrs

from support.runners import HashRunner
from support.tokenizer import TOKENIZER
from tabwise_model.engine import Engine
from tabwise_model.request import Generation, GenerationRequest


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def make_engine(runner: Any = None, **options: Any) -> Engine:
    return Engine(runner or HashRunner(), TOKENIZER, **options)


def request(name: str, prompt: list[int] | str, **options: Any) -> GenerationRequest:
    ids = TOKENIZER.encode(prompt) if isinstance(prompt, str) else prompt
    options.setdefault("max_new_tokens", 8)
    return GenerationRequest(id=name, prompt=tuple(ids), **options)


def run_all(engine: Engine) -> dict[str, Generation]:
    found: dict[str, Generation] = {}
    for _ in range(10_000):
        if not engine.has_work:
            return found
        found.update({result.id: result for result in engine.step()})
    raise AssertionError("the engine never finishes")


def alone(wanted: GenerationRequest) -> list[int]:
    engine = make_engine()
    engine.submit(attrs.evolve(wanted, deadline=None))
    return run_all(engine)[wanted.id].tokens
