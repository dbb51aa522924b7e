"""What a file's first bytes look like: which kind of file is no text, and which encoding a text may be in."""

from __future__ import annotations

import codecs
import re

MAGIC: tuple[tuple[int, bytes, str], ...] = (
    (0, b"\x89PNG\r\n\x1a\n", "a PNG image"),
    (0, b"\xff\xd8\xff", "a JPEG image"),
    (0, b"GIF87a", "a GIF image"),
    (0, b"GIF89a", "a GIF image"),
    (0, b"II*\x00", "a TIFF image"),
    (0, b"MM\x00*", "a TIFF image"),
    (0, b"RIFF", "a RIFF file (WAV, AVI or WebP)"),
    (0, b"OggS", "an Ogg sound"),
    (0, b"fLaC", "a FLAC sound"),
    (0, b"ID3\x03", "an MP3 sound"),
    (0, b"ID3\x04", "an MP3 sound"),
    (4, b"ftyp", "an MP4 video"),
    (0, b"\x1aE\xdf\xa3", "a Matroska or WebM video"),
    (0, b"%PDF-", "a PDF document"),
    (0, b"{\\rtf", "an RTF document"),
    (0, b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "an old Office document"),
    (0, b"PK\x03\x04", "a ZIP archive (as are .docx, .epub, .npz and PyTorch's .pt)"),
    (0, b"\x1f\x8b", "a gzip archive"),
    (0, b"BZh", "a bzip2 archive"),
    (0, b"\xfd7zXZ\x00", "an xz archive"),
    (0, b"\x28\xb5\x2f\xfd", "a Zstandard archive"),
    (0, b"7z\xbc\xaf\x27\x1c", "a 7-Zip archive"),
    (0, b"Rar!\x1a\x07", "a RAR archive"),
    (257, b"ustar", "a tar archive"),
    (0, b"\x7fELF", "an ELF program"),
    (0, b"\xca\xfe\xba\xbe", "a Java class or a macOS program"),
    (0, b"\xcf\xfa\xed\xfe", "a macOS program"),
    (0, b"\x00asm", "a WebAssembly program"),
    (0, b"PAR1", "a Parquet table"),
    (0, b"ARROW1", "an Arrow table"),
    (0, b"SQLite format 3\x00", "an SQLite database"),
    (0, b"\x89HDF\r\n\x1a\n", "an HDF5 file"),
    (0, b"\x93NUMPY", "a NumPy array"),
    (0, b"GGUF", "a GGUF model"),
)
"""(offset, bytes there, what it is), for the files that are given in the place of a text."""

_PICKLE = re.compile(rb"\x80[\x02-\x05]")
_BYTE_ORDER_MARKS = (
    (codecs.BOM_UTF32_LE, "UTF-32"),
    (codecs.BOM_UTF32_BE, "UTF-32"),
    (codecs.BOM_UTF16_LE, "UTF-16"),
    (codecs.BOM_UTF16_BE, "UTF-16"),
)
_CONTROLS = bytes(byte for byte in (*range(32), 127) if byte not in b"\t\n\v\f\r\b\x1b")
_HIGH = bytes(range(128, 256))


def name_binary(head: bytes) -> str | None:
    """What kind of file begins so, for example "a PNG image"; None where the bytes are none of those known.

    head: from the file's first byte; 512 bytes are enough.
    """
    for offset, magic, kind in MAGIC:
        if head.startswith(magic, offset):
            return kind
    return "a Python pickle" if _PICKLE.match(head) else None


def name_wide_encoding(head: bytes) -> str | None:
    """UTF-16 or UTF-32 with an iconv name, by its mark or by every other byte being 0; None for neither.

    head: from the file's first byte.
    """
    for mark, name in _BYTE_ORDER_MARKS:
        if head.startswith(mark):
            return name
    zeros = [head[start::2].count(0) for start in (0, 1)]
    # Of plain English in UTF-16 one half of the bytes is zeros, of the other half (nearly) none.
    if len(head) >= 4 and min(zeros) * 20 <= max(zeros) and max(zeros) > len(head) // 5:
        return "UTF-16LE" if zeros[1] else "UTF-16BE"
    return None


def has_control_bytes(sample: bytes) -> bool:
    """Whether more than one byte in a hundred is a control character, as of compressed data one in ten is."""
    return len(sample) - len(sample.translate(None, _CONTROLS)) > len(sample) / 100


def guess_narrow_encoding(sample: bytes) -> str:
    """What a text that is not UTF-8 may be in, for people; in Latin-1 nearly all of it is ASCII."""
    high = len(sample) - len(sample.translate(None, _HIGH))
    if high > len(sample) * 0.3:
        return "its language's own encoding, such as Windows-1251, Shift JIS or GBK"
    low = len(sample) - len(sample.translate(None, bytes(range(128, 160))))
    return "Windows-1252" if low else "Latin-1"
