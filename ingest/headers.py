"""What an image file says about itself: its size before it is decoded, and whether all of it is there.

Decoders allocate before they look and fill what is missing with grey, so both questions are answered from the bytes:
the size guards memory, the walk to the end of the file keeps half a picture from being judged as a whole one.
Formats: PNG (W3C PNG 3, sections 5 and 11), JPEG (ITU T.81, annex B), BMP (Microsoft DIB), TIFF 6.0 and BigTIFF,
WebP (RFC 9649).
"""

import re
import struct
import zlib
from collections.abc import Callable

_PNG = b"\x89PNG\r\n\x1a\n"
_JPEG = b"\xff\xd8\xff"
_JPEG_SIZE = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}  # start-of-frame markers; the three others are tables
_JPEG_ALONE = frozenset({0x01, *range(0xD0, 0xD9)})  # markers without a length
_JPEG_SCAN_END = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]")  # in compressed data 0xFF is stuffed or a restart
_TIFF_UNITS = {1: "B", 3: "H", 4: "I", 16: "Q"}


class HeaderError(Exception):
    """The bytes are not a whole image file; the text says what is missing."""


def dimensions(data: bytes) -> tuple[int, int]:
    """Read width and height in pixels from an image file's bytes, without decoding it.

    Raises:
        HeaderError: the format is none of the five, the header is broken, or the file ends early.
    """
    for magics, read in _FORMATS:
        if data.startswith(magics):
            try:
                width, height = read(data)
            except (struct.error, OverflowError, IndexError, KeyError) as error:
                raise HeaderError("the file ends inside its header") from error
            if width <= 0 or height <= 0:
                raise HeaderError(f"the header says {width}x{height} pixels")
            return width, height
    raise HeaderError("not a PNG, JPEG, BMP, TIFF or WebP file")


def _png(data: bytes) -> tuple[int, int]:
    at, kind = len(_PNG), b""
    while kind != b"IEND":
        if at + 12 > len(data):
            raise HeaderError("truncated: no IEND chunk")
        length, kind = struct.unpack_from(">I4s", data, at)
        end = at + 12 + length
        if end > len(data):
            raise HeaderError("truncated: the last chunk is incomplete")
        if zlib.crc32(memoryview(data)[at + 4 : end - 4]) != struct.unpack_from(">I", data, end - 4)[0]:
            raise HeaderError(f"damaged: the {kind.decode('latin-1')!r} chunk fails its checksum")
        at = end
    width, height = struct.unpack_from(">II", data, 16)
    return width, height


def _jpeg(data: bytes) -> tuple[int, int]:
    at, size = 2, (0, 0)
    while at + 2 <= len(data):
        if data[at] != 0xFF:
            raise HeaderError("damaged: its segments do not follow one another")
        marker = data[at + 1]
        if marker == 0xD9:  # end of image
            return size
        if marker == 0xFF:  # a fill byte before the marker
            at += 1
            continue
        if marker in _JPEG_SIZE:
            height, width = struct.unpack_from(">HH", data, at + 5)
            size = (max(width, size[0]), max(height, size[1]))  # of several frames, decoders differ in which they take
        at += 2
        if marker not in _JPEG_ALONE:
            at += struct.unpack_from(">H", data, at)[0]
        if marker == 0xDA:  # start of scan: compressed data up to the next real marker
            after = _JPEG_SCAN_END.search(data, at)
            at = len(data) if after is None else after.start()
    raise HeaderError("truncated: no end-of-image marker")


def _bmp(data: bytes) -> tuple[int, int]:
    pixels, info = struct.unpack_from("<II", data, 10)
    if info == 12:
        width, height, _, bits = struct.unpack_from("<HHHH", data, 18)
        compression = 0
    else:
        width, height, _, bits, compression, stored = struct.unpack_from("<iiHHII", data, 18)
        height = abs(height)  # negative: stored from the top down
    need = (width * bits + 31) // 32 * 4 * height if compression in (0, 3) else stored
    if pixels + need > len(data):
        raise HeaderError(f"truncated: {len(data)} bytes of {pixels + need}")
    return width, height


def _tiff(data: bytes) -> tuple[int, int]:
    order = "<" if data[:2] == b"II" else ">"
    big = struct.unpack_from(order + "H", data, 2)[0] == 43
    offset, count, entry = ("Q", "Q", 20) if big else ("I", "H", 12)
    at = struct.unpack_from(order + offset, data, 8 if big else 4)[0]
    n_entries = struct.unpack_from(order + count, data, at)[0]
    at += struct.calcsize(order + count)
    tags: dict[int, tuple[int, ...]] = {}
    for entry_at in range(at, at + min(n_entries, 4096) * entry, entry):
        tag, unit, n = struct.unpack_from(order + "HH" + offset, data, entry_at)
        if tag not in (256, 257, 273, 279, 324, 325) or unit not in _TIFF_UNITS:
            continue
        values = f"{order}{n}{_TIFF_UNITS[unit]}"
        value_at = entry_at + 4 + struct.calcsize(order + offset)
        if struct.calcsize(values) > struct.calcsize(order + offset):
            value_at = struct.unpack_from(order + offset, data, value_at)[0]
        if value_at + struct.calcsize(values) > len(data):
            raise HeaderError("truncated: its directory points beyond the end")
        told = struct.unpack_from(values, data, value_at)
        tags[tag] = max(tags[tag], told) if tag in tags else told  # told twice: decoders differ in which they take
    for starts, lengths in ((273, 279), (324, 325)):
        for start, length in zip(tags.get(starts, ()), tags.get(lengths, ()), strict=False):
            if start + length > len(data):
                raise HeaderError(f"truncated: {len(data)} bytes of at least {start + length}")
    return tags[256][0], tags[257][0]


def _webp(data: bytes) -> tuple[int, int]:
    length, magic, kind = struct.unpack_from("<I4s4s", data, 4)
    if magic != b"WEBP":
        raise HeaderError("a RIFF file, but no WebP")
    if length + 8 > len(data):
        raise HeaderError(f"truncated: {len(data)} bytes of {length + 8}")
    if kind == b"VP8X":
        return int.from_bytes(data[24:27], "little") + 1, int.from_bytes(data[27:30], "little") + 1
    if kind == b"VP8L":
        bits = struct.unpack_from("<I", data, 21)[0]
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    width, height = struct.unpack_from("<HH", data, 26)
    return width & 0x3FFF, height & 0x3FFF


_FORMATS: tuple[tuple[bytes | tuple[bytes, ...], Callable[[bytes], tuple[int, int]]], ...] = (
    (_PNG, _png),
    (_JPEG, _jpeg),
    (b"BM", _bmp),
    ((b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"), _tiff),
    (b"RIFF", _webp),
)
