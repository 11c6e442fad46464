import json
from pathlib import Path

import numpy as np
import pytest

from support.tokenizer import TOKENIZER


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
