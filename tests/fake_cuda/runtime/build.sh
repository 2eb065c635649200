#!/usr/bin/env bash
# build.sh SITE_PACKAGES OUT: builds the fake CUDA runtime into OUT, in some ten seconds.
#
# SITE_PACKAGES: of an environment with PyTorch's CUDA build, its nvidia-* packages and nvidia-cuda-crt (for a
# header). OUT gets libfakecuda.so, libcuda.so.1 and env.sh. To run something on it:
#
#   . OUT/env.sh; MME_DEVICE=cuda python -m container serve
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
site=$(realpath "$1")
mkdir -p "$2"
out=$(realpath "$2")
include=$(dirname "$(find -L "$site/nvidia" -name cuda_runtime_api.h -print -quit)")
crt=$(find -L "$site" -path '*include/crt/host_defines.h' -print -quit)

# The functions of a kind that PyTorch's libraries expect from others
wanted() { nm -D --undefined-only "$site"/torch/lib/*.so 2>/dev/null | grep -oE " U $1" | cut -c4- | sort -u; }
written() { cat "$here"/*.cpp | grep -oE "\b$1\(" | tr -d '(' | sort -u; }

# cuBLAS computes nothing and succeeds
blas() {
  wanted '(cublas|cublasLt)[A-Za-z_0-9]*' | while read -r name; do
    case $name in
      cublasCreate_v2 | cublasLtCreate) echo "int $name(void **handle) { static int made; *handle = &made; return 0; }" ;;
      cublasLtMatmulAlgoGetHeuristic) echo "int $name(void *, void *, void *, void *, void *, void *, void *, int, void *, int *count) { *count = 1; return 0; }" ;;
      cublasGetMathMode | cublasGetPointerMode_v2 | cublasGetStream_v2) echo "int $name(void *, int *value) { *value = 0; return 0; }" ;;
      cublasLtGetVersion | cublasGetVersion_v2) echo "size_t $name() { return 130000; }" ;;
      cublasGetStatusString | cublasLtGetStatusString) echo "const char *$name(int) { return \"fake cuBLAS\"; }" ;;
      *) echo "int $name(...) { return 0; }" ;;
    esac
  done
}

# What is not written here is "not supported" (801)
missing() { comm -23 <(wanted "$1") <(written "$1") | sed 's/.*/int &(...) { return 801; }/'; }

{ echo '#include <cstddef>'; echo 'extern "C" {'; blas; missing 'cuda[A-Z][A-Za-z0-9_]*'; echo '}'; } > "$out/stubs.cpp"
{ echo 'extern "C" {'; missing 'cu[A-Z][A-Za-z0-9_]*'; echo '}'; } > "$out/driver_stubs.cpp"
build() { g++ -O1 -fPIC -shared -std=c++17 -Wall -Wno-unused-function "$@"; }
build "$here/driver.cpp" "$out/driver_stubs.cpp" -Wl,-soname,libcuda.so.1 -ldl -o "$out/libcuda.so.1"
sources=()
for name in processes devices memory copies streams kernels conversions; do sources+=("$here/$name.cpp"); done
build -I"$include" ${crt:+-I"${crt%/crt/host_defines.h}"} "${sources[@]}" "$out/stubs.cpp" -ldl -o "$out/libfakecuda.so"
echo "export LD_PRELOAD=$out/libfakecuda.so LD_LIBRARY_PATH=$out" > "$out/env.sh"
