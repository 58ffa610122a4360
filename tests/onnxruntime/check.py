"""Runs models that Kiln exported in onnxruntime, and compares what they give.

    KILN_ONNX_DIR=/tmp/exported cargo test --test onnx_export
    python tests/onnxruntime/check.py /tmp/exported

needs `pip install onnx onnxruntime`. A folder of the given one is a model, `model.onnx`, with files `N_in.npz` and `N_out.npz`: what it is
fed, and what Kiln's interpreter makes of it. Each model is checked by ONNX's own checker with shape inference, and each of its runs in
onnxruntime. One line for a model that fails, `--all` for each; then how many passed, by the first word of their names. A model whose runs
all pass but the one on infinities, NaN and the largest numbers counts as `extremes`, one that onnxruntime has no kernels for as `unsupported`.
"""

import argparse
import collections
import pathlib
import sys

import numpy
import onnx
import onnxruntime

# Relative to an element or to 1, whichever is larger; by the bytes of a float.
TOLERANCE = {2: 2e-3, 4: 4e-6, 8: 4e-6}


def difference(wanted, found):
    """The largest error in units of what is allowed, or why the two cannot be compared."""
    if wanted.dtype != found.dtype or wanted.shape != found.shape:
        return f"{found.dtype}{list(found.shape)} in the place of {wanted.dtype}{list(wanted.shape)}"
    if wanted.size == 0:
        return 0.0
    if wanted.dtype.kind != "f":
        wrong = int((wanted != found).sum())
        return f"{wrong} of {wanted.size} elements differ" if wrong else 0.0
    same = (wanted == found) | (numpy.isnan(wanted) & numpy.isnan(found))
    a, b = wanted.astype(numpy.float64), found.astype(numpy.float64)
    with numpy.errstate(invalid="ignore", over="ignore"):
        off = numpy.where(same, 0.0, abs(a - b) / numpy.maximum(abs(a), 1.0))
    if numpy.isnan(off).any() or numpy.isinf(off).any():
        at = int(numpy.flatnonzero(~numpy.isfinite(off.ravel()))[0])
        return f"element {at} is {b.ravel()[at]}, not {a.ravel()[at]}"
    return float(off.max()) / TOLERANCE[wanted.dtype.itemsize]


def run(session, given, tolerance):
    """The largest error of a run, or what is wrong with it."""
    names = [output.name for output in session.get_outputs()]
    inputs = {value.name for value in session.get_inputs()}
    fed = {name: array for name, array in numpy.load(given).items() if name in inputs}
    wanted = numpy.load(given.with_name(given.name.replace("_in", "_out")))
    try:
        results = session.run(names, fed)
    except Exception as error:  # noqa: BLE001, whatever the runtime raises
        return f"{given.name}: " + str(error).replace("\n", " ")[:300]
    worst = 0.0
    for name, found in zip(names, results):
        off = difference(wanted[name], numpy.asarray(found))
        if isinstance(off, str):
            return f"{given.name} `{name}`: {off}"
        worst = max(worst, off)
    worst *= TOLERANCE[4]
    return f"{given.name}: off by {worst:.1e}" if worst > tolerance else worst


def check(folder, tolerance):
    """(state, reason or largest error) of a model."""
    path = folder / "model.onnx"
    try:
        onnx.checker.check_model(str(path), full_check=True)
    except Exception as error:  # noqa: BLE001, whatever the checker raises
        return "invalid", str(error).replace("\n", " ")[:300]
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # noqa: BLE001
        text = str(error).replace("\n", " ")[:300]
        return ("unsupported" if "NOT_IMPLEMENTED" in text else "fail"), text
    worst, runs = 0.0, sorted(folder.glob("*_in.npz"))
    if not runs:
        return "fail", "no run"
    for given in runs:
        off = run(session, given, tolerance)
        if isinstance(off, str):
            return ("extremes" if "extreme" in given.name else "fail"), off
        worst = max(worst, off)
    return "pass", f"{len(runs)} runs, off by at most {worst:.1e}"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--all", action="store_true", help="a line for each model")
    parser.add_argument("--only", default="", help="models whose names begin like this")
    parser.add_argument("--tolerance", type=float, default=4e-6, help="ten times as much for random graphs, whose errors add up")
    arguments = parser.parse_args()
    counts = collections.defaultdict(collections.Counter)
    for model in sorted(arguments.folder.glob(arguments.only + "*/model.onnx")):
        folder = model.parent
        family = folder.name.split("-")[0]
        state, why = check(folder, arguments.tolerance * (10 if family == "random" else 1))
        counts[family][state] += 1
        if arguments.all or state in ("fail", "invalid"):
            print(f"{state} {folder.name} {why}")
    total = collections.Counter()
    for name, states in sorted(counts.items()):
        print(f"{name}: " + ", ".join(f"{n} {state}" for state, n in sorted(states.items())))
        total.update(states)
    print(f"onnxruntime {onnxruntime.__version__}, onnx {onnx.__version__}: " + ", ".join(f"{n} {s}" for s, n in sorted(total.items())))
    return 1 if total["fail"] or total["invalid"] else 0


if __name__ == "__main__":
    sys.exit(main())
