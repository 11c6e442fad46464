"""Our vocabulary in the form that other engines keep: GPT-2's symbols and merges."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence

from tabwise_model.export.source import ExportError
from tabwise_model.tokenizer import Tokenizer


def byte_symbols() -> dict[int, str]:
    """GPT-2's printable stand-in for each byte: itself where printable, else 256+n."""
    printable = {*range(33, 127), *range(161, 173), *range(174, 256)}
    symbols = {}
    extra = 256
    for byte in range(256):
        symbols[byte] = chr(byte if byte in printable else extra)
        extra += byte not in printable
    return symbols


def piece_symbols(tokenizer: Tokenizer) -> list[str]:
    """Every piece but the sentinels by id, written in byte symbols."""
    table = byte_symbols()
    return ["".join([table[b] for b in piece]) for piece in _pieces(tokenizer)]


def merge_symbols(tokenizer: Tokenizer) -> list[tuple[str, str]]:
    """The merges in order, each a pair of pieces in byte symbols."""
    symbols = piece_symbols(tokenizer)
    return [(symbols[a], symbols[b]) for a, b in recover_merges(_pieces(tokenizer))]


def recover_merges(pieces: Sequence[bytes]) -> list[tuple[int, int]]:
    """For each piece longer than a byte, in order, the ids of the two that make it.

    Those are what is left of its bytes once all earlier merges are done. Raises
    ExportError naming a piece that no single merge completes.
    """
    ranks = {piece: rank for rank, piece in enumerate(pieces)}
    merges = []
    for rank, piece in enumerate(pieces):
        if len(piece) < 2:
            continue
        parts = _merge_below(piece, ranks, rank)
        if len(parts) != 2:
            raise ExportError(
                f"token {rank} ({piece!r}) is not the merge of two earlier tokens; "
                "such a vocabulary cannot be written as merges"
            )
        merges.append((ranks[parts[0]], ranks[parts[1]]))
    return merges


def _merge_below(piece: bytes, ranks: Mapping[bytes, int], limit: int) -> list[bytes]:
    """`piece` cut by BPE that knows only the merges into ranks below `limit`."""
    parts = [piece[i : i + 1] for i in range(len(piece))]
    while len(parts) > 1:
        made = [ranks.get(a + b, limit) for a, b in itertools.pairwise(parts)]
        lowest = min(made)
        if lowest >= limit:
            break
        i = made.index(lowest)
        parts[i : i + 2] = [parts[i] + parts[i + 1]]
    return parts


def _pieces(tokenizer: Tokenizer) -> Sequence[bytes]:
    """Bytes by id, without the sentinels, of which END is the first."""
    return tokenizer.token_bytes()[: tokenizer.end]
