"""The checkpoint that ships, in every runner that is here."""

import inspect
import json
import textwrap
import types

import pytest

from tabwise_model.checkpoint import Checkpoint, load_checkpoint, resolve_checkpoint
from tabwise_model.engine import Engine
from tabwise_model.prompt import fim_prompt
from tabwise_model.request import Generation, GenerationRequest
from tabwise_model.runners.choose import available_runners, load_runner

LIMIT_BYTES = 12_000_000


@pytest.fixture(scope="module")
def shipped() -> Checkpoint:
    return load_checkpoint(resolve_checkpoint("default"))


def make_engine(checkpoint: Checkpoint, runner: str, chunk: int = 128) -> Engine:
    made = load_runner(checkpoint, runner=runner, threads=1, n_slots=8, slot_tokens=512)
    return Engine(made, checkpoint.tokenizer, prefill_chunk=chunk)


def requests(checkpoint: Checkpoint) -> list[GenerationRequest]:
    """Holes in the standard library, several in each place so that prefixes repeat."""
    modules: list[types.ModuleType] = [json.decoder, json.encoder, textwrap]
    found = []
    for module in modules:
        text = inspect.getsource(module)
        for start in (700, 1_500, 2_300):
            for typed in (0, 3, 9):
                prompt = fim_prompt(
                    checkpoint.tokenizer,
                    text[: start + typed],
                    text[start + 40 :],
                    window=400,
                )
                name = f"{module.__name__}:{start}+{typed}"
                found.append(
                    GenerationRequest(
                        id=name, prompt=prompt.ids, heal=prompt.heal, max_new_tokens=12
                    )
                )
    return found


def run_all(engine: Engine) -> dict[str, Generation]:
    found = {}
    while engine.has_work:
        found.update({result.id: result for result in engine.step()})
    return found


@pytest.mark.parametrize("runner", available_runners())
def test_greedy_tokens_are_the_same_cached_or_not_batched_or_alone(
    shipped: Checkpoint, runner: str
) -> None:
    wanted = requests(shipped)
    together = make_engine(shipped, runner)
    for one in wanted:
        together.submit(one)
    batched = run_all(together)
    assert together.counters.cached_tokens > 0
    for one in wanted[::5]:
        alone = make_engine(shipped, runner, chunk=37)
        alone.submit(one)
        assert run_all(alone)[one.id].tokens == batched[one.id].tokens


@pytest.mark.parametrize("runner", available_runners())
def test_it_finishes_what_a_file_already_says(shipped: Checkpoint, runner: str) -> None:
    code = "import os\nimport sys\n\nprint(os.path.join(sys.argv[1], 'a'))\nprint(os.pa"
    engine = make_engine(shipped, runner)
    prompt = fim_prompt(shipped.tokenizer, code, "\n", window=400)
    engine.submit(
        GenerationRequest(id="a", prompt=prompt.ids, heal=prompt.heal, max_new_tokens=8)
    )
    assert run_all(engine)["a"].text.startswith(b"th")


def test_it_is_int8_and_small(shipped: Checkpoint) -> None:
    folder = resolve_checkpoint("default")
    assert shipped.bits == 8
    assert sum(f.stat().st_size for f in folder.iterdir()) < LIMIT_BYTES
    card = (folder / "CARD.md").read_text()
    assert shipped.digest in card
