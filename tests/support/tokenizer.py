"""A tokenizer small enough to read."""

from tabwise_model.tokenizer import Tokenizer


def small_tokenizer() -> Tokenizer:
    """Every byte, and a few merges that reach over them."""
    ranks = {bytes([b]): b for b in range(256)}
    for piece in (b"  ", b"    ", b"de", b"def", b"re", b"ret", b"\r\n", b"\xc3\xa9"):
        ranks[piece] = len(ranks)
    return Tokenizer(ranks)


TOKENIZER = small_tokenizer()
