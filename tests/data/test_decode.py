"""Every kind of image file becomes the pixels that a viewer shows, exactly."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from own_images import write_bomb
from PIL import Image

from spaceevo.data.decode import flat, is_grey, opened, to_square

RNG = np.random.default_rng(0)
COLOUR = RNG.integers(0, 256, (6, 6, 3), dtype=np.uint8)
GREY = RNG.integers(0, 256, (6, 6), dtype=np.uint8)


def pixels(path: Path, size: int = 6, channels: int = 3, background: int = 255) -> np.ndarray:
    """``[size, size, channels]`` of a file."""
    with opened(path) as image:
        found = to_square(image, size, channels, background)
    assert found.shape == (channels, size, size) and found.dtype == np.uint8 and found.flags.c_contiguous
    return found.transpose(1, 2, 0)


@pytest.mark.parametrize("end", ["png", "bmp", "tiff", "ppm", "PNG", "webp"])
def test_what_loses_nothing_is_read_exactly(end: str, tmp_path: Path) -> None:
    path = tmp_path / f"Bär 1.{end}"
    Image.fromarray(COLOUR).save(path, lossless=True)
    np.testing.assert_array_equal(pixels(path), COLOUR)


def test_16_bits_are_divided_by_257(tmp_path: Path) -> None:
    deep = np.array([[0, 127, 128, 129], [257, 65_535, 65_407, 65_406], [24_158, 24_287, 300, 400], [1, 2, 3, 4]], np.uint16)
    for name in ("deep.png", "deep.tiff"):
        Image.fromarray(deep).save(tmp_path / name)
        with opened(tmp_path / name) as image:
            assert image.mode == "I;16"
        found = pixels(tmp_path / name, 4, 1)[..., 0]
        np.testing.assert_array_equal(found, np.rint(deep / 257).astype(np.uint8))
        assert found[1].tolist() == [1, 255, 255, 254] and found[2, 0] == 94
    np.testing.assert_array_equal(flat(Image.fromarray(deep.astype(np.int32))), np.rint(deep / 257))
    np.testing.assert_array_equal(pixels(tmp_path / "deep.png", 4)[..., 2], pixels(tmp_path / "deep.png", 4, 1)[..., 0])


@pytest.mark.parametrize(("turn", "undo"), [(6, 3), (8, 1), (3, 2)])
def test_a_photo_lies_as_its_exif_says(turn: int, undo: int, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = turn
    Image.fromarray(COLOUR).save(tmp_path / "a.png", exif=exif)
    np.testing.assert_array_equal(pixels(tmp_path / "a.png"), np.rot90(COLOUR, undo))
    halves = np.zeros((16, 16, 3), np.uint8)
    halves[:8] = 250  # white above black, as stored; 6: the camera's top is to the right
    Image.fromarray(halves).save(tmp_path / "a.JPG", "JPEG", exif=exif)
    expected = np.rot90(halves, undo).astype(int)
    assert np.abs(pixels(tmp_path / "a.JPG", 16).astype(int) - expected).max() < 8


@pytest.mark.parametrize("background", [255, 0, 90])
def test_transparent_pixels_show_the_background(background: int, tmp_path: Path) -> None:
    alpha = np.array([0, 0, 255, 255, 128, 64], np.uint8)[None].repeat(6, 0)
    expected = COLOUR * (alpha[..., None] / 255) + background * (1 - alpha[..., None] / 255)
    Image.fromarray(np.dstack([COLOUR, alpha])).save(tmp_path / "a.png")
    found = pixels(tmp_path / "a.png", background=background)
    assert np.abs(found - expected).max() <= 1 and (found[:, :2] == background).all()
    np.testing.assert_array_equal(found[:, 2:4], COLOUR[:, 2:4])
    Image.merge("LA", [Image.fromarray(GREY), Image.fromarray(alpha)]).save(tmp_path / "la.png")
    grey = pixels(tmp_path / "la.png", 6, 1, background)[..., 0]
    assert (grey[:, :2] == background).all() and (grey[:, 2:4] == GREY[:, 2:4]).all()


def test_palettes_with_and_without_a_transparent_colour(tmp_path: Path) -> None:
    image = Image.new("P", (6, 6), 0)
    image.putpalette([10, 20, 30, 200, 100, 50])
    image.paste(1, (0, 0, 3, 6))
    image.save(tmp_path / "a.png")
    assert pixels(tmp_path / "a.png")[0, 0].tolist() == [200, 100, 50] and pixels(tmp_path / "a.png")[0, 5].tolist() == [
        10,
        20,
        30,
    ]
    image.save(tmp_path / "clear.png", transparency=0)
    assert pixels(tmp_path / "clear.png", background=7)[0, 5].tolist() == [7, 7, 7]
    image.save(tmp_path / "clear.gif", transparency=0)
    assert pixels(tmp_path / "clear.gif", background=7)[0, 5].tolist() == [7, 7, 7]
    assert pixels(tmp_path / "clear.gif")[0, 0].tolist() == [200, 100, 50]


def test_cmyk_one_bit_and_animated_files(tmp_path: Path) -> None:
    Image.new("CMYK", (16, 16), (0, 255, 255, 0)).save(tmp_path / "red.jpg", quality=95)
    red = pixels(tmp_path / "red.jpg").astype(int)
    assert (red[..., 0] > 240).all() and (red[..., 1:] < 15).all()
    Image.fromarray(GREY > 127).save(tmp_path / "bit.png")
    np.testing.assert_array_equal(pixels(tmp_path / "bit.png", 6, 1)[..., 0], 255 * (GREY > 127))
    first, second = (Image.new("RGB", (6, 6), colour) for colour in ("lime", "blue"))
    first.save(tmp_path / "a.gif", save_all=True, append_images=[second])
    first.save(tmp_path / "a.webp", save_all=True, append_images=[second], lossless=True)
    assert (pixels(tmp_path / "a.gif") == [0, 255, 0]).all() and (pixels(tmp_path / "a.webp") == [0, 255, 0]).all()


def test_the_centre_square_is_brought_to_size_and_averaged(tmp_path: Path) -> None:
    wide = np.zeros((8, 20, 3), np.uint8)
    wide[:, 6:14] = RNG.integers(0, 256, (8, 8, 3))
    for name, image in (("wide", wide), ("high", wide.transpose(1, 0, 2))):
        Image.fromarray(image).save(tmp_path / f"{name}.png")
    np.testing.assert_array_equal(pixels(tmp_path / "wide.png", 8), wide[:, 6:14])
    np.testing.assert_array_equal(pixels(tmp_path / "high.png", 8), wide[:, 6:14].transpose(1, 0, 2))
    board = np.indices((64, 64)).sum(0) % 2 * 255
    Image.fromarray(board.astype(np.uint8)).save(tmp_path / "board.png")
    assert np.abs(pixels(tmp_path / "board.png", 8, 1).astype(int) - 127).max() <= 4  # without averaging: 0 or 255


def test_grey_is_what_has_the_same_value_in_all_channels() -> None:
    assert is_grey(Image.fromarray(GREY)) and is_grey(Image.fromarray(GREY).convert("RGB"))
    one = np.dstack([GREY] * 3)
    one[5, 4, 1] ^= 1
    assert not is_grey(Image.fromarray(one))


def test_what_cannot_be_read_is_said_in_words(tmp_path: Path) -> None:
    (tmp_path / "text.jpg").write_text("no image")
    with pytest.raises(ValueError, match="not an image that can be read"), opened(tmp_path / "text.jpg"):
        pass
    write_bomb(tmp_path / "bomb.png")
    with pytest.raises(ValueError, match=r"more than 178,956,970 pixels"), opened(tmp_path / "bomb.png"):
        pass
    with pytest.raises(ValueError, match="floating-point pixels"):
        flat(Image.new("F", (4, 4)))
    with pytest.raises(ValueError, match="values from 0 to 70000"):
        flat(Image.fromarray(np.array([[0, 70_000]], np.int32)))
