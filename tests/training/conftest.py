import json
from pathlib import Path

import numpy as np
import pytest

from support.tokenizer import TOKENIZER
from tabwise_server.cli import main

RECIPE = """
[model]
block_size = 64
n_layer = 2
n_head = 2
n_kv_head = 1
n_embd = 32
mlp_hidden = 48
[data]
folder = "{folder}"
shard_tokens = 20000
[optim]
adam_lr = 1e-2
[run]
out = "{out}"
steps = 8
batch_tokens = 512
micro_rows = 4
warmup_steps = 2
log_every = 1
eval_every = 4
eval_rows = 8
save_every = 4
threads = 1
"""


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small prepared corpus: some of the standard library, byte by byte."""
    folder = tmp_path_factory.mktemp("prepared")
    library = Path(json.__file__).parent.parent
    (folder / "tokenizer.tiktoken").write_text(TOKENIZER.dumps())
    for split, names in {"train": "abcdefg", "val": "h"}.items():
        files = sorted(f for c in names for f in library.glob(f"{c}*.py"))[:24]
        ids: list[int] = []
        lines = []
        for file in files:
            text = file.read_text(encoding="utf-8")[:6_000]
            document = [*TOKENIZER.encode(text), TOKENIZER.end]
            ids += document
            entry = {"package": "stdlib", "path": file.name, "tokens": len(document)}
            lines.append(json.dumps(entry))
        np.array(ids, np.uint16).tofile(folder / f"{split}.bin")
        (folder / f"{split}.docs.jsonl").write_text("\n".join(lines))
    return folder


@pytest.fixture
def recipe(prepared: Path, tmp_path: Path) -> Path:
    """A recipe that trains a tiny model on `prepared` in a second."""
    file = tmp_path / "tiny.toml"
    file.write_text(RECIPE.format(folder=prepared, out=tmp_path / "run"))
    return file


@pytest.fixture(scope="session")
def begun(prepared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run of such a recipe that ended with its first step; not to be changed."""
    folder = tmp_path_factory.mktemp("begun")
    file, out = folder / "tiny.toml", folder / "run"
    file.write_text(RECIPE.format(folder=prepared, out=out))
    assert main(["train", "--config", str(file), "--run.steps", "1"]) == 0
    return out
