"""Writes reference.json: what PyTorch, Keras and scikit-learn make of fixed inputs.

    python -m venv venv && venv/bin/pip install numpy torch keras scikit-learn
    venv/bin/python nn/tests/reference/generate.py

All is computed in f64. The versions that made the numbers stand in the file; `nn/tests/reference.rs` reads it.
"""

import json
import os
import pathlib

os.environ["KERAS_BACKEND"] = "torch"

import keras
import numpy as np
import sklearn
import sklearn.metrics as sk
import torch
import torch.nn.functional as F

keras.config.set_floatx("float64")
torch.set_default_dtype(torch.float64)
torch.set_default_device("cpu")
rng = np.random.default_rng(6)

B, N = 7, 5


def plain(x):
    if isinstance(x, torch.Tensor):
        x = x.detach().cpu().numpy()
    return [float(v) for v in np.asarray(x, dtype=np.float64).ravel()]


# Inputs -----------------------------------------------------------------------------------------------------------------------------

logits = rng.normal(size=(B, N)) * 2
values = rng.normal(size=(B, N))
labels = rng.integers(0, N, size=B)
binary = rng.integers(0, 2, size=(B, N)).astype(float)
one_hot = np.eye(N)[labels]
distribution = rng.dirichlet(np.ones(N), size=B)
distribution[2] = one_hot[2]
counts = rng.poisson(2.0, size=(B, N)).astype(float)
rates = rng.uniform(0.2, 3.0, size=(B, N))
weights = rng.uniform(0.5, 2.0, size=B)
class_weights = rng.uniform(0.5, 2.0, size=N)
inputs = dict(
    logits=logits, values=values, labels=labels, binary=binary, signs=2 * binary - 1, one_hot=one_hot,
    distribution=distribution, counts=counts, rates=rates, weights=weights, class_weights=class_weights,
)

# Losses: of a prediction and a target, both named, the value for each example and the gradient of the mean -----------------------------

losses = {}


def loss(name, prediction, target, each):
    p = torch.tensor(inputs[prediction], requires_grad=True)
    t = torch.tensor(inputs[target])
    found = each(p, t)
    assert found.shape == (B,), (name, found.shape)
    found.mean().backward()
    losses[name] = dict(prediction=prediction, target=target, each=plain(found), gradient=plain(p.grad))


def of_keras(layer):
    layer.reduction = None
    return lambda p, t: layer(t, p)


K = keras.losses
mean = lambda f: lambda p, t: f(p, t, reduction="none").mean(-1)
loss("mean_squared_error", "logits", "values", mean(F.mse_loss))
loss("mean_absolute_error", "logits", "values", mean(F.l1_loss))
loss("huber", "logits", "values", lambda p, t: F.huber_loss(p, t, reduction="none", delta=1.5).mean(-1))
loss("log_cosh", "logits", "values", of_keras(K.LogCosh()))
loss("binary", "logits", "binary", mean(F.binary_cross_entropy_with_logits))
loss("binary_smoothed", "logits", "binary", of_keras(K.BinaryCrossentropy(from_logits=True, label_smoothing=0.2)))
loss("categorical", "logits", "distribution", lambda p, t: F.cross_entropy(p, t, reduction="none"))
loss("categorical_smoothed", "logits", "distribution",
     of_keras(K.CategoricalCrossentropy(from_logits=True, label_smoothing=0.2)))
loss("sparse", "logits", "labels", lambda p, t: F.cross_entropy(p, t, reduction="none"))
loss("sparse_smoothed", "logits", "labels", lambda p, t: F.cross_entropy(p, t, reduction="none", label_smoothing=0.2))
loss("sparse_class_weights", "logits", "labels",
     lambda p, t: F.cross_entropy(p, t, reduction="none", weight=torch.tensor(class_weights)))
loss("binary_focal", "logits", "binary", of_keras(K.BinaryFocalCrossentropy(from_logits=True, gamma=1.7)))
loss("binary_focal_balanced", "logits", "binary",
     of_keras(K.BinaryFocalCrossentropy(apply_class_balancing=True, alpha=0.3, from_logits=True)))


def categorical_focal(p, t):
    # The formula of Keras's CategoricalFocalCrossentropy, which clips probabilities at 1e-7, without the clip.
    log = F.log_softmax(p, -1)
    return (-0.25 * (1 - log.exp()) ** 2 * t * log).sum(-1)


clipped = K.CategoricalFocalCrossentropy(from_logits=True, reduction=None)(
    torch.tensor(distribution), torch.tensor(logits))
assert torch.allclose(clipped, categorical_focal(torch.tensor(logits), torch.tensor(distribution)), rtol=1e-5)
loss("categorical_focal", "logits", "distribution", categorical_focal)
loss("hinge", "logits", "signs", of_keras(K.Hinge()))
loss("squared_hinge", "logits", "signs", of_keras(K.SquaredHinge()))
loss("categorical_hinge", "logits", "one_hot", of_keras(K.CategoricalHinge()))
loss("kl_divergence", "logits", "distribution",
     lambda p, t: F.kl_div(F.log_softmax(p, -1), t, reduction="none").sum(-1))
loss("poisson", "values", "counts", mean(F.poisson_nll_loss))
loss("poisson_of_rates", "rates", "counts", of_keras(K.Poisson()))
loss("cosine_similarity", "logits", "values", of_keras(K.CosineSimilarity()))

anchor = torch.tensor(logits, requires_grad=True)
each = F.triplet_margin_loss(anchor, torch.tensor(values), torch.tensor(rates), margin=1.0, reduction="none")
each.mean().backward()
triplet = dict(each=plain(each), gradient=plain(anchor.grad))

p = torch.tensor(logits, requires_grad=True)
weighted = K.SparseCategoricalCrossentropy(from_logits=True)(
    torch.tensor(labels), p, sample_weight=torch.tensor(weights))
weighted.backward()
weighted_mean = dict(value=float(weighted), gradient=plain(p.grad))

# CTC: blank is class 0; the second label is longer than its frames allow without repeats.
T, S = 6, 3
frames = rng.normal(size=(T, 3, N))
ctc_labels = np.array([[1, 2, 2], [3, 0, 0], [4, 1, 4]])
frame_counts, label_counts = np.array([6, 4, 5]), np.array([3, 1, 3])
p = torch.tensor(frames, requires_grad=True)
each = F.ctc_loss(F.log_softmax(p, -1), torch.tensor(ctc_labels), torch.tensor(frame_counts), torch.tensor(label_counts),
                  reduction="none")
each.mean().backward()
ctc = dict(frames=plain(frames), labels=plain(ctc_labels), frame_counts=plain(frame_counts),
           label_counts=plain(label_counts), each=plain(each), gradient=plain(p.grad))

# Metrics: of 60 examples ------------------------------------------------------------------------------------------------------------------

M, C = 60, 4
m_scores = rng.normal(size=(M, C))
m_labels = rng.integers(0, C, size=M)
m_scores[np.arange(M), m_labels] += 1
m_logits = rng.normal(size=M) * 2
m_binary = (rng.uniform(size=M) < 1 / (1 + np.exp(-m_logits))).astype(float)
m_weights = rng.uniform(0.5, 2.0, size=M)
m_values = rng.normal(size=(M, 2)) + 3
m_predictions = m_values + rng.normal(size=(M, 2)) * 0.5
chosen = m_scores.argmax(-1)
probability = 1 / (1 + np.exp(-m_logits))
metric_inputs = dict(scores=m_scores, labels=m_labels, logits=m_logits, binary=m_binary, weights=m_weights,
                     values=m_values, predictions=m_predictions)


def metrics_with(w):
    found = dict(
        accuracy=sk.accuracy_score(m_labels, chosen, sample_weight=w),
        top_2=sk.top_k_accuracy_score(m_labels, m_scores, k=2, sample_weight=w),
        binary_accuracy=sk.accuracy_score(m_binary, m_logits > 0, sample_weight=w),
        mean_squared_error=sk.mean_squared_error(m_values, m_predictions, sample_weight=w),
        mean_absolute_error=sk.mean_absolute_error(m_values, m_predictions, sample_weight=w),
        r2=sk.r2_score(m_values, m_predictions, sample_weight=w),
        log_loss=sk.log_loss(m_labels, torch.softmax(torch.tensor(m_scores), -1).numpy(), sample_weight=w),
        exact_roc_auc=sk.roc_auc_score(m_binary, m_logits, sample_weight=w),
    )
    found["root_mean_squared_error"] = found["mean_squared_error"] ** 0.5
    found["perplexity"] = float(np.exp(found["log_loss"]))
    for name, function in dict(precision=sk.precision_score, recall=sk.recall_score, f1=sk.f1_score).items():
        found[name] = function(m_binary, m_logits > 0, sample_weight=w)
        for average in ["micro", "macro", "weighted"]:
            found[f"{name}_{average}"] = function(m_labels, chosen, average=average, sample_weight=w)
    for curve in ["ROC", "PR"]:
        metric = keras.metrics.AUC(curve=curve, from_logits=True)
        metric._thresholds_distributed_evenly = False  # The way for evenly spread ones fails in f64 on this backend.
        metric.update_state(m_binary, m_logits, sample_weight=w)
        found[f"{curve.lower()}_auc"] = float(metric.result())
    return {name: float(value) for name, value in found.items()}


metrics = dict(plain=metrics_with(None), weighted=metrics_with(m_weights))
confusion = dict(plain=plain(sk.confusion_matrix(m_labels, chosen)),
                 weighted=plain(sk.confusion_matrix(m_labels, chosen, sample_weight=m_weights)))

# Optimizers: w [2, 3] and b [3] after each of 20 steps with given gradients -------------------------------------------------------------

STEPS = 20
start = rng.normal(size=9)
gradients = rng.normal(size=(STEPS, 9)) * np.geomspace(3, 0.3, STEPS)[:, None]
split = lambda x: (x[:6].reshape(2, 3), x[6:])
optimizers = {}


def with_torch(name, make):
    params = [torch.tensor(x.copy(), requires_grad=True) for x in split(start)]
    optimizer = make(params)
    after = []
    for step in range(STEPS):
        for param, gradient in zip(params, split(gradients[step])):
            param.grad = torch.tensor(gradient.copy())
        optimizer.step()
        after += [v for param in params for v in plain(param)]
    optimizers[name] = after


def with_keras(name, optimizer, read=None):
    params = [keras.Variable(x.copy(), dtype="float64") for x in split(start)]
    optimizer.build(params)
    after = []
    for step in range(STEPS):
        optimizer.apply([torch.tensor(g.copy()) for g in split(gradients[step])], params)
        shown = read(optimizer) if read else params
        after += [v for param in shown for v in plain(keras.ops.convert_to_numpy(param))]
    optimizers[name] = after


O, KO = torch.optim, keras.optimizers
with_torch("sgd", lambda p: O.SGD(p, 0.05))
with_torch("sgd_momentum", lambda p: O.SGD(p, 0.05, momentum=0.9))
with_torch("sgd_nesterov", lambda p: O.SGD(p, 0.05, momentum=0.9, nesterov=True))
with_torch("adagrad", lambda p: O.Adagrad(p, 0.05))
with_torch("adadelta", lambda p: O.Adadelta(p, 1.0, rho=0.95))
with_torch("rmsprop", lambda p: O.RMSprop(p, 0.01, alpha=0.9))
with_torch("rmsprop_centered", lambda p: O.RMSprop(p, 0.01, alpha=0.9, centered=True, momentum=0.8))
with_torch("adam", lambda p: O.Adam(p, 0.01))
with_torch("adam_amsgrad", lambda p: O.Adam(p, 0.01, amsgrad=True))
with_torch("adamw", lambda p: O.AdamW(p, 0.01, weight_decay=0.1))
with_torch("nadam", lambda p: O.NAdam(p, 0.01))
with_torch("radam", lambda p: O.RAdam(p, 0.01))
with_torch("adamax", lambda p: O.Adamax(p, 0.01))
with_torch("adafactor", lambda p: O.Adafactor(p, 0.01, eps=(1e-30, 1e-3)))
with_keras("lion", KO.Lion(0.01, beta_1=0.9, beta_2=0.99))
with_keras("lamb", KO.Lamb(0.01, epsilon=1e-6))
with_keras("clip_norm", KO.SGD(0.05, clipnorm=0.7))
with_keras("clip_value", KO.SGD(0.05, clipvalue=0.4))
with_keras("clip_global_norm", KO.SGD(0.05, global_clipnorm=0.7))
with_keras("accumulated", KO.Adam(0.01, epsilon=1e-8, gradient_accumulation_steps=3))
average = KO.SGD(0.05, use_ema=True, ema_momentum=0.9)
with_keras("averaged", average, lambda o: o._model_variables_moving_average)
groups = lambda p: [dict(params=[p[0]], weight_decay=0.1, lr=0.01), dict(params=[p[1]], weight_decay=0.0, lr=0.03)]
with_torch("adamw_groups", lambda p: O.AdamW(groups(p), 0.01))

# Sharpness-aware minimisation: the same w and b after each of 20 steps on a loss, as algorithm 1 of its paper has it ------------------------

sam_rng = np.random.default_rng(11)
sam_x, sam_y = sam_rng.normal(size=(5, 2)), sam_rng.normal(size=(5, 3))


def sam(rho, make):
    params = [torch.tensor(x.copy(), requires_grad=True) for x in split(start)]
    x, y = torch.tensor(sam_x), torch.tensor(sam_y)
    loss = lambda w, b: ((torch.tanh(x @ w + b) - y) ** 2).mean()
    optimizer = make(params)
    after = []
    for _ in range(STEPS):
        first = torch.autograd.grad(loss(*params), params)
        norm = torch.sqrt(sum((g**2).sum() for g in first))
        moved = [(p + rho * g / norm).detach().requires_grad_() for p, g in zip(params, first)]
        for param, gradient in zip(params, torch.autograd.grad(loss(*moved), moved)):
            param.grad = gradient
        optimizer.step()
        after += [v for param in params for v in plain(param)]
    return after


sams = dict(
    x=plain(sam_x), y=plain(sam_y),
    sgd=sam(0.5, lambda p: O.SGD(p, 0.05, momentum=0.9)), adam=sam(0.05, lambda p: O.Adam(p, 0.01)),
)

# Schedules: the rate of steps 0 to 59 ----------------------------------------------------------------------------------------------------

KS = KO.schedules
SHOWN = 60
schedules = {
    "exponential": KS.ExponentialDecay(0.1, 10, 0.5),
    "staircase": KS.ExponentialDecay(0.1, 10, 0.5, staircase=True),
    "piecewise": KS.PiecewiseConstantDecay([10, 30], [0.1, 0.03, 0.01]),
    "polynomial": KS.PolynomialDecay(0.1, 40, 0.01, power=2.0),
    "cosine": KS.CosineDecay(0.1, 40, alpha=0.1),
    "cosine_warmup": KS.CosineDecay(0.0, 40, warmup_target=0.1, warmup_steps=10),
    "cosine_restarts": KS.CosineDecayRestarts(0.1, 10, t_mul=2.0, m_mul=0.8),
}
schedules = {name: [float(s(float(i))) for i in range(SHOWN)] for name, s in schedules.items()}
w = torch.zeros(1, requires_grad=True)
one_cycle = O.SGD([w], 0.1)
cycle = O.lr_scheduler.OneCycleLR(one_cycle, 0.1, total_steps=SHOWN)
schedules["one_cycle"] = []
for _ in range(SHOWN):
    schedules["one_cycle"].append(one_cycle.param_groups[0]["lr"])
    one_cycle.step()
    if len(schedules["one_cycle"]) < SHOWN:
        cycle.step()

everything = dict(
    packages=dict(numpy=np.__version__, torch=torch.__version__, keras=keras.__version__, sklearn=sklearn.__version__),
    inputs={k: plain(v) for k, v in inputs.items()},
    losses=losses, triplet=triplet, weighted_mean=weighted_mean, ctc=ctc,
    metric_inputs={k: plain(v) for k, v in metric_inputs.items()},
    metrics=metrics, confusion=confusion,
    start=plain(start), gradients=plain(gradients), optimizers=optimizers, sam=sams, schedules=schedules,
)
lines = []
for key, value in everything.items():
    if isinstance(value, dict):
        inner = ",\n".join(f"  {json.dumps(k)}: {json.dumps(v)}" for k, v in value.items())
        lines.append(f"{json.dumps(key)}: {{\n{inner}\n}}")
    else:
        lines.append(f"{json.dumps(key)}: {json.dumps(value)}")
path = pathlib.Path(__file__).with_name("reference.json")
path.write_text("{\n" + ",\n".join(lines) + "\n}\n")
print(path, path.stat().st_size)
