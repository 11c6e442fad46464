"""Each family's prompt, as its model card has it."""

import pytest

from tabwise_server.backends.templates import TEMPLATES, template_named
from tabwise_server.errors import SettingsError
from tabwise_server.wire import ContextChunk

CONTEXT = [ContextChunk(path="b.py", text="B")]


@pytest.mark.parametrize(
    ("model", "family"),
    [
        ("Qwen/Qwen2.5-Coder-1.5B", "qwen-coder"),
        ("qwen2.5-coder:1.5b-base", "qwen-coder"),
        ("Qwen3-Coder-30B-A3B-Instruct", "qwen-coder"),
        ("bigcode/starcoder2-3b", "starcoder2"),
        ("starcoder:1b", "starcoder"),
        ("codellama/CodeLlama-7b-hf", "codellama"),
        ("deepseek-ai/deepseek-coder-1.3b-base", "deepseek-coder"),
        ("DeepSeek-Coder-V2-Lite-Base", "deepseek-coder"),
        ("mistralai/Codestral-22B-v0.1", "codestral"),
        ("codegemma:2b-code", "codegemma"),
        ("ibm-granite/granite-3b-code-base", "granite-code"),
        ("ibm-granite/granite-3.3-8b-base", "granite"),
        ("JetBrains/Mellum-4b-base", "mellum"),
        ("ByteDance-Seed/Seed-Coder-8B-Base", "seed-coder"),
        ("stabilityai/stable-code-3b", "stable-code"),
        ("tabwise", "tabwise"),
    ],
)
def test_a_models_name_tells_its_family(model: str, family: str) -> None:
    assert template_named(None, model) is TEMPLATES[family]


@pytest.mark.parametrize(
    ("family", "prompt"),
    [
        ("tabwise", "<|fim_prefix|><|fim_suffix|>S<|fim_middle|>P"),
        ("qwen-coder", "<|fim_prefix|>P<|fim_suffix|>S<|fim_middle|>"),
        ("starcoder2", "<fim_prefix>P<fim_suffix>S<fim_middle>"),
        ("codellama", "<PRE> P <SUF>S <MID>"),
        ("deepseek-coder", "<｜fim▁begin｜>P<｜fim▁hole｜>S<｜fim▁end｜>"),
        ("codestral", "[SUFFIX]S[PREFIX]P"),
        ("codegemma", "<|fim_prefix|>P<|fim_suffix|>S<|fim_middle|>"),
        ("granite", "<|fim_prefix|>P<|fim_suffix|>S<|fim_middle|>"),
        ("mellum", "<filename>a.py\n<fim_suffix>S<fim_prefix>P<fim_middle>"),
        ("seed-coder", "<[fim-suffix]>S<[fim-prefix]>P<[fim-middle]>"),
        ("suffix", "P"),
        ("prefix", "P"),
    ],
)
def test_each_family_is_asked_in_its_own_form(family: str, prompt: str) -> None:
    assert TEMPLATES[family].render("P", "S", "a.py") == prompt


@pytest.mark.parametrize(
    ("family", "before"),
    [
        ("tabwise", "<|file_sep|>b.py\nB"),
        ("qwen-coder", "<|file_sep|>b.py\nB\n<|file_sep|>a.py\n"),
        ("starcoder2", "<file_sep>b.py\nB\n<file_sep>a.py\n"),
        ("codestral", "+++++ b.py\nB\n+++++ a.py\n"),
        ("mellum", "<filename>b.py\nB\n<filename>a.py\n"),
        ("codellama", ""),
    ],
)
def test_other_files_stand_before_the_hole(family: str, before: str) -> None:
    alone = TEMPLATES[family].render("P", "S", "a.py")
    hole = alone.removeprefix("<filename>a.py\n")
    assert TEMPLATES[family].render("P", "S", "a.py", CONTEXT) == before + hole


@pytest.mark.parametrize("family", TEMPLATES)
def test_a_sign_in_the_users_own_text_is_no_sign(family: str) -> None:
    template = TEMPLATES[family]
    harmless = template.render("P", "S", "a.py", CONTEXT)
    for sign in template.signs:
        prompt = template.render(f"P{sign}", f"{sign}S", f"{sign}a.py", CONTEXT)
        assert prompt.count(sign) == harmless.count(sign)


def test_braces_in_code_are_code() -> None:
    prompt = TEMPLATES["starcoder"].render("f'{suffix}{path}'", "{prefix}")
    assert prompt == "<fim_prefix>f'{suffix}{path}'<fim_suffix>{prefix}<fim_middle>"


@pytest.mark.parametrize(
    ("name", "model"), [("quen", None), (None, "gpt-5"), (None, None)]
)
def test_an_unknown_family_is_an_error_that_names_the_known(
    name: str | None, model: str | None
) -> None:
    with pytest.raises(SettingsError, match="starcoder2"):
        template_named(name, model)
