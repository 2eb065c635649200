// Kernel launches: counted, and computed where conversions.cpp can. All others do nothing.
#include "fake.h"

#include <cxxabi.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>

namespace fake {

struct Kernel {
  std::string name;  // as the compiler mangled it
  bool examined = false;
  Conversion conversion = Conversion::NONE;
};

// By the address of the function on the host that stands for the kernel.
static std::map<const void *, Kernel> &kernels() {
  static std::map<const void *, Kernel> known;
  return known;
}

static std::string demangled(const std::string &name) {
  char *text = abi::__cxa_demangle(name.c_str(), nullptr, nullptr, nullptr);
  std::string readable = text ? text : name;
  free(text);
  return readable;
}

static void trace(const Kernel &kernel) {
  static const std::string path = setting("FAKE_CUDA_TRACE", "");
  if (path.empty()) return;
  if (FILE *file = fopen(path.c_str(), "a")) {
    fprintf(file, "%s\n", demangled(kernel.name).c_str());
    fclose(file);
  }
}

static cudaError_t launch(const void *function, void **arguments, cudaStream_t stream) {
  Kernel &kernel = kernels()[function];
  trace(kernel);
  counter("launches")++;
  if (cudaError_t error = injected("launch")) {
    if (!is_sticky(error)) return error;
    lose(current_device(), error);  // found by the next call: a launch does not wait for its kernel
    return cudaSuccess;
  }
  if (!kernel.examined) {
    kernel.conversion = conversion_of(kernel.name);
    kernel.examined = true;
  }
  if (kernel.conversion != Conversion::NONE) enqueue_conversion(kernel.conversion, arguments, stream_of(stream));
  return cudaSuccess;
}

}  // namespace fake

using namespace fake;

extern "C" {

cudaError_t cudaLaunchKernel(const void *kernel, dim3, dim3, void **arguments, size_t, cudaStream_t stream) {
  ENTER;
  return report(launch(kernel, arguments, stream));
}

cudaError_t __cudaLaunchKernel(cudaKernel_t kernel, dim3, dim3, void **arguments, size_t, cudaStream_t stream) {
  ENTER;
  return report(launch(kernel, arguments, stream));
}

cudaError_t cudaLaunchKernelExC(const cudaLaunchConfig_t *config, const void *kernel, void **arguments) {
  ENTER;
  return report(launch(kernel, arguments, config->stream));
}

cudaError_t cudaLaunchCooperativeKernel(const void *kernel, dim3, dim3, void **arguments, size_t, cudaStream_t stream) {
  ENTER;
  return report(launch(kernel, arguments, stream));
}

cudaError_t __cudaGetKernel(cudaKernel_t *kernel, const void *function) {
  *kernel = (cudaKernel_t)function;
  return cudaSuccess;
}

// ---- what the compiler's start-up code calls ----

void **__cudaRegisterFatBinary(void *) {
  static void *handle;
  return &handle;
}

void __cudaRegisterFatBinaryEnd(void **) {}
void __cudaUnregisterFatBinary(void **) {}

void __cudaRegisterFunction(void **, const char *function, char *, const char *name, int, void *, void *, void *,
                            void *, int *) {
  kernels()[function].name = name;
}

void __cudaRegisterVar(void **, char *, char *, const char *, int, size_t, int, int) {}
char __cudaInitModule(void **) { return 1; }

struct Configuration {
  dim3 grid, block;
  size_t shared;
  void *stream;
};

static thread_local Configuration pushed;

unsigned __cudaPushCallConfiguration(dim3 grid, dim3 block, size_t shared, void *stream) {
  pushed = {grid, block, shared, stream};
  return 0;
}

cudaError_t __cudaPopCallConfiguration(dim3 *grid, dim3 *block, size_t *shared, void *stream) {
  *grid = pushed.grid;
  *block = pushed.block;
  *shared = pushed.shared;
  *(void **)stream = pushed.stream;
  return cudaSuccess;
}

// ---- what PyTorch asks about kernels ----

cudaError_t cudaFuncGetAttributes(cudaFuncAttributes *attributes, const void *) {
  cudaFuncAttributes found = {};
  found.maxThreadsPerBlock = 1024;
  found.numRegs = 32;
  found.binaryVersion = found.ptxVersion = 86;
  found.maxDynamicSharedSizeBytes = 99 << 10;
  *attributes = found;
  return cudaSuccess;
}

cudaError_t cudaFuncSetAttribute(const void *, cudaFuncAttribute, int) { return cudaSuccess; }

cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(int *blocks, const void *, int, size_t, unsigned) {
  *blocks = 2;
  return cudaSuccess;
}

cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessor(int *blocks, const void *, int, size_t) {
  *blocks = 2;
  return cudaSuccess;
}

cudaError_t cudaGetSymbolAddress(void **address, const void *) {
  static char room[1 << 16];
  *address = room;
  return cudaSuccess;
}

}  // extern "C"
