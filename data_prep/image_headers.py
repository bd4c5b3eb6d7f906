"""Size and EXIF orientation of image files, from their first bytes."""

import struct
from pathlib import Path
from typing import NamedTuple

from PIL import Image as PillowImage
from PIL import UnidentifiedImageError

ORIENTATION = 274  # the EXIF tag
TURNED = (5, 6, 7, 8)  # orientations that exchange width and height


class Header(NamedTuple):
    """What a file says about its image, in pixels as they are stored."""

    width: int
    height: int
    orientation: int = 1  # EXIF's: 1 is upright

    @property
    def upright_size(self) -> tuple[int, int]:
        """Width and height as viewers show the image."""
        turned = self.orientation in TURNED
        return (self.height, self.width) if turned else (self.width, self.height)


def read_header(path: Path) -> Header | None:
    """The header of an image file; None where it is missing or not an image."""
    try:
        with PillowImage.open(path) as image:
            return Header(*image.size, _orientation(image))
    except (OSError, UnidentifiedImageError, ValueError, SyntaxError, EOFError, TypeError):
        return None
    except PillowImage.DecompressionBombError:
        return None


def _orientation(image: PillowImage.Image) -> int:
    """EXIF's orientation, 1 where there is none or the data are damaged."""
    if image.format == "PNG" and "exif" not in image.info:
        return 1  # or all of the file would be decoded to look behind the pixels
    try:
        orientation = image.getexif().get(ORIENTATION, 1)
    except (OSError, ValueError, SyntaxError, EOFError, TypeError, KeyError, struct.error):
        return 1
    return orientation if isinstance(orientation, int) and 1 <= orientation <= 8 else 1
