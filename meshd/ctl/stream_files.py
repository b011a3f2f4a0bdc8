# SPDX-License-Identifier: Apache-2.0
"""Streams from and to the files and pipes of whoever runs meshctl: the daemon opens none for them."""

import os
import stat
import sys
import time
from argparse import Namespace
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO, Final

from meshd.client.errors import ClientError, ReplyTimeout
from meshd.client.streams import Streams
from meshd.ctl.output import Output, size
from meshd.ctl.reconnect import Deadline, open_client
from meshd.stream.pcr_pace import PcrPace

STANDARD_STREAM: Final = "-"
READ_MAX_BYTES: Final = 64 * 1024
POLL_S: Final = 5.0
LOOK_S: Final = 0.5


def feed_stream(args: Namespace, params: dict[str, Any], out: Output) -> int:
    """Publish a file at its pace, or a pipe as it comes; until its end."""
    with _open_input(args.input) as file, open_client(args) as client:
        streams = Streams(client)
        reply = streams.publish(**params)
        out.answer(reply, f"{args.name} is published to {', '.join(reply['receivers'])} (ID {reply['stream']})")
        is_file = stat.S_ISREG(os.fstat(file.fileno()).st_mode)
        pace = PcrPace() if is_file else None
        portions = _as_it_comes(file) if pace is None else _paced(file, pace)
        total = 0
        for data in portions:
            streams.feed(reply["feed"], data)
            total += len(data)
        streams.feed(reply["feed"], b"", is_last=True)
        if pace is not None and not pace.references:
            out.chatter(f"meshctl: {args.input} has no clock references (PCR): it was published all at once")
        out.chatter(f"{size(total)} of {args.name} published")
    return 0


def play_stream(args: Namespace, output: str, out: Output) -> int:
    """Write what is played out to a file, pipe or standard output, until the stream ends."""
    with _open_output(output, is_new=False) as file, open_client(args) as client:
        streams = Streams(client)
        reply = streams.open(args.name, args.latency)
        if not reply["is_known"]:
            out.chatter(f"no stream {args.name} is known yet; waiting for it")
        lost = 0
        while True:
            answer = streams.next(reply["reader"], POLL_S)
            file.write(answer["data"])
            file.flush()
            if answer["lost_bytes"] > lost:
                out.chatter(f"meshctl: {answer['lost_bytes'] - lost} bytes lost here: {output} takes them too slowly")
                lost = answer["lost_bytes"]
            if answer["has_ended"]:
                return 0


def record_stream(args: Namespace, out: Output) -> int:
    """Write the archive as it becomes complete, until the stream has ended."""
    deadline = Deadline(args.timeout)
    with _open_output(args.file, is_new=True) as file, open_client(args) as client:
        streams = Streams(client)
        span = total = 0
        while True:
            row = streams.list(args.name)[0]
            while span < row["spans"] and (data := streams.read_span(row["stream"], span)) is not None:
                file.write(data)
                span, total = span + 1, total + len(data)
            file.flush()
            if row["state"] == "ended" and span >= row["spans"]:
                break
            if deadline.over():
                raise ReplyTimeout(f"{args.name} is not complete: {span} of {row['spans']} spans are in {args.file}")
            time.sleep(LOOK_S)
        if args.file != STANDARD_STREAM:
            os.fsync(file.fileno())
    out.chatter(f"{size(total)} of {args.name} written, bit for bit as ingested")
    return 0


def _as_it_comes(file: BinaryIO) -> Iterator[bytes]:
    while data := os.read(file.fileno(), READ_MAX_BYTES):
        yield data


def _paced(file: BinaryIO, pace: PcrPace) -> Iterator[bytes]:
    """Portions at their time."""
    begin_s = time.monotonic()
    is_read = False
    while not is_read:
        data = file.read(READ_MAX_BYTES)
        is_read = not data
        for due_s, portion in pace.finish() if is_read else pace.feed(data):
            wait_s = begin_s + due_s - time.monotonic()
            if wait_s > 0:
                time.sleep(wait_s)
            yield portion


@contextmanager
def _open_input(name: str) -> Iterator[BinaryIO]:
    name = name.removeprefix("file:").removeprefix("pipe:")
    if name == STANDARD_STREAM:
        yield os.fdopen(os.dup(sys.stdin.fileno()), "rb", buffering=0)
        return
    with open(name, "rb", buffering=0) as file:
        yield file


@contextmanager
def _open_output(name: str, *, is_new: bool) -> Iterator[BinaryIO]:
    name = name.removeprefix("file:").removeprefix("pipe:")
    if name == STANDARD_STREAM:
        yield sys.stdout.buffer
        return
    try:
        with open(name, "xb" if is_new else "wb") as file:
            yield file
    except FileExistsError as error:
        raise ClientError(f"{name} is there already: name a new file, or remove it first") from error
