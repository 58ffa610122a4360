"""Runs a model in onnxruntime on one thread: the other side of `main.rs`.

usage: models.py MODEL CASE OUT

Writes OUT, an npz with the inputs of a case as `in/NAME` and onnxruntime's outputs as `out/NAME`. Then, for each line on standard input, runs a
round and prints how many milliseconds the fastest run of it took. The first line that it prints is the time to open the model.

A case is `NAME:SIZE,...`. Pictures are drawn in [-1, 1], which is what the models' own programs make of pixels; `magika` gets this file and a
random one; `silero` gets a second of a swept tone in noise, frame after frame, and the last frame with the state before it is the case.
"""

import sys
import time
from pathlib import Path

import numpy as np
import onnxruntime

FRAME = 512
CONTEXT = 64


def picture(session, sizes):
    shape = [sizes[0], 3, *sizes[1:]]
    smooth = np.sin(np.arange(np.prod(shape[2:])) / 37).reshape(shape[2:])
    noise = np.random.default_rng(1).uniform(-1, 1, shape)
    return {session.get_inputs()[0].name: (0.5 * smooth + 0.5 * noise).astype(np.float32)}


def magika(session, sizes):
    """The first and the last 1024 bytes of a file, as magika feeds them."""
    text = Path(__file__).read_bytes()
    drawn = np.random.default_rng(2).integers(0, 256, 4096, dtype=np.uint8).tobytes()
    files = [text, drawn, text[100:], drawn[100:], text[::-1], text[200:], drawn[7:], b"\n".join([text, text])]
    rows = [list(file[:1024]) + list(file[-1024:]) for file in files]
    rows = [rows[i % len(rows)] for i in range(sizes[0])]
    return {session.get_inputs()[0].name: np.array(rows, np.int32)}


def silero(session, sizes):
    batch = sizes[0]
    rng = np.random.default_rng(3)
    seconds = np.arange(16000) / 16000
    sound = [0.3 * np.sin(2 * np.pi * (100 + 40 * i + 300 * seconds) * seconds) for i in range(batch)]
    sound = (np.array(sound) + 0.05 * rng.standard_normal((batch, 16000))).astype(np.float32)
    names = [i.name for i in session.get_inputs()]
    state, context = np.zeros((2, batch, 128), np.float32), np.zeros((batch, CONTEXT), np.float32)
    for start in range(0, 16000 - FRAME, FRAME):
        frame = np.concatenate([context, sound[:, start : start + FRAME]], 1)
        feeds = {"input": frame, "state": state}
        if "sr" in names:
            feeds["sr"] = np.array(16000, np.int64)
        _, state = session.run(None, feeds)
        context = frame[:, -CONTEXT:]
    return feeds


def main():
    model, case, out = sys.argv[1:]
    kind, _, sizes = case.partition(":")
    sizes = [int(size) for size in sizes.split(",")]
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    begin = time.perf_counter()
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    opened = 1e3 * (time.perf_counter() - begin)
    feeds = {"magika": magika, "silero": silero}.get(kind, picture)(session, sizes)
    outputs = session.run(None, feeds)
    names = [o.name for o in session.get_outputs()]
    tensors = {f"in/{name}": x for name, x in feeds.items()} | {f"out/{name}": x for name, x in zip(names, outputs)}
    np.savez(out, **tensors)
    print(opened, flush=True)
    for line in sys.stdin:
        best, end = float("inf"), time.perf_counter() + float(line)
        while True:
            begin = time.perf_counter()
            session.run(None, feeds)
            now = time.perf_counter()
            best = min(best, now - begin)
            if now > end:
                break
        print(1e3 * best, flush=True)


main()
