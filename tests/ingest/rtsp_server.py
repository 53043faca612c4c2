"""A camera: GStreamer's RTSP server with a bouncing ball in H.264, for `test_sources_rtsp.py`.

Run by the system's Python, which has GStreamer's bindings: `/usr/bin/python3 rtsp_server.py PORT [USER PASSWORD]`.
Prints the port it listens on (of its own choice for PORT 0), and serves `/cam` until it is killed.
"""

import sys

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstRtsp", "1.0")
gi.require_version("GstRtspServer", "1.0")
from gi.repository import GLib, Gst, GstRtsp, GstRtspServer  # noqa: E402 - versions are chosen before the import

PIPELINE = (
    "( videotestsrc is-live=true pattern=ball ! video/x-raw,width=320,height=240,framerate=15/1 "
    "! x264enc tune=zerolatency speed-preset=ultrafast key-int-max=15 ! rtph264pay name=pay0 pt=96 )"
)


def main(port: str, user: str = "", password: str = "") -> None:
    Gst.init(None)
    server = GstRtspServer.RTSPServer()
    server.set_address("127.0.0.1")
    server.set_service(port)
    factory = GstRtspServer.RTSPMediaFactory()
    factory.set_launch(PIPELINE)
    factory.set_shared(True)
    if user:
        lock = GstRtspServer.RTSPAuth()
        token = GstRtspServer.RTSPToken()
        token.set_string("media.factory.role", "viewer")
        lock.add_basic(GstRtspServer.RTSPAuth.make_basic(user, password), token)
        server.set_auth(lock)
        permissions = GstRtspServer.RTSPPermissions()
        permissions.add_permission_for_role("viewer", "media.factory.access", True)
        permissions.add_permission_for_role("viewer", "media.factory.construct", True)
        factory.set_permissions(permissions)
    factory.set_protocols(GstRtsp.RTSPLowerTrans.TCP)
    server.get_mount_points().add_factory("/cam", factory)
    if not server.attach(None):
        sys.exit(f"port {port} is taken")
    print(server.get_bound_port(), flush=True)  # noqa: T201 - how the test learns the port
    GLib.MainLoop().run()


if __name__ == "__main__":
    main(*sys.argv[1:])
