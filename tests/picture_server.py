"""A server of two small pictures on this machine, which can break off, and can say that there is no such file."""

import http.server
import io
import threading

import numpy as np
from PIL import Image

LEVELS = {name: np.full((4, 4, 3), level, np.uint8) for name, level in (("one", 10), ("two", 200))}


def png(array):
    encoded = io.BytesIO()
    Image.fromarray(array).save(encoded, "PNG")
    return encoded.getvalue()


FILES = {f"/{name}.png": png(array) for name, array in LEVELS.items()}


class Server(http.server.ThreadingHTTPServer):
    """Serves FILES; ``cut`` names paths whose connection breaks half way, ``gone`` those it does not know.

    Those in ``stuck`` stop half way until ``freed`` is set.
    """

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked, self.cut, self.gone, self.stuck = [], set(), set(), set()
        self.freed = threading.Event()
        self.address = f"http://127.0.0.1:{self.server_port}"


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.server.asked.append(self.path)
        if self.path in self.server.gone:
            self.send_error(404)
            return
        content = FILES[self.path]
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        half = len(content) // 2
        self.wfile.write(content[:half])
        if self.path in self.server.stuck:
            self.server.freed.wait(60)
        elif self.path not in self.server.cut:
            self.wfile.write(content[half:])

    def do_HEAD(self):
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_):
        pass
