"""The alphabet of the language models: newline and the 95 printable characters of ASCII, 96 in all.

Kuang et al. (2025) use as many. A token is a byte: its character's place in the alphabet.
"""

import re
import unicodedata

import torch
from jaxtyping import Integer, UInt8
from torch import Tensor

ALPHABET = "\n" + "".join(chr(code) for code in range(32, 127))
VOCAB_SIZE = len(ALPHABET)  # 96

OUTSIDE = bytes(code for code in range(128) if chr(code) not in ALPHABET)
TOKENS = bytes(max(0, ALPHABET.find(chr(code))) for code in range(256))  # byte of ASCII -> token

# What is lost without harm: marks that ASCII spells with its own, and letters that no decomposition would take apart.
SPELLINGS = str.maketrans(
    {
        "\N{EM DASH}": "--",
        "\N{EN DASH}": "-",
        "\N{LEFT SINGLE QUOTATION MARK}": "'",
        "\N{RIGHT SINGLE QUOTATION MARK}": "'",
        "\N{LEFT DOUBLE QUOTATION MARK}": '"',
        "\N{RIGHT DOUBLE QUOTATION MARK}": '"',
        "\N{HORIZONTAL ELLIPSIS}": "...",
        "\N{NO-BREAK SPACE}": " ",
        "\N{HAIR SPACE}": " ",
        "\t": " ",
        "æ": "ae",
        "Æ": "AE",
        "œ": "oe",
        "£": "L",
        "\N{LATIN SMALL LETTER LONG S}": "s",
        "\N{ZERO WIDTH NO-BREAK SPACE}": None,
        "\r": None,
    }
)


def encode_bytes(text: bytes) -> bytes:
    """The tokens 0 ... 95 of the characters of `text`, which is ASCII, one a byte; others are dropped."""
    return text.translate(TOKENS, OUTSIDE)


def as_tensor(tokens: bytes) -> UInt8[Tensor, " tokens"]:
    return torch.frombuffer(bytearray(tokens), dtype=torch.uint8) if tokens else torch.empty(0, dtype=torch.uint8)


def encode(text: str) -> UInt8[Tensor, " tokens"]:
    """The tokens 0 ... 95 of the characters of `text` that the alphabet has; the others are dropped.

    A byte each, so make them `long` before you index or embed with them, as `batches` does.
    """
    return as_tensor(encode_bytes(text.encode("ascii", "ignore")))


def decode(tokens: Integer[Tensor, " tokens"]) -> str:
    """The text that `tokens` stand for."""
    return "".join(ALPHABET[token] for token in tokens.tolist())


def spell(text: str) -> tuple[str, int]:
    """`text` in the alphabet, and how many characters had to be dropped.

    Typographic marks become those of ASCII, accented letters lose their accents (an accent counts as dropped).
    """
    decomposed = unicodedata.normalize("NFKD", text.translate(SPELLINGS))
    spelled = re.sub(r"[^\n -~]", "", decomposed)
    return spelled, len(decomposed) - len(spelled)
