"""How each family of models is asked to fill in the middle.

A template makes one prompt of context, prefix and suffix for /v1/completions. The
sentinels are those of the families' own model cards.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from types import MappingProxyType

import attrs

from tabwise_server.errors import SettingsError
from tabwise_server.wire import ContextChunk


@attrs.frozen(kw_only=True)
class Template:
    """fim: the hole, with {prefix} and {suffix}; None where the server is given the
    suffix in a field of its own. file: a context file, with {path} and {text}; None
    where the family was trained without. head: between the context and the hole, with
    {path}; always: even without context. signs: all that is a sign to the model; each
    ends the middle, and stands in no user's text. route: below /v1."""

    fim: str | None
    file: str | None = None
    head: str = ""
    always: bool = False
    signs: Sequence[str] = ()
    route: str = "/completions"

    def render(
        self,
        prefix: str,
        suffix: str,
        path: str | None = None,
        context: Sequence[ContextChunk] = (),
    ) -> str:
        """The prompt. A sign in the user's own text is broken by a blank, so that the
        model reads it as text."""
        path, prefix, suffix = map(self._clean, (path or "untitled", prefix, suffix))
        files = [
            _fill(self.file, path=self._clean(chunk.path), text=self._clean(chunk.text))
            for chunk in context
            if self.file is not None
        ]
        head = _fill(self.head, path=path) if files or self.always else ""
        hole = _fill(self.fim or "{prefix}", prefix=prefix, suffix=suffix)
        return "".join([*files, head, hole])

    def _clean(self, text: str) -> str:
        for sign in self.signs:
            text = text.replace(sign, f"{sign[0]} {sign[1:]}")
        return text


def template_named(name: str | None, model: str | None) -> Template:
    """The template that the settings name, or the one for the model's family.

    Raises SettingsError naming the families if neither says which.
    """
    if name is not None:
        if name not in TEMPLATES:
            known = ", ".join(TEMPLATES)
            raise SettingsError(
                f"template must be one of {known}, got {name!r} ([backend])"
            )
        return TEMPLATES[name]
    for pattern, family in FAMILIES.items():
        if re.search(pattern, model or "", re.IGNORECASE):
            return TEMPLATES[family]
    raise SettingsError(
        f"no template is known for model {model!r}; set backend.template to one of "
        + ", ".join(TEMPLATES)
    )


def _fill(form: str, **values: str) -> str:
    """`form` with its places filled; what is filled in is not read again."""
    return re.sub(r"\{(\w+)\}", lambda place: values[place.group(1)], form)


_PIPED = ("<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>")
_PLAIN = ("<fim_prefix>", "<fim_suffix>", "<fim_middle>")
_PSM_PIPED = "<|fim_prefix|>{prefix}<|fim_suffix|>{suffix}<|fim_middle|>"
_PSM_PLAIN = "<fim_prefix>{prefix}<fim_suffix>{suffix}<fim_middle>"

TEMPLATES: Mapping[str, Template] = MappingProxyType(
    {
        # ours: suffix first, and the middle right behind the prefix
        "tabwise": Template(
            fim="<|fim_prefix|><|fim_suffix|>{suffix}<|fim_middle|>{prefix}",
            file="<|file_sep|>{path}\n{text}",
            signs=("<|endoftext|>", "<|file_sep|>", "<|repo_name|>", *_PIPED),
        ),
        "qwen-coder": Template(
            fim=_PSM_PIPED,
            file="<|file_sep|>{path}\n{text}\n",
            head="<|file_sep|>{path}\n",
            signs=(
                *("<|endoftext|>", "<|file_sep|>", "<|repo_name|>", "<|fim_pad|>"),
                *("<|im_end|>", "<|im_start|>", *_PIPED),
            ),
        ),
        "starcoder": Template(
            fim=_PSM_PLAIN, signs=("<|endoftext|>", "<fim_pad>", *_PLAIN)
        ),
        "starcoder2": Template(
            fim=_PSM_PLAIN,
            file="<file_sep>{path}\n{text}\n",
            head="<file_sep>{path}\n",
            signs=("<|endoftext|>", "<file_sep>", "<repo_name>", "<fim_pad>", *_PLAIN),
        ),
        "codellama": Template(
            fim="<PRE> {prefix} <SUF>{suffix} <MID>",
            signs=("<EOT>", "<PRE>", "<SUF>", "<MID>", "</s>"),
        ),
        "deepseek-coder": Template(
            fim="<｜fim▁begin｜>{prefix}<｜fim▁hole｜>{suffix}<｜fim▁end｜>",
            signs=(
                *("<｜end▁of▁sentence｜>", "<｜fim▁begin｜>", "<｜fim▁hole｜>"),
                *("<｜fim▁end｜>", "<|EOT|>"),
            ),
        ),
        "codestral": Template(
            fim="[SUFFIX]{suffix}[PREFIX]{prefix}",
            file="+++++ {path}\n{text}\n",
            head="+++++ {path}\n",
            signs=("</s>", "[PREFIX]", "[SUFFIX]", "[MIDDLE]"),
        ),
        "codegemma": Template(
            fim=_PSM_PIPED,
            file="<|file_separator|>{path}\n{text}\n",
            head="<|file_separator|>{path}\n",
            signs=("<|file_separator|>", "<eos>", "<end_of_turn>", *_PIPED),
        ),
        "granite-code": Template(
            fim=_PSM_PLAIN, signs=("<|endoftext|>", "<fim_pad>", *_PLAIN)
        ),
        "granite": Template(
            fim=_PSM_PIPED, signs=("<|end_of_text|>", "<|fim_pad|>", *_PIPED)
        ),
        "mellum": Template(
            fim="<fim_suffix>{suffix}<fim_prefix>{prefix}<fim_middle>",
            file="<filename>{path}\n{text}\n",
            head="<filename>{path}\n",
            always=True,
            signs=("<|endoftext|>", "<filename>", "<reponame>", "<fim_pad>", *_PLAIN),
        ),
        "seed-coder": Template(
            fim="<[fim-suffix]>{suffix}<[fim-prefix]>{prefix}<[fim-middle]>",
            signs=(
                *("<[end▁of▁sentence]>", "<[fim-suffix]>", "<[fim-prefix]>"),
                "<[fim-middle]>",
            ),
        ),
        "stable-code": Template(
            fim=_PSM_PLAIN, signs=("<|endoftext|>", "<fim_pad>", *_PLAIN)
        ),
        # the server builds the prompt: Ollama, OpenAI, our own
        "suffix": Template(fim=None),
        "mistral-api": Template(fim=None, route="/fim/completions"),
        # left to right only, for a model that fills nothing in
        "prefix": Template(fim="{prefix}"),
    }
)

# A pattern in a model's name, lower case, to its family; the first that fits counts.
FAMILIES: Mapping[str, str] = MappingProxyType(
    {
        r"tabwise": "tabwise",
        r"qwen[-_.\d]*coder|codeqwen": "qwen-coder",
        r"starcoder-?2": "starcoder2",
        r"starcoder|santacoder|refact": "starcoder",
        r"code-?llama": "codellama",
        r"deepseek.*coder": "deepseek-coder",
        r"codestral|devstral": "codestral",
        r"codegemma": "codegemma",
        r"granite.*code": "granite-code",
        r"granite": "granite",
        r"mellum": "mellum",
        r"seed-?coder": "seed-coder",
        r"stable-?code": "stable-code",
    }
)
