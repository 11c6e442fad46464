"""The native CPU runner: the whole step in one call of a small C++ library.

INT8 weights, INT8 activations (one scale a token), INT32 sums, float32 elsewhere. A
token's result depends on its slot's tokens alone, to the last bit: not on the batch,
the chunking, the threads, or the instruction set. docs/native.md tells how.
"""

from __future__ import annotations

import ctypes
import logging
import weakref
from array import array
from collections.abc import Sequence
from itertools import accumulate
from typing import TypeAlias

import numpy as np

from tabwise_model.checkpoint import Checkpoint
from tabwise_model.config import ModelConfig
from tabwise_model.runners.native_library import (
    NativeLibraryError,
    Shape,
    load_library,
    locked_library,
    usable_paths,
)
from tabwise_model.runners.native_weights import (
    Floats,
    Matrix,
    Tensor,
    arrange,
    native_form,
    padded,
    shape_of,
)
from tabwise_model.runners.processors import usable_processors
from tabwise_model.runners.protocol import Chunk, Logits

logger = logging.getLogger(__name__)

MOST_THREADS = 64
DEFAULT_THREADS = 4  # a small model's step is too short to share among more

# Of C's int, 32 bits: made and addressed faster than numpy's.
Ints: TypeAlias = "array[int]"


class NativeUnsupported(NativeLibraryError):
    """The library cannot run this model or option; the message says what can."""


class BadChunk(ValueError):
    """A chunk names a slot, position or token that the runner does not have."""


def native_available() -> bool:
    """Whether the library is built and loads here. An unfit one is logged."""
    try:
        load_library()
    except NativeLibraryError as error:
        logger.warning("no native runner: %s", error)
        return False
    return True


class NativeRunner:
    """See `protocol.Runner`. Family llama only.

    threads: at most this many compute, the caller's among them; 1 starts none, None
    takes the processors that this process may use, up to four. path: an instruction
    set by name (see `paths`), None takes the best. Raises NativeLibraryError.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        *,
        n_slots: int,
        slot_tokens: int,
        threads: int | None = None,
        path: str | None = None,
    ) -> None:
        self._library = load_library()
        self._locked = locked_library() or self._library
        self.config = checkpoint.config
        self.device = "cpu"
        self.n_slots = n_slots
        self.slot_tokens = slot_tokens
        self.threads = (
            min(usable_processors(), DEFAULT_THREADS) if threads is None else threads
        )
        self.path = path or self.paths()[0]
        self._check_options()
        self._vocab = padded(self.config.vocab_size)
        self._logits = np.empty((1, self._vocab), np.float32)
        self._logits_at = self._logits.ctypes.data
        checkpoint = native_form(checkpoint)
        shape = shape_of(checkpoint, n_slots, slot_tokens)
        self._handle = self._create(shape)
        # Also when loading fails, and at exit; a runner holds threads and memory.
        self.close = weakref.finalize(self, self._library.tabwise_destroy, self._handle)
        self._load(checkpoint, shape)

    @staticmethod
    def kv_bytes_per_token(config: ModelConfig) -> int:
        """Bytes of one token's keys and values: INT8 in sixteens, and three numbers of
        four bytes for each head."""
        head = 2 * padded(config.head_size) + 3 * 4
        return config.n_layer * config.n_kv_head * head

    def paths(self) -> list[str]:
        """Instruction sets that this processor has, the best first."""
        return usable_paths(self._library)

    def extend(self, chunks: Sequence[Chunk]) -> Logits:
        lengths = [len(chunk.tokens) for chunk in chunks]
        last_rows = array("i", (end - 1 for end in accumulate(lengths)))
        if len(chunks) > len(self._logits):
            self._logits = np.empty((len(chunks), self._vocab), np.float32)
            self._logits_at = self._logits.ctypes.data
        self._step(chunks, last_rows, self._logits_at)
        return self._logits[: len(chunks), : self.config.vocab_size]

    def extend_all(self, chunk: Chunk) -> Logits:
        rows = range(len(chunk.tokens))
        logits = np.empty((len(rows), self._vocab), np.float32)
        self._step([chunk], array("i", rows), logits.ctypes.data)
        return logits[:, : self.config.vocab_size]

    def copy_slot(self, source: int, target: int, tokens: int, start: int = 0) -> None:
        self._check_open()
        for slot in (source, target):
            self._check_slot(slot)
        if not 0 <= tokens <= self.slot_tokens:
            raise BadChunk(f"tokens must be 0..{self.slot_tokens}, got {tokens}")
        if not 0 <= start <= tokens:
            raise BadChunk(f"start must be 0..{tokens}, got {start}")
        # sooner done than Python's lock is had back
        self._locked.tabwise_copy_slot(self._handle, source, target, tokens, start)

    def adopt(self, other: NativeRunner, lengths: Sequence[int]) -> None:
        """Make the first tokens of each slot, `lengths` of them by slot, those that
        `other` holds, a runner of the same checkpoint and slots. It may be computing,
        but not in slots of which anything is taken. Raises ValueError for another kind
        of runner."""
        self._check_open()
        ours, theirs = [
            (one.config, one.n_slots, one.slot_tokens) for one in (self, other)
        ]
        if ours != theirs or not len(lengths) == self.n_slots:
            raise ValueError("only the slots of a runner like this one can be adopted")
        for slot, tokens in enumerate(lengths):
            self._library.tabwise_adopt_slot(self._handle, other.handle, slot, tokens)

    @property
    def handle(self) -> int:
        """The model, as the library knows it."""
        self._check_open()
        return self._handle

    def counters(self) -> tuple[int, int]:
        """(steps that began with helpers, times that a busy machine made them rest)."""
        self._check_open()
        helped, rests = ctypes.c_int64(), ctypes.c_int64()
        self._library.tabwise_counters(
            self._handle, ctypes.byref(helped), ctypes.byref(rests)
        )
        return helped.value, rests.value

    def _step(self, chunks: Sequence[Chunk], wanted: Ints, logits_at: int) -> None:
        """Run all chunks' tokens as one batch; logits_at: room for (len(wanted),
        padded V) floats."""
        self._check_open()
        tokens, slots, positions = self._rows(chunks)
        self._library.tabwise_step(
            self._handle,
            len(tokens),
            _address(tokens),
            _address(slots),
            _address(positions),
            len(wanted),
            _address(wanted),
            logits_at,
        )

    def _rows(self, chunks: Sequence[Chunk]) -> tuple[Ints, Ints, Ints]:
        """Token, slot and position of each row. Raises BadChunk."""
        tokens, slots, positions = array("i"), array("i"), array("i")
        for chunk in chunks:
            self._check_chunk(chunk)
            count = len(chunk.tokens)
            tokens.extend(chunk.tokens)
            slots.extend([chunk.slot] * count)
            positions.extend(range(chunk.start, chunk.start + count))
        if len({chunk.slot for chunk in chunks}) < len(chunks):
            raise BadChunk("two chunks of one call name the same slot")
        return tokens, slots, positions

    def _check_chunk(self, chunk: Chunk) -> None:
        self._check_slot(chunk.slot)
        end = chunk.start + len(chunk.tokens)
        if not chunk.tokens or chunk.start < 0 or end > self.slot_tokens:
            raise BadChunk(
                f"a chunk needs tokens and room: {len(chunk.tokens)} from "
                f"{chunk.start} in a slot of {self.slot_tokens}"
            )
        if not 0 <= min(chunk.tokens) <= max(chunk.tokens) < self.config.vocab_size:
            raise BadChunk(f"token ids must be 0..{self.config.vocab_size - 1}")

    def _check_open(self) -> None:
        if not self.close.alive:
            raise NativeLibraryError("this runner is closed: make another")

    def _check_slot(self, slot: int) -> None:
        if not 0 <= slot < self.n_slots:
            raise BadChunk(f"slot must be 0..{self.n_slots - 1}, got {slot}")

    def _check_options(self) -> None:
        if self.config.family != "llama":
            raise NativeUnsupported(
                f"the native runner runs family llama, not {self.config.family}: "
                "use the torch runner (`--runner torch`, pip install 'tabwise[torch]')"
            )
        if self.path not in self.paths():
            raise NativeUnsupported(
                f"path must be one of {self.paths()} here, got {self.path!r}"
            )
        if not 1 <= self.threads <= MOST_THREADS:
            raise NativeUnsupported(
                f"threads must be 1..{MOST_THREADS}, got {self.threads}"
            )
        for name in ("n_slots", "slot_tokens"):
            if getattr(self, name) < 1:
                raise NativeUnsupported(
                    f"{name} must be at least 1, got {getattr(self, name)}"
                )

    def _create(self, shape: Shape) -> int:
        handle = self._library.tabwise_create(
            ctypes.byref(shape), self.path.encode("ascii"), self.threads
        )
        if not handle:
            raise NativeLibraryError(
                f"no memory for {self.n_slots} slots of {self.slot_tokens} tokens: "
                "ask for fewer or smaller slots"
            )
        return int(handle)

    def _load(self, checkpoint: Checkpoint, shape: Shape) -> None:
        for layer, tensor, data in arrange(checkpoint, shape):
            failed = self._load_one(layer, tensor, data)
            assert not failed, f"the library knows no {tensor!r} of layer {layer}"

    def _load_one(self, layer: int, tensor: Tensor, data: Floats | Matrix) -> int:
        library, place = self._library, (self._handle, layer, tensor)
        if not isinstance(data, Matrix):
            return int(library.tabwise_load(*place, data.ctypes.data, None))
        weights, scales = data.weights.ctypes.data, data.scales.ctypes.data
        if data.steps is None:
            return int(library.tabwise_load(*place, weights, scales))
        steps = data.steps.ctypes.data
        return int(library.tabwise_load_int4(*place, weights, steps, scales))


def _address(ints: Ints) -> int:
    return ints.buffer_info()[0]
