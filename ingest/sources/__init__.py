"""One file per kind of camera. Imports only `ingest.frame`, `ingest.errors`, `ingest.pictures` and `ingest.quiet`.

`open_source` picks the kind by the address, and loads no other. A camera with a driver of its own (GigE Vision,
a frame grabber) comes as a package that names its class under the entry points `linewatch.sources`.
"""

import re
from importlib.metadata import entry_points
from pathlib import Path

from ingest.errors import SourceError
from ingest.pictures import PICTURE_SUFFIXES
from ingest.sources.base import Source
from ingest.sources.urls import redacted

_KINDS = "file.mp4, folder/, usb:0, rtsp://…, rtsps://…, http(s)://… (motion JPEG), synthetic:belt, synthetic:yard"
PLUGINS = "linewatch.sources"
"""Group of entry points: scheme -> a class or function that is called with the address and gives a `Source`."""
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):")  # two letters and more: `C:` is a drive


def open_source(url: str) -> Source:
    """Open what `url` names.

    Files and folders are opened at once; cameras connect at their first grab, so that one that is still booting (or
    unplugged) is reported and tried again rather than fatal.

    Args:
        url: `file.mp4[?rate=max&loop=1]`, `folder/[?fps=5&recursive=1&loop=1]`, `usb:0[?size=1280x720&fps=30]`,
            `rtsp://…`, `rtsps://…`, `http://…`, `https://…`, `synthetic:belt[?fps=10&seed=0&…]`.

    Raises:
        SourceError: an unknown kind or option, a wrong value, or a file that is no source; one line, no password.
    """
    if "\0" in url:
        raise SourceError(f"source {redacted(url)!r}: holds a NUL character")
    scheme = _SCHEME.match(url)
    if scheme is None or (Path(url.partition("?")[0]).exists() and "://" not in url):
        return _open_path(url)
    rest = url[scheme.end() :]
    match scheme[1].lower():
        case "rtsp" | "rtsps" | "http" | "https" if re.match(r"//[^/?#]", rest):
            from ingest.sources.rtsp import open_rtsp  # noqa: PLC0415 - each kind loads when it is asked for

            return open_rtsp(url)
        case "usb":
            from ingest.sources.usb import open_usb  # noqa: PLC0415 - as above

            device, _, query = rest.partition("?")
            return open_usb(device, query)
        case "synthetic":
            from ingest.sources.synthetic import SyntheticSource  # noqa: PLC0415 - as above

            return SyntheticSource(url)
        case other:
            for plugin in entry_points(group=PLUGINS, name=other):
                source: Source = plugin.load()(url)
                return source
    raise SourceError(f"source {redacted(url)!r}: no such kind or no such file; sources are: {_KINDS}")


def _open_path(url: str) -> Source:
    from ingest.sources.images import ImagesSource  # noqa: PLC0415 - each kind loads when it is asked for
    from ingest.sources.video import VideoSource  # noqa: PLC0415 - as above

    name, _, query = url.partition("?")
    if not name:
        raise SourceError(f"source {url!r}: names nothing; sources are: {_KINDS}")
    if Path(url).exists():  # a name with a question mark in it
        name, query = url, ""
    path = Path(name)
    if path.is_dir() or path.suffix.lower() in PICTURE_SUFFIXES:
        return ImagesSource(path, query)
    return VideoSource(path, query)
