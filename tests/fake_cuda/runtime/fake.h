// A fake CUDA runtime for PyTorch's CUDA build on a machine without a GPU, loaded by LD_PRELOAD.
//
// Real: device memory (of host memory), allocations, errors, streams, events, pinned and registered memory,
// copies, and one context per process and device. Copies run as late as CUDA allows: when somebody waits for
// their stream. A wait that is missing in the code under test therefore shows as wrong bytes.
// Not real: kernels. Conversions from one type to another are computed, all others do nothing, so a model's
// answers are meaningless.
//
//   processes.cpp    the directory that all processes share: what each holds, its counters, injected faults
//   devices.cpp      devices, contexts, errors
//   memory.cpp       allocations, pinned and registered host memory
//   copies.cpp       copies and fills
//   streams.cpp      streams and events
//   kernels.cpp      launches
//   conversions.cpp  the kernels that are computed
//   driver.cpp       libcuda.so.1, a library of its own
//
// Environment:
//   FAKE_CUDA_DIR         directory shared by the processes of one machine (/tmp/fake-cuda-UID)
//   FAKE_CUDA_DEVICES     number of devices (1)
//   CUDA_VISIBLE_DEVICES  as in CUDA: numbers of those that the process sees, in its order (all)
//   FAKE_CUDA_TOTAL       bytes of each device (2 GiB)
//   FAKE_CUDA_CONTEXT     bytes that a process takes on each device it uses (300 MiB)
//   FAKE_CUDA_CAPABILITY  compute capability (8.6)
//   FAKE_CUDA_READ_ONLY_REGISTRATION  0: cudaHostRegisterReadOnly is not supported (1)
//   FAKE_CUDA_TRACE       a file to which the name of each launched kernel is appended
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <mutex>
#include <string>
#include <vector>

namespace fake {

constexpr int MAX_DEVICES = 8;

// One lock for everything: the runtime is for tests, where clarity matters more than speed.
extern std::recursive_mutex guard;
using Lock = std::lock_guard<std::recursive_mutex>;

std::string setting(const char *name, const char *otherwise);
size_t setting(const char *name, size_t otherwise);

// ---- processes.cpp ----

// A number that other processes can read while this one runs. Changed under `guard` only.
uint64_t &counter(const char *name);
uint64_t &counter(const char *name, int device);

// Held while memory is given out, so that two processes cannot take the same bytes.
class MachineLock {
public:
  MachineLock();
  ~MachineLock();
private:
  int descriptor;
};

// Bytes that the other live processes hold on the device. Removes what dead ones left. Under MachineLock.
size_t used_by_others(int device);

// This process's part of FAKE_CUDA_DIR; made at the first call.
const std::string &process_directory();

// The fault that a test has injected at this point, or cudaSuccess. `nbytes`: size of the allocation or copy.
cudaError_t injected(const char *point, size_t nbytes = 0);

// ---- devices.cpp ----

int device_count();

// The number of this process's device in the machine.
int in_machine(int device);

size_t total_nbytes();
int current_device();

// Remembers the error for cudaGetLastError, as every call of the runtime does.
cudaError_t report(cudaError_t error);

// Creates the context of the current device if there is none. Returns the device's error once it is lost.
cudaError_t enter();

bool has_context(int device);

// From now on every call for this device returns the error.
void lose(int device, cudaError_t error);

// True for the errors after which a real context cannot be used any more.
bool is_sticky(cudaError_t error);

// First line of a function of the API that needs a context.
#define ENTER                                                                                      \
  Lock lock(guard);                                                                                \
  if (cudaError_t lost = enter()) return report(lost)

// ---- memory.cpp ----

bool on_device(const void *address, size_t nbytes = 1);
int device_of(const void *address);  // -1 for host memory
bool is_pinned(const void *address, size_t nbytes = 1);

// ---- streams.cpp ----

struct Stream {
  int device = 0;
  size_t enqueued = 0, done = 0;
  bool asked = false;  // a query was answered with "not ready" since the last work was enqueued
  std::deque<std::function<void()>> queue;
};

Stream *stream_of(cudaStream_t handle);
void enqueue(Stream *stream, std::function<void()> work);
void run(Stream *stream);
void run_all(int device);

// ---- conversions.cpp ----

enum class Conversion { NONE, TO_BF16, TO_F16, BY_ARGUMENTS };

// `name`: of the kernel, as the compiler mangled it.
Conversion conversion_of(const std::string &name);
void enqueue_conversion(Conversion kind, void **arguments, Stream *stream);

}  // namespace fake
