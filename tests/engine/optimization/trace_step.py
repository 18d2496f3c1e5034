"""Run by test_engine.py in a process that does not interpret Triton: traces the iteration as a GPU would compile it.

Nothing is computed: tensors are fake, and Triton's check for a device is answered with yes. Prints JSON of the graph.
"""

import json

import torch
from functorch.compile import make_boxed_func
from relatent import OptimizationConfig
from relatent.benchmarks.sd_decoder import SDDecoder
from relatent.engine.autoencoders.rewrite import REWRITES
from relatent.engine.coordinates import WhiteningCoordinates
from relatent.engine.loop_decoder import LoopDecoder
from relatent.engine.optimization.runners import DYNAMO
from relatent.engine.optimization.slots import Slots
from relatent.engine.optimization.step import build_step
from relatent.kernels import library
from torch._dynamo.backends.common import aot_autograd
from torch._subclasses.fake_tensor import FakeTensorMode

library.runs_on = lambda device: True
library.register_operators()
graphs = []


def keep(graph, inputs):
    graphs.append(graph)
    return make_boxed_func(graph.forward)


with FakeTensorMode():
    decoder = SDDecoder(channels=(8, 8, 16, 16), groups=4)
    for name in ("fold_input", "fold_upsampling", "freeze_convolutions", "join_norm_and_silu", "join_residuals"):
        REWRITES[name](decoder)
    latents, targets = torch.empty(2, 4, 8, 8), torch.empty(2, 3, 64, 64)
    config = OptimizationConfig(iterations=10, target_gain=3.0)
    slots = Slots.empty(
        latents, targets, config, torch.float32, coordinates=WhiteningCoordinates(torch.empty(4, 4, 15, 15))
    )
    loop_decoder = LoopDecoder.of(lambda z: decoder(z.contiguous(memory_format=torch.channels_last)))
    step = build_step(loop_decoder, config, latents.device, triton=True)
    with torch._dynamo.config.patch(DYNAMO):
        backend = aot_autograd(fw_compiler=keep, inference_compiler=keep)
        torch.compile(step, backend=backend, fullgraph=True, dynamic=False)(slots)

operations = [str(node.target) for graph in graphs for node in graph.graph.nodes if node.op == "call_function"]
print(json.dumps({"graphs": len(graphs), "operations": operations}))
