# SPDX-License-Identifier: Apache-2.0
"""What a session has handed out and its socket has not taken: the rest of one batch of buffers."""


class WriteBuffer:
    """Filled when it is empty, then emptied from the front."""

    def __init__(self) -> None:
        self.buffers: list[bytes | memoryview] = []
        self.size_bytes = 0

    def fill(self, buffers: list[bytes | memoryview], join_below_bytes: int = 0) -> None:
        """Take a new batch; many buffers that are smaller on average than `join_below_bytes` are joined."""
        size_bytes = sum(map(len, buffers))
        if len(buffers) > 8 and size_bytes < join_below_bytes * len(buffers):
            buffers = [b"".join(buffers)]
        self.buffers, self.size_bytes = buffers, size_bytes

    def advance(self, size_bytes: int) -> None:
        """The socket has taken so many bytes."""
        self.size_bytes -= size_bytes
        done = 0
        for buffer in self.buffers:
            if size_bytes < len(buffer):
                break
            size_bytes -= len(buffer)
            done += 1
        del self.buffers[:done]
        if size_bytes:
            self.buffers[0] = memoryview(self.buffers[0])[size_bytes:]

    def clear(self) -> None:
        """Nothing of it is written any more."""
        self.buffers, self.size_bytes = [], 0
