import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, features

from pgjax.data.decode import as_rgb, decode_image
from pgjax.data.pipeline import Pipeline
from pgjax.errors import DataError, UserError

TESTS = Path(__file__).parents[1]
FULL = TESTS.parents[1] / "shared" / "golden" / "image.npz"
GOLDEN = np.load(FULL if FULL.exists() else TESTS / "golden" / "image.npz")


def encode(image, fmt="PNG", **options) -> bytes:
    if isinstance(image, np.ndarray):
        image = Image.fromarray(image)
    buffer = io.BytesIO()
    image.save(buffer, fmt, **options)
    return buffer.getvalue()


def rgb(shape=(5, 7)) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)


def golden(prefix):
    return [key for key in GOLDEN.files if key.startswith(prefix)]


@pytest.mark.parametrize("key", [k for k in golden("dec/") if k.endswith("_png")])
def test_png_is_exact(key):
    data = GOLDEN["enc/" + key.split("/")[1]].tobytes()
    np.testing.assert_array_equal(decode_image(data), GOLDEN[key])


@pytest.mark.parametrize("key", golden("dec_precise/"))
def test_jpeg_is_the_accurate_transform(key):
    data = GOLDEN["enc/" + key.split("/")[1]].tobytes()
    np.testing.assert_array_equal(decode_image(data), GOLDEN[key])


@pytest.mark.parametrize("key", golden("decode_resize56_aa_vr/"))
def test_decode_and_resize(key):
    ops = Pipeline.parse("decode|resize(56, antialias=True)|value_range(-1, 1)")
    name = key.split("/")[1]
    got = ops({"image": GOLDEN["enc/" + name].tobytes()})["image"]
    # TensorFlow's default JPEG transform is the fast one: up to 11 levels off before resizing.
    levels = 8 if name.endswith("jpg") else 1
    assert np.abs(got - GOLDEN[key]).max() <= levels / 127.5 + 1e-6


def test_alpha_is_dropped_not_composited():
    rgba = np.dstack([rgb(), np.zeros((5, 7), np.uint8)])
    np.testing.assert_array_equal(decode_image(encode(rgba)), rgba[..., :3])
    np.testing.assert_array_equal(
        decode_image(encode(rgba, "WEBP", lossless=True, exact=True)), rgb()
    )


def test_transparent_palette():
    image = Image.fromarray(rgb()).convert("P")
    data = encode(image, transparency=bytes([0, 128, 255]))
    np.testing.assert_array_equal(decode_image(data), np.asarray(image.convert("RGB")))


def test_16_bit_gray_keeps_the_high_byte():
    gray = np.array([[0, 255, 256], [32768, 65280, 65535]], np.uint16)
    expected = np.repeat((gray >> 8).astype(np.uint8)[..., None], 3, -1)
    np.testing.assert_array_equal(decode_image(encode(gray)), expected)


def test_cmyk_jpeg():
    flat = Image.new("CMYK", (8, 6), (0, 255, 255, 0))
    got = decode_image(encode(flat, "JPEG", quality=100))
    assert got.shape == (6, 8, 3)
    assert np.abs(got.astype(int) - [255, 0, 0]).max() <= 3


def test_bilevel_and_bmp():
    bits = Image.fromarray(rgb()).convert("1")
    np.testing.assert_array_equal(decode_image(encode(bits)), np.asarray(bits.convert("RGB")))
    np.testing.assert_array_equal(decode_image(encode(rgb(), "BMP")), rgb())


def test_animation():
    shades = [np.full((4, 6, 3), v, np.uint8) for v in (0, 100, 200)]
    first, *rest = map(Image.fromarray, shades)
    data = encode(first, "GIF", save_all=True, append_images=rest)
    np.testing.assert_array_equal(decode_image(data), shades[0])
    np.testing.assert_array_equal(decode_image(data, frames=2), np.stack(shades[:2]))
    np.testing.assert_array_equal(decode_image(data, frames=9), np.stack(shades))
    assert decode_image(encode(rgb()), frames=3).shape == (1, 5, 7, 3)
    with pytest.raises(UserError, match="frames is 0, expected at least 1"):
        decode_image(data, frames=0)
    with pytest.raises(DataError, match=r"got 6x4, 3 frames, expected at most 50 pixels"):
        decode_image(data, frames=3, max_pixels=50)


def test_exif_orientation_is_an_option():
    exif = Image.Exif()
    exif[0x0112] = 6  # rotate by 90° clockwise to show
    data = encode(rgb(), exif=exif)
    np.testing.assert_array_equal(decode_image(data), rgb())
    np.testing.assert_array_equal(decode_image(data, orient=True), np.rot90(rgb(), -1))


def bomb_png(width, height) -> bytes:
    def chunk(kind, body):
        checksum = zlib.crc32(kind + body)
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", checksum)

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")


def test_bomb_is_refused_from_its_header():
    with pytest.raises(DataError, match=r"too large: .*10000000000 pixels"):
        decode_image(bomb_png(100_000, 100_000))
    with pytest.raises(DataError, match=r"too large: got 9000x9000, expected at most 1,000,000"):
        decode_image(bomb_png(9000, 9000), max_pixels=1_000_000)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "the image is empty: got 0 bytes"),
        (
            b"<svg xmlns='http://www.w3.org/2000/svg'/>",
            "not an image of a known format: got 41 bytes",
        ),
        (b"<!DOCTYPE html><html>", "that start with b'<!DOCTYPE ht'"),
        (encode(rgb((64, 64)), "JPEG")[:900], "damaged or cut short"),
        (encode(rgb((64, 64)))[:900], "damaged or cut short"),
        (b"\xff\xd8\xff\xe0", "not an image|damaged"),
    ],
    ids=["empty", "svg", "html", "short jpeg", "short png", "jpeg header"],
)
def test_bad_data(data, message):
    with pytest.raises(DataError, match=message):
        decode_image(data)


def test_tiff_and_avif():
    np.testing.assert_array_equal(decode_image(encode(rgb(), "TIFF")), rgb())
    if features.check("avif"):
        flat = np.full((16, 16, 3), 90, np.uint8)
        assert abs(decode_image(encode(flat, "AVIF")).astype(int) - 90).max() <= 3


def test_pixels_of_32_bits_are_refused():
    for mode in ("I", "F"):
        image = Image.fromarray(np.full((4, 4), 0.5, np.float32)).convert(mode)
        with pytest.raises(DataError, match=f"32 bits .mode {mode}., whose range is not known"):
            decode_image(encode(image, "TIFF"))
        with pytest.raises(DataError, match="32 bits"):
            as_rgb(image)


def test_heic_names_the_way_out():
    pytest.importorskip("PIL")
    data = b"\0\0\0\x18ftypheic" + bytes(200)
    with pytest.raises(DataError, match=r"HEIC, which needs .*heif|damaged|not an"):
        decode_image(data)


@pytest.mark.parametrize("fmt", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF"])
def test_damaged_files_give_one_kind_of_error(fmt):
    """Bytes are changed at random; what is still an image decodes."""
    rng = np.random.default_rng(0)
    frames = [Image.fromarray(rgb((9, 11))).convert("P"), Image.new("P", (11, 9))]
    more = {"save_all": True, "append_images": frames[1:]} if fmt == "GIF" else {}
    data = encode(frames[0].convert("RGB") if fmt != "GIF" else frames[0], fmt, **more)
    for _ in range(400):
        changed = bytearray(data)
        for _ in range(rng.integers(1, 6)):
            changed[rng.integers(len(data))] = rng.integers(256)
        for frames in (None, 3):
            try:
                image = decode_image(bytes(changed), frames=frames, max_pixels=10_000)
            except DataError:
                continue
            assert image.shape[-1] == 3 and image.dtype == np.uint8


def test_arrays():
    image = rgb()
    assert as_rgb(image) is not None
    np.testing.assert_array_equal(as_rgb(image), image)
    np.testing.assert_array_equal(as_rgb(Image.fromarray(image)), image)
    np.testing.assert_array_equal(as_rgb(image[..., 0]), np.repeat(image[..., :1], 3, -1))
    assert as_rgb(np.zeros((2, 5, 7, 3), np.uint8)).shape == (2, 5, 7, 3)
    for bad, message in [
        (image.astype(np.float32), "is float32, expected uint8"),
        (np.zeros((5, 7, 2), np.uint8), r"shape \(5, 7, 2\)"),
        (np.zeros((0, 7, 3), np.uint8), r"shape \(0, 7, 3\)"),
        ("photo.jpg", "is a str, expected bytes or an array"),
    ]:
        with pytest.raises(DataError, match=message):
            as_rgb(bad)


def test_draft_decodes_a_large_jpeg_at_half_its_size():
    with Image.open(TESTS / "photos" / "china.jpg") as photo:
        picture = photo.convert("RGB").resize((640, 480))
    data = encode(picture, "JPEG", quality=90)
    assert decode_image(data, draft=224).shape == (240, 320, 3)
    whole, half = (
        Pipeline.parse(f"decode{draft}|resize(224, antialias=True)")({"image": data})["image"]
        for draft in ("", "(draft=224)")
    )
    apart = np.abs(whole.astype(int) - half)
    assert 0 < apart.mean() < 1 and np.percentile(apart, 99) <= 6


def test_draft_leaves_alone_what_is_small_or_no_jpeg():
    jpeg, png = encode(rgb((300, 400)), "JPEG"), encode(rgb((900, 900)))
    for data in (jpeg, png):
        np.testing.assert_array_equal(decode_image(data, draft=224), decode_image(data))
    with pytest.raises(UserError, match="draft is 0, expected at least 1"):
        decode_image(jpeg, draft=0)
