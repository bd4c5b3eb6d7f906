"""Size, EXIF orientation and kind of image files, from their first bytes."""

import struct
from pathlib import Path
from typing import NamedTuple

from PIL import Image as PillowImage
from PIL import UnidentifiedImageError

ORIENTATION = 274  # the EXIF tag
FORMATS = {
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
    ".png": "PNG",
    ".bmp": "BMP",
    ".webp": "WEBP",
    ".tif": "TIFF",
    ".tiff": "TIFF",
}
TURNED = (5, 6, 7, 8)  # orientations that exchange width and height


class Header(NamedTuple):
    """What a file says about its image, in pixels as they are stored."""

    width: int
    height: int
    orientation: int = 1  # EXIF's: 1 is upright
    unusual: str = ""  # what is not as in most images: its colours, or a name of another format

    @property
    def upright_size(self) -> tuple[int, int]:
        """Width and height as viewers show the image."""
        turned = self.orientation in TURNED
        return (self.height, self.width) if turned else (self.width, self.height)


def read_header(path: Path) -> Header | None:
    """The header of an image file; None where it is missing or not an image."""
    try:
        with PillowImage.open(path) as image:
            return Header(*image.size, _orientation(image), _unusual(image, path))
    except (OSError, UnidentifiedImageError, ValueError, SyntaxError, EOFError, TypeError):
        return None
    except PillowImage.DecompressionBombError:
        return None


def _unusual(image: PillowImage.Image, path: Path) -> str:
    """What reading as 8-bit RGB changes, or why the file's name misleads."""
    format = "JPEG" if image.format == "MPO" else image.format or ""
    named = FORMATS.get(path.suffix.lower(), format)
    if named != format:
        return f"a {format} file"
    if getattr(image, "is_animated", False) and format != "JPEG":
        return "animated"
    if image.mode in ("CMYK", "YCCK"):
        return "CMYK"
    if image.mode.startswith(("I", "F")) or _bits_of_png(path, format) == 16:
        return "16 bits"
    return "transparent" if image.mode in ("RGBA", "LA", "PA") else ""


def _bits_of_png(path: Path, format: str) -> int:
    if format != "PNG":
        return 8
    with path.open("rb") as file:
        return file.read(25)[24]


def _orientation(image: PillowImage.Image) -> int:
    """EXIF's orientation, 1 where there is none or the data are damaged."""
    if image.format == "TIFF":
        return 1  # its pixels are read upright, whoever reads them, and so is its size
    exif = PillowImage.Exif()  # not `getexif`, which takes XMP's orientation, too: OpenCV does not
    try:
        exif.load(image.info.get("exif", b""))
        orientation = exif.get(ORIENTATION, 1)
    except (OSError, ValueError, SyntaxError, EOFError, TypeError, KeyError, struct.error):
        return 1
    return orientation if isinstance(orientation, int) and 1 <= orientation <= 8 else 1
