// Devices, contexts and errors.
#include "fake.h"

#include <dlfcn.h>
#include <pthread.h>

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <sstream>

namespace fake {

static thread_local int current = 0;
static thread_local cudaError_t last = cudaSuccess;
static bool contexts[MAX_DEVICES];
static cudaError_t lost[MAX_DEVICES];

// CUDA cannot be used in the child of a process that has initialized it before the fork.
static bool initialized = false, forked = false;

static void initialize() {
  if (initialized) return;
  initialized = true;
  pthread_atfork(nullptr, nullptr, [] { forked = true; });
}

// As CUDA reads CUDA_VISIBLE_DEVICES: once, numbers only, up to the first that does not exist.
static const std::vector<int> &visible() {
  static const std::vector<int> devices = [] {
    int count = (int)std::min(setting("FAKE_CUDA_DEVICES", 1), (size_t)MAX_DEVICES);
    std::vector<int> all, listed;
    for (int device = 0; device < count; device++) all.push_back(device);
    const char *text = getenv("CUDA_VISIBLE_DEVICES");
    if (!text) return all;
    std::istringstream numbers(text);
    std::string number;
    while (std::getline(numbers, number, ',') && !number.empty() && isdigit(number[0]) && stoi(number) < count)
      listed.push_back(stoi(number));
    return listed;
  }();
  return devices;
}

int device_count() { return (int)visible().size(); }
int in_machine(int device) { return visible().at(device); }
size_t total_nbytes() { return setting("FAKE_CUDA_TOTAL", 2ull << 30); }
int current_device() { return current; }
bool has_context(int device) { return !forked && device >= 0 && device < MAX_DEVICES && contexts[device]; }

cudaError_t report(cudaError_t error) {
  if (error != cudaSuccess) last = error;
  return error;
}

bool is_sticky(cudaError_t error) {
  switch (error) {
  case cudaErrorECCUncorrectable:
  case cudaErrorIllegalAddress:
  case cudaErrorLaunchTimeout:
  case cudaErrorContextIsDestroyed:
  case cudaErrorAssert:
  case cudaErrorHardwareStackError:
  case cudaErrorIllegalInstruction:
  case cudaErrorMisalignedAddress:
  case cudaErrorLaunchFailure:
    return true;
  default:
    return false;
  }
}

void lose(int device, cudaError_t error) {
  if (lost[device] == cudaSuccess) lost[device] = error;
}

static cudaError_t create_context(int device) {
  MachineLock machine;
  size_t nbytes = setting("FAKE_CUDA_CONTEXT", 300ull << 20);
  if (nbytes + used_by_others(device) > total_nbytes()) return cudaErrorMemoryAllocation;
  contexts[device] = true;
  counter("used", device) += nbytes;
  counter("context", device) = nbytes;
  return cudaSuccess;
}

cudaError_t enter() {
  if (forked) return cudaErrorInitializationError;
  if (!device_count()) return cudaErrorNoDevice;
  initialize();
  if (!contexts[current])
    if (cudaError_t error = create_context(current)) return error;
  if (lost[current] == cudaSuccess)
    if (cudaError_t error = injected("call")) {
      if (!is_sticky(error)) return error;
      lose(current, error);
    }
  return lost[current];
}

}  // namespace fake

using namespace fake;

extern "C" {

// For driver.cpp.
int fake_cuda_has_context(int device) {
  Lock lock(guard);
  return has_context(device);
}

cudaError_t cudaGetDeviceCount(int *count) {
  Lock lock(guard);
  *count = device_count();
  if (forked) return report(cudaErrorInitializationError);
  initialize();
  return *count ? cudaSuccess : report(cudaErrorNoDevice);
}

cudaError_t cudaSetDevice(int device) {
  Lock lock(guard);
  if (device < 0 || device >= device_count()) return report(cudaErrorInvalidDevice);
  current = device;
  return report(enter());
}

cudaError_t cudaGetDevice(int *device) {
  *device = current;
  return cudaSuccess;
}

static int capability(bool major) {
  std::string text = setting("FAKE_CUDA_CAPABILITY", "8.6");
  return text[major ? 0 : text.find('.') + 1] - '0';
}

cudaError_t cudaGetDeviceProperties(cudaDeviceProp *properties, int device) {
  if (device < 0 || device >= device_count()) return report(cudaErrorInvalidDevice);
  cudaDeviceProp found = {};
  snprintf(found.name, sizeof found.name, "Fake GPU %d", in_machine(device));
  found.uuid.bytes[0] = (char)(in_machine(device) + 1);
  found.pciBusID = in_machine(device) + 1;
  found.major = capability(true);
  found.minor = capability(false);
  found.totalGlobalMem = total_nbytes();
  found.multiProcessorCount = 80;
  found.warpSize = 32;
  found.maxThreadsPerBlock = 1024;
  found.maxThreadsPerMultiProcessor = 1536;
  found.maxBlocksPerMultiProcessor = 16;
  found.maxThreadsDim[0] = found.maxThreadsDim[1] = 1024;
  found.maxThreadsDim[2] = 64;
  found.maxGridSize[0] = 2147483647;
  found.maxGridSize[1] = found.maxGridSize[2] = 65535;
  found.sharedMemPerBlock = 48 << 10;
  found.sharedMemPerBlockOptin = 99 << 10;
  found.sharedMemPerMultiprocessor = 100 << 10;
  found.regsPerBlock = found.regsPerMultiprocessor = 65536;
  found.l2CacheSize = 6 << 20;
  found.asyncEngineCount = 2;
  found.concurrentKernels = found.unifiedAddressing = found.canMapHostMemory = 1;
  found.textureAlignment = 512;
  *properties = found;
  return cudaSuccess;
}

cudaError_t cudaDeviceGetAttribute(int *value, cudaDeviceAttr attribute, int device) {
  cudaDeviceProp properties;
  if (cudaError_t error = cudaGetDeviceProperties(&properties, device)) return error;
  switch (attribute) {
  case cudaDevAttrComputeCapabilityMajor: *value = properties.major; break;
  case cudaDevAttrComputeCapabilityMinor: *value = properties.minor; break;
  case cudaDevAttrMultiProcessorCount: *value = properties.multiProcessorCount; break;
  case cudaDevAttrMaxSharedMemoryPerBlock: *value = (int)properties.sharedMemPerBlock; break;
  case cudaDevAttrMaxSharedMemoryPerBlockOptin: *value = (int)properties.sharedMemPerBlockOptin; break;
  case cudaDevAttrWarpSize: *value = properties.warpSize; break;
  case cudaDevAttrMaxThreadsPerBlock: *value = properties.maxThreadsPerBlock; break;
  case cudaDevAttrMaxThreadsPerMultiProcessor: *value = properties.maxThreadsPerMultiProcessor; break;
  case cudaDevAttrHostRegisterSupported: *value = 1; break;
  case cudaDevAttrHostRegisterReadOnlySupported:
    *value = setting("FAKE_CUDA_READ_ONLY_REGISTRATION", 1) != 0;
    break;
  default: *value = 0;
  }
  return cudaSuccess;
}

cudaError_t cudaDeviceGetPCIBusId(char *text, int length, int device) {
  snprintf(text, length, "0000:%02d:00.0", in_machine(device) + 1);
  return cudaSuccess;
}

cudaError_t cudaDeviceGetStreamPriorityRange(int *least, int *greatest) {
  *least = 0;
  *greatest = -5;
  return cudaSuccess;
}

cudaError_t cudaDeviceCanAccessPeer(int *can, int, int) {
  *can = 0;
  return cudaSuccess;
}

cudaError_t cudaDeviceEnablePeerAccess(int, unsigned) { return report(cudaErrorPeerAccessUnsupported); }

cudaError_t cudaDriverGetVersion(int *version) {
  *version = CUDART_VERSION;
  return cudaSuccess;
}

cudaError_t cudaRuntimeGetVersion(int *version) { return cudaDriverGetVersion(version); }

// Forgets an error, but for those of a lost device.
cudaError_t cudaGetLastError() {
  Lock lock(guard);
  cudaError_t error = last;
  last = lost[current];
  return error;
}

cudaError_t cudaPeekAtLastError() { return last; }

const char *cudaGetErrorName(cudaError_t error) {
  switch (error) {
  case cudaSuccess: return "cudaSuccess";
  case cudaErrorInvalidValue: return "cudaErrorInvalidValue";
  case cudaErrorMemoryAllocation: return "cudaErrorMemoryAllocation";
  case cudaErrorInitializationError: return "cudaErrorInitializationError";
  case cudaErrorNoDevice: return "cudaErrorNoDevice";
  case cudaErrorInvalidDevice: return "cudaErrorInvalidDevice";
  case cudaErrorNotReady: return "cudaErrorNotReady";
  case cudaErrorIllegalAddress: return "cudaErrorIllegalAddress";
  case cudaErrorContextIsDestroyed: return "cudaErrorContextIsDestroyed";
  case cudaErrorAssert: return "cudaErrorAssert";
  case cudaErrorLaunchFailure: return "cudaErrorLaunchFailure";
  case cudaErrorECCUncorrectable: return "cudaErrorECCUncorrectable";
  case cudaErrorHostMemoryAlreadyRegistered: return "cudaErrorHostMemoryAlreadyRegistered";
  case cudaErrorHostMemoryNotRegistered: return "cudaErrorHostMemoryNotRegistered";
  case cudaErrorNotSupported: return "cudaErrorNotSupported";
  default: return "cudaErrorUnknown";
  }
}

// The driver's own words: the code under test reads them.
const char *cudaGetErrorString(cudaError_t error) {
  switch (error) {
  case cudaSuccess: return "no error";
  case cudaErrorInvalidValue: return "invalid argument";
  case cudaErrorMemoryAllocation: return "out of memory";
  case cudaErrorInitializationError: return "initialization error";
  case cudaErrorNoDevice: return "no CUDA-capable device is detected";
  case cudaErrorInvalidDevice: return "invalid device ordinal";
  case cudaErrorInvalidConfiguration: return "invalid configuration argument";
  case cudaErrorNotReady: return "device not ready";
  case cudaErrorIllegalAddress: return "an illegal memory access was encountered";
  case cudaErrorLaunchTimeout: return "the launch timed out and was terminated";
  case cudaErrorContextIsDestroyed: return "context is destroyed";
  case cudaErrorAssert: return "device-side assert triggered";
  case cudaErrorHardwareStackError: return "hardware stack error";
  case cudaErrorIllegalInstruction: return "an illegal instruction was encountered";
  case cudaErrorMisalignedAddress: return "misaligned address";
  case cudaErrorLaunchFailure: return "unspecified launch failure";
  case cudaErrorECCUncorrectable: return "uncorrectable ECC error encountered";
  case cudaErrorHostMemoryAlreadyRegistered:
    return "part or all of the requested memory range is already mapped";
  case cudaErrorHostMemoryNotRegistered: return "pointer does not correspond to a registered memory region";
  case cudaErrorNotSupported: return "operation not supported";
  default: return "unknown error";
  }
}

static int unsupported() { return cudaErrorNotSupported; }

cudaError_t cudaGetDriverEntryPointByVersion(const char *name, void **function, unsigned, unsigned long long,
                                             cudaDriverEntryPointQueryResult *result) {
  static void *driver = dlopen("libcuda.so.1", RTLD_NOW);
  *function = driver ? dlsym(driver, name) : nullptr;
  if (!*function) *function = (void *)unsupported;
  if (result) *result = cudaDriverEntryPointSuccess;
  return cudaSuccess;
}

}  // extern "C"
