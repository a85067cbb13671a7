"""onnxruntime as a peer of `cargo xtask compare`: the CPU provider on one thread.

Speaks the protocol of protocol.rs on stdin and stdout.
"""

import gc
import json
import platform
import sys
import time
from pathlib import Path

import numpy
import onnxruntime

TYPES = {"FP32": "<f4", "INT64": "<i8"}


def load(folder):
    folder = Path(folder)
    inputs = {}
    for described in json.loads((folder / "inputs.json").read_text()):
        elements = numpy.fromfile(folder / described["file"], TYPES[described["datatype"]])
        inputs[described["name"]] = elements.reshape(described["shape"])
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    start = time.perf_counter_ns()
    providers = ["CPUExecutionProvider"]
    session = onnxruntime.InferenceSession(str(folder / "model.onnx"), options, providers=providers)
    return session, inputs, time.perf_counter_ns() - start


def main():
    session = inputs = None
    for line in sys.stdin:
        command, _, argument = line.rstrip("\n").partition(" ")
        try:
            if command == "version":
                reply = {"onnxruntime": onnxruntime.__version__, "python": platform.python_version()}
            elif command == "load":
                session = inputs = None  # only one model at a time in memory
                session, inputs, took = load(argument)
                reply = {"load_ns": took}
            elif command == "outputs":
                outputs = session.run(None, inputs)
                Path(argument).write_bytes(b"".join(output.astype("<f4").tobytes() for output in outputs))
                reply = {"shapes": [output.shape for output in outputs]}
            elif command == "time":
                times = []
                gc.disable()
                for _ in range(int(argument)):
                    start = time.perf_counter_ns()
                    session.run(None, inputs)
                    times.append(time.perf_counter_ns() - start)
                gc.enable()
                reply = {"ns": times}
            else:
                raise ValueError(f"unknown command '{command}'")
        except Exception as error:  # every failure is the driver's to report
            reply = {"error": str(error)}
        print(json.dumps(reply), flush=True)


main()
