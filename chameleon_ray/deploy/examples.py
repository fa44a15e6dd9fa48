"""The programs beside a library that run it, in Python and in C++: `run.py` and `run.cc`."""

from __future__ import annotations

from collections.abc import Sequence

from chameleon_ray.networks.source import Input


def in_python(library: str, inputs: Sequence[Input], threads: int) -> str:
    """A program that runs a library once, given zeros.

    Args:
        library: Its file, in the same folder.
        inputs: What the model takes.
        threads: That it may use, unless TVM_NUM_THREADS says another number.
    """
    arrays = (f'numpy.zeros({tuple(one.shape)}, "{one.dtype}")' for one in inputs)
    tensors = ", ".join(f"tvm.runtime.tensor({array})" for array in arrays)
    return f'''"""Runs the model; takes numpy, apache-tvm, and a CPU such as it was made for."""

import os, pathlib  # noqa: E401

os.environ.setdefault("TVM_NUM_THREADS", "{threads}")
import numpy, tvm  # noqa: E401, E402

library = tvm.runtime.load_module(str(pathlib.Path(__file__).with_name("{library}")))
model = tvm.relax.VirtualMachine(library, tvm.cpu())
prepared = model["prepare"]()  # once; each call takes it
print(model["main"]({tensors}, prepared))
'''


def in_cpp(library: str, inputs: Sequence[Input], threads: int) -> str:
    """The same in C++, which says how long loading and the first call took."""
    tensors = (f'zeros({{{", ".join(map(str, one.shape))}}}, "{one.dtype}")' for one in inputs)
    return (
        _CPP.replace("LIBRARY", library)
        .replace("CORES", str(threads))
        .replace("ARGUMENTS", ", ".join([*tensors, "prepared"]))
    )


_CPP = r"""// Runs the model; takes two libraries of apache-tvm, and a CPU such as it was made for.
//
//   SITE=$(python -c "import tvm_ffi, pathlib; print(pathlib.Path(tvm_ffi.__file__).parents[1])")
//   g++ -O2 -std=c++17 run.cc -o run -I$SITE/tvm_ffi/include -L$SITE/tvm/lib -L$SITE/tvm_ffi/lib \
//     -Wl,--no-as-needed,-rpath,$SITE/tvm/lib:$SITE/tvm_ffi/lib -ltvm_runtime -ltvm_ffi
//   ./run ./LIBRARY
#include <tvm/ffi/extra/module.h>
#include <tvm/ffi/tvm_ffi.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace ffi = tvm::ffi;

struct Aligned {  // as vectors take it
  void AllocData(DLTensor* tensor) {
    size_t bytes = (ffi::GetDataSize(*tensor) / 64 + 1) * 64;
    tensor->data = std::memset(std::aligned_alloc(64, bytes), 0, bytes);
  }
  void FreeData(DLTensor* tensor) { std::free(tensor->data); }
};

ffi::Tensor zeros(ffi::Shape shape, const char* dtype) {
  return ffi::Tensor::FromNDAlloc(Aligned(), shape, ffi::StringToDLDataType(dtype), {kDLCPU, 0});
}

double milliseconds() {
  auto now = std::chrono::steady_clock::now().time_since_epoch();
  return std::chrono::duration<double, std::milli>(now).count();
}

int main(int count, char** arguments) {
  setenv("TVM_NUM_THREADS", "CORES", 0);
  double start = milliseconds();
  ffi::Module library = ffi::Module::LoadFromFile(count > 1 ? arguments[1] : "./LIBRARY");
  auto model = library->GetFunction("vm_load_executable").value()().cast<ffi::Module>();
  model->GetFunction("vm_initialization").value()(int{kDLCPU}, 0, 2);  // 2: memory is kept
  ffi::Any prepared = model->GetFunction("prepare").value()();         // once; each call takes it
  ffi::Function run = model->GetFunction("main").value();
  double loaded = milliseconds();
  ffi::Any output = run(ARGUMENTS);
  double done = milliseconds();
  while (auto several = output.as<ffi::Array<ffi::Any>>()) output = (*several)[0];  // the first
  auto tensor = output.cast<ffi::Tensor>();
  if (ffi::DLDataTypeToString(tensor.dtype()) == "float32")
    for (int64_t i = 0; i < std::min<int64_t>(5, tensor.numel()); ++i)
      std::printf("%.6g ", static_cast<const float*>(tensor.data_ptr())[i]);
  std::printf("\nloaded in %.0f ms, first call %.0f ms\n", loaded - start, done - loaded);
}
"""
