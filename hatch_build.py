"""The build hook: compiles the native CPU runner into the wheel, or beside its sources
for an editable install. Without a C++ compiler the build goes on without it and says
so; `python -m tabwise_model.runners.build` adds it later."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

RUNNERS = "model/tabwise_model/runners"


class NativeBuildHook(BuildHookInterface[Any]):
    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """The library is built, and the wheel marked for this platform, or neither."""
        if self.target_name != "wheel":
            return
        builder = load_builder(Path(self.root))
        try:
            library = builder.build()
        except builder.BuildError as error:
            self.app.display_warning(f"tabwise without its native runner: {error}")
            return
        build_data["pure_python"] = False
        build_data["infer_tag"] = True
        build_data["artifacts"].append(f"{RUNNERS}/{library.name}")


def load_builder(root: Path) -> ModuleType:
    """`tabwise_model.runners.build`, without the package: it is not installed yet."""
    file = root / RUNNERS / "build.py"
    spec = importlib.util.spec_from_file_location("tabwise_native_build", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
