"""A TCP proxy that keeps all bytes that pass: the wire between institutions and hub, as an eavesdropper has it."""

import contextlib
import socket
import threading

_KEPT_BYTES = 64 * 2**20


class Wiretap:
    """Listens on `port` of loopback, passes everything on to `upstream`, and keeps it."""

    def __init__(self, upstream: int) -> None:
        self.upstream = upstream
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.port = int(self._listener.getsockname()[1])
        self._kept, self._lock = bytearray(), threading.Lock()
        threading.Thread(target=self._accept, daemon=True).start()

    def heard(self) -> bytes:
        """Everything so far, both directions."""
        with self._lock:
            return bytes(self._kept)

    def forget(self) -> None:
        with self._lock:
            self._kept.clear()

    def close(self) -> None:
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._tap, args=(near,), daemon=True).start()

    def _tap(self, near: socket.socket) -> None:
        try:
            far = socket.create_connection(("127.0.0.1", self.upstream), timeout=10)
        except OSError:
            near.close()
            return
        far.settimeout(None)
        back = threading.Thread(target=self._pass, args=(far, near), daemon=True)
        back.start()
        self._pass(near, far)
        back.join()
        near.close()
        far.close()

    def _pass(self, source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65_536):
                with self._lock:
                    if len(self._kept) < _KEPT_BYTES:
                        self._kept += data
                sink.sendall(data)
        for end in (source, sink):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
