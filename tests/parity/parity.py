"""Trains a model in PyTorch from weights and batches that Kiln wrote, and writes the losses and the first gradients.

usage: parity.py IN OUT        two safetensors files

IN has the weights under Kiln's names, the batches `x` and `y` [steps, batch, time], and in its texts the model and its optimizer. OUT gets,
from a run in f32 and one in f64, `losses32`, `losses64` [steps], and `gradients32/NAME` and `gradients64/NAME` of the first step, in Kiln's
layout. What differs between the two is mapped here and nowhere else:

- PyTorch's weights of `Linear` and `LSTM` are Kiln's, transposed; the gates i, f, g, o have the same order.
- An LSTM with one bias is PyTorch's with the other one held at 0, and at `forget_bias` for the forget gate.
- Adam's epsilon stands beside the root of the corrected moment in both, AdamW's decay is multiplied with the learning rate in both; which
  params decay is said by groups here.
- gelu is the exact one, by erf, in both. There is no dropout.
"""

import sys

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn
from torch.nn import functional as F


class Block(nn.Module):
    def __init__(self, width, heads, bias):
        super().__init__()
        self.heads = heads
        self.norm_1, self.norm_2 = (nn.LayerNorm(width, bias=bias) for _ in range(2))
        self.qkv, self.out = nn.Linear(width, 3 * width, bias), nn.Linear(width, width, bias)
        self.up, self.down = nn.Linear(width, 4 * width, bias), nn.Linear(4 * width, width, bias)

    def forward(self, x):
        b, t, width = x.shape
        heads = (part.view(b, t, self.heads, -1).transpose(1, 2) for part in self.qkv(self.norm_1(x)).split(width, 2))
        attended = F.scaled_dot_product_attention(*heads, is_causal=True)
        x = x + self.out(attended.transpose(1, 2).reshape(b, t, width))
        return x + self.down(F.gelu(self.up(self.norm_2(x))))


class Gpt(nn.Module):
    def __init__(self, weights, texts):
        super().__init__()
        (vocabulary, width), context = weights["tokens/w"].shape, len(weights["positions/w"])
        bias = "norm/b" in weights
        layers = len({name.split("/")[0] for name in weights if name.startswith("block_")})
        self.tokens, self.positions = nn.Embedding(vocabulary, width), nn.Embedding(context, width)
        self.blocks = nn.ModuleList(Block(width, int(texts["heads"]), bias) for _ in range(layers))
        self.norm = nn.LayerNorm(width, bias=bias)

    def forward(self, x):
        x = self.tokens(x) + self.positions(torch.arange(x.shape[1]))
        for block in self.blocks:
            x = block(x)
        return self.norm(x) @ self.tokens.weight.T

    def params(self):
        """Kiln's names: the param here, and whether it is transposed."""
        found = {"tokens/w": (self.tokens.weight, False), "positions/w": (self.positions.weight, False)}

        def layer(name, module):
            norm = isinstance(module, nn.LayerNorm)
            found[f"{name}/gain" if norm else f"{name}/w"] = (module.weight, not norm)
            if module.bias is not None:
                found[f"{name}/b"] = (module.bias, False)

        for number, block in enumerate(self.blocks):
            inner = {"attention_norm": block.norm_1, "attention/qkv": block.qkv, "attention/out": block.out}
            inner |= {"feed_forward_norm": block.norm_2, "feed_forward/up": block.up, "feed_forward/down": block.down}
            for name, module in inner.items():
                layer(f"block_{number}/{name}", module)
        layer("norm", self.norm)
        return found


class CharLstm(nn.Module):
    def __init__(self, weights, texts):
        super().__init__()
        (vocabulary, features), units = weights["tokens/w"].shape, len(weights["lstm/wh"])
        self.tokens = nn.Embedding(vocabulary, features)
        self.lstm = nn.LSTM(features, units, batch_first=True)
        self.head = nn.Linear(units, vocabulary)
        self.two_biases = "lstm/bh" in weights
        if not self.two_biases:
            self.lstm.bias_hh_l0.requires_grad = False
            self.lstm.bias_hh_l0.zero_()[units : 2 * units] = float(texts["forget_bias"])

    def forward(self, x):
        return self.head(self.lstm(self.tokens(x))[0])

    def params(self):
        found = {"tokens/w": (self.tokens.weight, False)}
        found |= {"lstm/wx": (self.lstm.weight_ih_l0, True), "lstm/wh": (self.lstm.weight_hh_l0, True)}
        found["lstm/b"] = (self.lstm.bias_ih_l0, False)
        if self.two_biases:
            found["lstm/bh"] = (self.lstm.bias_hh_l0, False)
        return found | {"head/w": (self.head.weight, True), "head/b": (self.head.bias, False)}


def optimizer(texts, params):
    rate, betas = float(texts["rate"]), (float(texts["beta1"]), float(texts["beta2"]))
    if texts["optimizer"] == "adam":
        return torch.optim.Adam(params, lr=rate, betas=betas, eps=1e-8)
    decays = [p for p in params if p.dim() > 1 or texts["decay_vectors"] == "true"]
    others = [p for p in params if all(p is not q for q in decays)]
    groups = [{"params": decays, "weight_decay": float(texts["decay"])}, {"params": others, "weight_decay": 0.0}]
    return torch.optim.AdamW([group for group in groups if group["params"]], lr=rate, betas=betas, eps=1e-8)


def run(weights, texts, dtype):
    batches = weights["x"].long(), weights["y"].long()
    weights = {name: tensor for name, tensor in weights.items() if name not in ("x", "y")}
    with torch.no_grad():
        model = {"gpt": Gpt, "lstm": CharLstm}[texts["model"]](weights, texts).to(dtype)
        params = model.params()
        assert params.keys() == weights.keys(), params.keys() ^ weights.keys()
        for name, (param, transposed) in params.items():
            param.copy_(weights[name].T if transposed else weights[name])
    steps = optimizer(texts, [param for param, _ in params.values()])
    losses, gradients = [], {}
    for x, y in zip(*batches):
        loss = F.cross_entropy(model(x).flatten(0, 1), y.flatten())
        steps.zero_grad()
        loss.backward()
        if not losses:
            for name, (param, transposed) in params.items():
                gradients[name] = (param.grad.T if transposed else param.grad).clone().contiguous()
        losses.append(loss.detach())
        steps.step()
    return torch.stack(losses).double(), gradients


def main(path, to):
    torch.set_num_threads(1)
    with safe_open(path, "pt") as file:
        weights, texts = {name: file.get_tensor(name) for name in file.keys()}, file.metadata()
    written = {}
    for bits, dtype in (("32", torch.float32), ("64", torch.float64)):
        losses, gradients = run(weights, texts, dtype)
        written[f"losses{bits}"] = losses
        written |= {f"gradients{bits}/{name}": gradient.double() for name, gradient in gradients.items()}
    save_file(written, to, {"torch": torch.__version__})


main(*sys.argv[1:])
