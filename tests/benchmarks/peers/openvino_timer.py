"""OpenVINO as a process that times one call when asked: MODEL.xml INPUT.npy ANSWERS.npy, then a line for each block.

A line on standard input is the number of calls; the answer is the seconds a call, after one untimed call.
"""

import sys
import time

import numpy as np
import openvino

model, pictures, answers = sys.argv[1:]
settings = {"INFERENCE_NUM_THREADS": 1, "PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32"}
compiled = openvino.Core().compile_model(model, "CPU", settings)
request, x = compiled.create_infer_request(), np.load(pictures)
np.save(answers, np.concatenate([request.infer({0: one[None]})[0] for one in x]))
request.set_input_tensor(openvino.Tensor(np.ascontiguousarray(x[:1])))
print("ready", flush=True)
for line in sys.stdin:
    request.infer()
    start = time.perf_counter()
    for _ in range(int(line)):
        request.infer()
    print((time.perf_counter() - start) / int(line), flush=True)
