"""`synthetic:belt` and `synthetic:yard`: cameras for the demo and the tests, with known defects and intruders.

Frame n is a pure function of the address and n, so tests and fitting may paint any frame, and the truth is known.
"""

from collections.abc import Callable

from ingest.errors import SourceError
from ingest.sources.base import Grab
from ingest.sources.belt import Belt
from ingest.sources.closing import ClosableSource
from ingest.sources.pacing import Pacer
from ingest.sources.scene import Scene, SceneOptions
from ingest.sources.urls import read_options
from ingest.sources.yard import Yard, YardOptions

_PREFIX = "synthetic:"
_SCENES: dict[str, tuple[type[SceneOptions], Callable[[SceneOptions], Scene]]] = {
    "belt": (SceneOptions, Belt),
    "yard": (YardOptions, Yard),
}


class SyntheticSource(ClosableSource):
    """A scene at its own rate (live), or with `fps=max` as fast as it is taken.

    Raises:
        SourceError: no such scene, or a wrong option.
    """

    def __init__(self, url: str) -> None:
        self._kind, options = _read(url)
        self._scene = _SCENES[self._kind][1](options)
        self._frames = options.frames
        self._seq = 0
        self._scene.render(0)  # paints the textures now, so that the first frame is not late
        self.live = options.live
        self.fps = None if options.fps == "max" else options.fps
        super().__init__(pacer=Pacer(float(options.fps)) if options.live else None)

    def _next(self) -> Grab | None:
        if self._frames and self._seq >= self._frames:
            return None
        seq, self._seq = self._seq, self._seq + 1
        part = f"part-{seq:06d}" if self._kind == "belt" else None
        return Grab(self._scene.render(seq), f"{self._kind} frame {seq}", part)


def open_scene(url: str) -> Scene:
    """The scene behind `synthetic:…`, to paint any of its frames: `open_scene(url).render(seq)`.

    Raises:
        SourceError: no such scene, or a wrong option.
    """
    kind, options = _read(url)
    return _SCENES[kind][1](options)


def injected(url: str, seq: int) -> bool:
    """Ground truth: is there a defect or an intruder in frame `seq` of this synthetic source?

    Raises:
        SourceError: no such scene, or a wrong option.
    """
    return open_scene(url).injected(seq)


def _read(url: str) -> tuple[str, SceneOptions]:
    address, _, query = url.partition("?")
    kind = address.removeprefix(_PREFIX)
    if not address.startswith(_PREFIX) or kind not in _SCENES:
        raise SourceError(f"source {url!r}: no such scene; there are: {', '.join(_PREFIX + name for name in _SCENES)}")
    return kind, read_options(_SCENES[kind][0], query, of=address)
