"""Self-contained HTML pages: templates of one look, with pictures and figures as data URIs."""

import base64
import io
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from PIL import Image


def render_page(package: str, template: str, **values: Any) -> str:
    """Render a Jinja template of a package, with everything escaped.

    It may extend `page.html.j2` of this package: the blocks are `title`, `style` and `body`.
    """
    import jinja2

    loader = jinja2.ChoiceLoader([jinja2.PackageLoader(package, "."), jinja2.PackageLoader(__package__, ".")])
    environment = jinja2.Environment(loader=loader, autoescape=True, trim_blocks=True)
    return environment.get_template(template).render(**values)


def webp_uri(pixels: np.ndarray, quality: int | None = None) -> str:
    """A picture, uint8 (H, W) or (H, W, 3), as a data URI of WebP: lossless, or with a quality from 0 to 100."""
    options: dict[str, Any] = {"lossless": True} if quality is None else {"quality": quality}
    return _picture_uri(pixels, **options)


def animated_webp_uri(frames: Sequence[np.ndarray], milliseconds: int, quality: int) -> str:
    """Frames, uint8 (H, W, 3), as a data URI of WebP that repeats for ever. milliseconds: of each frame."""
    rest = [Image.fromarray(frame) for frame in frames[1:]]
    options = {"save_all": True, "append_images": rest, "duration": milliseconds, "loop": 0, "quality": quality}
    return _picture_uri(frames[0], **options)


def figure_uri(draw: Callable[..., None], *arguments: Any) -> str:
    """What `draw(*arguments, file)` writes as a PNG, as a data URI."""
    buffer = io.BytesIO()
    draw(*arguments, buffer)
    return _data_uri(buffer.getvalue(), "image/png")


def _picture_uri(pixels: np.ndarray, **options: Any) -> str:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "WEBP", **options)
    return _data_uri(buffer.getvalue(), "image/webp")


def _data_uri(content: bytes, kind: str) -> str:
    """The content as a data URI of the MIME type `kind`."""
    return f"data:{kind};base64,{base64.b64encode(content).decode('ascii')}"
