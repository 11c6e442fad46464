"""What is to be completed, and for whom, whichever API asked."""

from __future__ import annotations

import attrs

from tabwise_model.infill import Hole, Wanted


@attrs.frozen(kw_only=True)
class Workspace:
    """A folder of the user's, whose code may be copied. unread: patterns of the files
    in it that are not read; path: from the folder, of the one that is asked about."""

    folder: str
    unread: tuple[str, ...] = ()
    path: str | None = None


@attrs.frozen(kw_only=True)
class Question:
    """about: a hole to fill, or code to continue left to right, of which `wanted` then
    says how many tokens and how they are chosen. stop_texts: the text ends before the
    first of them."""

    about: Hole | str
    wanted: Wanted
    stop_texts: tuple[bytes, ...] = ()
    workspace: Workspace | None = None

    @property
    def chars(self) -> int:
        """Of all its texts."""
        if isinstance(self.about, str):
            return len(self.about)
        context = sum(len(text) for _, text in self.about.context)
        return len(self.about.prefix) + len(self.about.suffix) + context

    @property
    def repeatable(self) -> bool:
        """Whether asking again gives the same answer, as long as the checkpoint is the
        same."""
        sampling = self.wanted.sampling
        chosen = sampling.temperature == 0 or sampling.seed is not None
        return chosen and self.workspace is None


@attrs.frozen(kw_only=True)
class Asker:
    """owner: whose key it is; session: their document, None for none. deadline:
    monotonic seconds after which no answer is wanted, None for no end."""

    owner: str = ""
    session: str | None = None
    deadline: float | None = None
