"""Who may import whom, read from the imports themselves."""

import ast
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType

import pytest

ROOT = Path(__file__).parents[1]
SERVER = ROOT / "server" / "tabwise_server"
MODEL = ROOT / "model" / "tabwise_model"
TRAINING = ROOT / "training" / "tabwise_training"

SETTINGS = ("settings", "settings_sources")
# Within tabwise_server: room -> what of the three packages it may import.
ALLOWED: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "suggest": ("suggest", "wire", "errors"),
        "backends": ("backends", "wire", *SETTINGS, "errors", "daemon_state"),
        "lsp": ("lsp", "suggest", "backends", "wire", *SETTINGS, "errors"),
        "serving": ("serving", "suggest", "wire", "settings", "errors", "daemon_state"),
    }
)
TORCH_FILES = (
    "attention.py",
    "gpt.py",
    "kv_cache.py",
    "quantize.py",
    "runners/fixed_steps.py",
    "runners/int8_torch.py",
    "runners/torch.py",
    "runners/torch_bench.py",
    "export/",
)
BARE = {"tabwise_server"}  # `from tabwise_server import __version__`


def imports_of(file: Path) -> Iterator[str]:
    """Dotted names of all modules that a file imports, also inside functions."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: relative import"
            assert node.module is not None
            yield node.module
            for alias in node.names:  # `from package import module`
                module = node.module.replace(".", "/") + f"/{alias.name}.py"
                if any((r / module).exists() for r in (SERVER.parent, MODEL.parent)):
                    yield f"{node.module}.{alias.name}"


def sources(folder: Path) -> list[Path]:
    files = sorted(folder.rglob("*.py"))
    assert files, f"nothing in {folder}"
    return files


@pytest.mark.parametrize("room", ALLOWED)
def test_each_room_of_the_server_imports_only_its_neighbours(room: str) -> None:
    allowed = {f"tabwise_server.{name}" for name in ALLOWED[room]} | BARE
    for file in sources(SERVER / room):
        for name in imports_of(file):
            if name.startswith("tabwise_training"):
                pytest.fail(f"{file} imports {name}")
            if name.startswith("tabwise_model"):
                assert room == "serving", f"{file} imports {name}"
            if name.startswith("tabwise_server"):
                top = ".".join(name.split(".")[:2])
                assert top in allowed, f"{file} imports {name}"


def test_the_model_knows_neither_the_server_nor_training() -> None:
    for file in sources(MODEL):
        for name in imports_of(file):
            assert not name.startswith(("tabwise_server", "tabwise_training")), (
                f"{file} imports {name}"
            )


def test_torch_is_imported_only_where_it_multiplies() -> None:
    for file in [*sources(MODEL), *sources(SERVER)]:
        if "torch" not in {name.partition(".")[0] for name in imports_of(file)}:
            continue
        inside = MODEL in file.parents
        place = file.relative_to(MODEL).as_posix() if inside else ""
        assert place.startswith(TORCH_FILES), f"{file} imports torch"


def test_training_imports_of_the_server_only_what_is_asked_and_shown() -> None:
    for file in sources(TRAINING):
        for name in imports_of(file):
            if name.startswith("tabwise_server"):
                asked_and_shown = ("tabwise_server.suggest", "tabwise_server.wire")
                assert name.startswith(asked_and_shown), f"{file} imports {name}"


def test_only_the_command_line_may_reach_training() -> None:
    for file in sources(SERVER):
        for name in imports_of(file):
            assert not name.startswith("tabwise_training"), f"{file} imports {name}"


def test_importing_the_language_server_loads_no_torch_no_model_and_no_serving() -> None:
    code = (
        "import sys\n"
        "import tabwise_server.lsp.transport, tabwise_server.commands.lsp\n"
        "import tabwise_server.suggest.shape, tabwise_server.backends.choose\n"
        "heavy = ('torch', 'tabwise_model', 'tabwise_training', 'numpy',\n"
        "         'tree_sitter', 'tabwise_server.serving')\n"
        "print([m for m in sys.modules if m.startswith(heavy)])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


def test_package_files_are_empty_but_for_the_version() -> None:
    for folder in (SERVER, MODEL, TRAINING):
        for file in folder.rglob("__init__.py"):
            body = ast.parse(file.read_text(encoding="utf-8")).body
            rest = [
                node
                for node in body
                if not (isinstance(node, ast.Expr | ast.Assign))
                or (
                    "__version__" not in ast.unparse(node)
                    and not isinstance(node, ast.Expr)
                )
            ]
            assert rest == [], f"{file} has more than a version"
