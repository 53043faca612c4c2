"""Image files in every shape a camera or a person leaves them in."""

import resource
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest.errors import ImageError
from ingest.headers import HeaderError, dimensions
from ingest.pictures import MAX_PIXELS, PICTURE_SUFFIXES, encode_jpeg, read_picture

SUFFIXES = sorted(PICTURE_SUFFIXES)
LOSSLESS = [".bmp", ".png", ".tif", ".tiff"]


def scene(height: int = 48, width: int = 64) -> np.ndarray:
    """A smooth colour picture that survives JPEG."""
    y, x = np.mgrid[0:height, 0:width]
    return np.stack([x * 255 / width, y * 255 / height, (x + y) * 127 / (width + height)], -1).astype(np.uint8)


def encoded(suffix: str, picture: np.ndarray) -> bytes:
    done, data = cv2.imencode(suffix, picture)
    assert done
    return data.tobytes()


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_each_format_comes_back_as_it_was(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    path.write_bytes(encoded(suffix, scene()))
    picture = read_picture(path)
    assert picture.shape == (48, 64, 3)
    assert picture.dtype == np.uint8
    assert picture.flags.c_contiguous
    tolerance = 0 if suffix in LOSSLESS else 12
    assert np.abs(picture.astype(int) - scene()).max() <= tolerance


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_the_header_tells_the_size(suffix: str) -> None:
    assert dimensions(encoded(suffix, scene(31, 57))) == (57, 31)


@pytest.mark.parametrize("suffix", LOSSLESS)
def test_grey_becomes_three_equal_channels(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"grey{suffix}"
    path.write_bytes(encoded(suffix, scene()[..., 0]))
    picture = read_picture(path)
    for channel in range(3):
        assert np.array_equal(picture[..., channel], scene()[..., 0])


@pytest.mark.parametrize("suffix", [".png", ".tif"])
@pytest.mark.parametrize("shape", [(4, 5), (4, 5, 3)])
def test_sixteen_bits_map_full_scale_to_full_scale(tmp_path: Path, suffix: str, shape: tuple[int, ...]) -> None:
    path = tmp_path / f"deep{suffix}"
    levels = np.linspace(0, 65535, int(np.prod(shape))).astype(np.uint16).reshape(shape)
    path.write_bytes(encoded(suffix, levels))
    picture = read_picture(path)
    wanted = np.broadcast_to((levels if len(shape) == 3 else levels[..., None]) / 257, picture.shape)
    assert picture.dtype == np.uint8
    assert np.abs(picture - wanted).max() <= 0.5
    assert picture.max() == 255


@pytest.mark.parametrize("suffix", [".png", ".tif", ".webp"])
def test_alpha_is_dropped(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"glass{suffix}"
    alpha = np.full((48, 64, 1), 255, np.uint8)
    path.write_bytes(encoded(suffix, np.concatenate([scene(), alpha], axis=2)))
    picture = read_picture(path)
    assert picture.shape == (48, 64, 3)
    assert np.abs(picture.astype(int) - scene()).max() <= 12


def test_a_float_tiff_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "float.tif"
    path.write_bytes(encoded(".tif", np.ones((4, 4, 3), np.float32)))
    with pytest.raises(ImageError, match="float32: save it with 8 or 16 bits"):
        read_picture(path)


@pytest.mark.parametrize(
    ("content", "says"),
    [(b"", "empty"), (b"hello", "not a PNG, JPEG, BMP, TIFF or WebP"), (b"\x89PNG\r\n\x1a\n", "truncated")],
)
def test_what_is_no_picture_is_named(tmp_path: Path, content: bytes, says: str) -> None:
    path = tmp_path / "broken.png"
    path.write_bytes(content)
    with pytest.raises(ImageError, match=f"broken.png: .*{says}"):
        read_picture(path)


def test_missing_folder_and_odd_names(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=r"nowhere\.png: no such file"):
        read_picture(tmp_path / "nowhere.png")
    with pytest.raises(ImageError, match="not a file"):
        read_picture(tmp_path)
    with pytest.raises(ImageError, match="null"):
        read_picture(tmp_path / "a\0b.png")


@pytest.mark.parametrize("suffix", SUFFIXES)
@settings(deadline=None)
@given(share=st.floats(0.0, 0.98))
def test_a_truncated_file_is_never_half_a_picture(suffix: str, share: float) -> None:
    data = encoded(suffix, np.random.default_rng(0).integers(0, 255, (40, 40, 3), np.uint8))
    with pytest.raises(HeaderError):
        dimensions(data[: int(share * len(data))])


@pytest.mark.parametrize("suffix", SUFFIXES)
@settings(deadline=None)
@given(flips=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), min_size=1, max_size=8))
def test_damage_gives_a_size_or_a_header_error(suffix: str, flips: list[tuple[float, int]]) -> None:
    data = bytearray(encoded(suffix, scene(20, 20)))
    for place, value in flips:
        data[int(place * len(data))] = value
    try:
        width, height = dimensions(bytes(data))
    except HeaderError:
        return
    assert width > 0
    assert height > 0


@settings(deadline=None)
@given(st.binary(max_size=200), st.sampled_from([b"", b"BM", b"II*\0", b"MM\0+", b"RIFF....WEBPVP8X", b"\xff\xd8\xff"]))
def test_noise_gives_a_size_or_a_header_error(noise: bytes, magic: bytes) -> None:
    try:
        width, height = dimensions(magic + noise)
    except HeaderError:
        return
    assert width > 0
    assert height > 0


def test_a_damaged_png_is_found_by_its_checksum(tmp_path: Path) -> None:
    data = bytearray(encoded(".png", scene()))
    data[len(data) // 2] ^= 0xFF
    path = tmp_path / "bad.png"
    path.write_bytes(data)
    with pytest.raises(ImageError, match=r"IDAT.*checksum"):
        read_picture(path)


def test_an_embedded_thumbnail_does_not_hide_truncation() -> None:
    whole = encoded(".jpg", scene())
    thumbnail = b"Exif\0\0" + encoded(".jpg", scene(16, 16))
    data = whole[:2] + b"\xff\xe1" + struct.pack(">H", len(thumbnail) + 2) + thumbnail + whole[2:]
    assert dimensions(data) == (64, 48)
    assert dimensions(data + b"trailing bytes of a phone") == (64, 48)
    with pytest.raises(HeaderError, match="end-of-image"):
        dimensions(data[:-40])


def png(width: int, height: int, compressed: bytes) -> bytes:
    """A PNG with the right checksums around whatever is said to be its grey pixels."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", compressed) + chunk(b"IEND", b"")


def bomb(width: int, height: int) -> bytes:
    """A valid PNG of one colour: a few hundred kilobytes that decode to gigabytes."""
    pack = zlib.compressobj(1)
    row = bytes(1 + width)
    return png(width, height, b"".join(pack.compress(row) for _ in range(height)) + pack.flush())


def test_too_many_pixels_are_refused_before_they_cost_memory(tmp_path: Path) -> None:
    path = tmp_path / "huge.png"
    path.write_bytes(bomb(30_000, 30_000))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ImageError, match=r"huge.png: 30000x30000 is 900.0 megapixels, the limit is 100"):
        read_picture(path)
    grown_mib = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    assert grown_mib < 64


def test_the_limit_itself_is_allowed() -> None:
    assert dimensions(bomb(10_000, MAX_PIXELS // 10_000)) == (10_000, 10_000)


def test_jpeg_round_trip(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(encode_jpeg(scene(), quality=95))
    assert np.abs(read_picture(path).astype(int) - scene()).max() <= 12
    assert len(encode_jpeg(scene(), quality=10)) < len(encode_jpeg(scene(), quality=95))


def test_what_cannot_be_a_jpeg_is_an_image_error() -> None:
    with pytest.raises(ImageError, match=r"\(0, 4, 3\)"):
        encode_jpeg(np.zeros((0, 4, 3), np.uint8))
    with pytest.raises(ImageError, match=r"\(1, 70000, 3\)"):
        encode_jpeg(np.zeros((1, 70_000, 3), np.uint8))


def test_opencv_says_nothing_on_its_own(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(png(8, 8, b"no zlib stream"))
    (tmp_path / "b.png").write_bytes(png(8, 8, zlib.compress(bytes(20))))
    photograph = bytearray(encoded(".jpg", scene()))
    photograph[-60:-30] = bytes(30)
    (tmp_path / "c.jpg").write_bytes(photograph)
    code = """
import pathlib, sys
from ingest.pictures import ImageError, read_picture
for path in sorted(pathlib.Path(sys.argv[1]).iterdir()):
    try:
        print(path.name, read_picture(path).shape)
    except ImageError as error:
        print(error)
"""
    done = subprocess.run(
        [sys.executable, "-c", code, tmp_path], capture_output=True, timeout=60, check=True, text=True
    )
    assert "a.png: cannot be decoded" in done.stdout
    assert "b.png: cannot be decoded" in done.stdout
    assert "[ WARN" not in done.stderr  # the codecs below it (libpng, libjpeg) keep their own one line
    assert "[ERROR" not in done.stderr


@pytest.mark.shared
def test_real_photographs_are_read(shared: Path) -> None:
    paths = sorted((shared / "data" / "dobot_cubes").rglob("*.jpg"))
    assert paths
    for path in paths[:5]:
        picture = read_picture(path)
        assert picture.ndim == 3
        assert dimensions(path.read_bytes()) == (picture.shape[1], picture.shape[0])
