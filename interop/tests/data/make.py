"""Writes the files of this folder with the libraries that define their forms: numpy, ml_dtypes and safetensors.

    python make.py FOLDER

The expected values are spelled out in ../numpy.rs and ../safetensors.rs, which read the files.
"""

import sys

import ml_dtypes
import numpy
import safetensors.numpy

folder = sys.argv[1]
numbers = [[0, 1, 2], [3, 4, 5]]
types = {
    "f32": "<f4", "f64": "<f8", "f16": "<f2", "bf16": ml_dtypes.bfloat16,
    "i8": "i1", "i16": "<i2", "i32": "<i4", "i64": "<i8",
    "u8": "u1", "u16": "<u2", "u32": "<u4", "u64": "<u8", "bool": "?",
}
arrays = {name: numpy.array(numbers, dtype=dtype) for name, dtype in types.items()}
more = {
    "fortran": numpy.asfortranarray(numpy.arange(24, dtype="<i2").reshape(2, 3, 4)),
    "big": numpy.array(numbers, dtype=">f4"),
    "big fortran": numpy.asfortranarray(numpy.array(numbers, dtype=">i8")),
    "scalar": numpy.float64(1.5),
    "vector": numpy.arange(3, dtype="<i4"),
    "empty": numpy.zeros((0, 3), dtype="<f4"),
}
numpy.savez(f"{folder}/stored.npz", **arrays, **more)
numpy.savez_compressed(f"{folder}/deflated.npz", **arrays, **more)
numpy.save(f"{folder}/fortran.npy", more["fortran"])
safetensors.numpy.save_file(arrays, f"{folder}/numpy.safetensors", metadata={"made by": "safetensors"})
