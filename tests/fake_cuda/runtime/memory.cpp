// Device memory, and host memory that the driver knows: pinned by cudaHostAlloc or by cudaHostRegister.
//
// An allocation takes whole steps of 2 MiB, as on real devices, and is a file of the process's directory.
#include "fake.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <map>

namespace fake {

constexpr size_t GRANULARITY = 2 << 20;

struct Allocation {
  size_t nbytes;
  int device;
  std::string file;
};

static std::map<char *, Allocation> allocations;
static std::map<char *, size_t> allocated_on_host, registered;

template <class Map> static typename Map::const_iterator holder(const Map &map, const void *address) {
  auto found = map.upper_bound((char *)address);
  return found == map.begin() ? map.end() : --found;
}

static bool inside(const std::map<char *, size_t> &map, const void *address, size_t nbytes) {
  auto found = holder(map, address);
  return found != map.end() && (char *)address + nbytes <= found->first + found->second;
}

bool on_device(const void *address, size_t nbytes) {
  auto found = holder(allocations, address);
  return found != allocations.end() && (char *)address + nbytes <= found->first + found->second.nbytes;
}

int device_of(const void *address) { return on_device(address) ? holder(allocations, address)->second.device : -1; }

bool is_pinned(const void *address, size_t nbytes) {
  return inside(allocated_on_host, address, nbytes) || inside(registered, address, nbytes);
}

static void *map_file(const std::string &path, size_t nbytes) {
  int file = open(path.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
  if (file < 0) return nullptr;
  void *at = MAP_FAILED;
  if (!ftruncate(file, nbytes)) at = mmap(nullptr, nbytes, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
  close(file);
  if (at != MAP_FAILED) return at;
  unlink(path.c_str());
  return nullptr;
}

static cudaError_t allocate(void **address, size_t wanted) {
  int device = current_device();
  size_t nbytes = std::max((wanted + GRANULARITY - 1) / GRANULARITY, (size_t)1) * GRANULARITY;
  MachineLock machine;
  uint64_t &used = counter("used", device);
  if (used + used_by_others(device) + nbytes > total_nbytes()) return cudaErrorMemoryAllocation;
  std::string serial = std::to_string(++counter("mallocs"));
  std::string file = process_directory() + "/memory/" + std::to_string(in_machine(device)) + "-" + serial;
  void *at = map_file(file, nbytes);
  if (!at) return cudaErrorMemoryAllocation;
  allocations[(char *)at] = {nbytes, device, file};
  used += nbytes;
  counter("peak", device) = std::max(counter("peak", device), used);
  *address = at;
  return cudaSuccess;
}

}  // namespace fake

using namespace fake;

extern "C" {

cudaError_t cudaMalloc(void **address, size_t nbytes) {
  ENTER;
  cudaError_t error = injected("malloc", nbytes);
  if (is_sticky(error)) lose(current_device(), error);
  if (error == cudaSuccess) error = allocate(address, nbytes);
  if (error != cudaSuccess) counter("failed_mallocs")++;
  return report(error);
}

// Waits for the device, as cudaFree does.
cudaError_t cudaFree(void *address) {
  ENTER;
  if (!address) return cudaSuccess;
  auto found = allocations.find((char *)address);
  if (found == allocations.end()) return report(cudaErrorInvalidValue);
  Allocation freed = found->second;
  run_all(freed.device);
  MachineLock machine;
  munmap(address, freed.nbytes);
  unlink(freed.file.c_str());
  allocations.erase(found);
  counter("used", freed.device) -= freed.nbytes;
  counter("frees")++;
  return cudaSuccess;
}

cudaError_t cudaMemGetInfo(size_t *free, size_t *total) {
  ENTER;
  MachineLock machine;
  *total = total_nbytes();
  *free = *total - std::min(*total, counter("used", current_device()) + used_by_others(current_device()));
  return cudaSuccess;
}

// ---- host memory ----

cudaError_t cudaHostAlloc(void **address, size_t nbytes, unsigned) {
  ENTER;
  nbytes = std::max(nbytes, (size_t)1);
  void *at = mmap(nullptr, nbytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (at == MAP_FAILED) return report(cudaErrorMemoryAllocation);
  allocated_on_host[(char *)at] = nbytes;
  counter("pinned") += nbytes;
  *address = at;
  return cudaSuccess;
}

cudaError_t cudaMallocHost(void **address, size_t nbytes) { return cudaHostAlloc(address, nbytes, 0); }

cudaError_t cudaFreeHost(void *address) {
  ENTER;
  if (!address) return cudaSuccess;
  auto found = allocated_on_host.find((char *)address);
  if (found == allocated_on_host.end()) return report(cudaErrorInvalidValue);
  for (int device = 0; device < device_count(); device++) run_all(device);
  munmap(address, found->second);
  counter("pinned") -= found->second;
  allocated_on_host.erase(found);
  return cudaSuccess;
}

cudaError_t cudaHostGetDevicePointer(void **on_device, void *address, unsigned) {
  ENTER;
  if (!is_pinned(address)) return report(cudaErrorInvalidValue);
  *on_device = address;
  return cudaSuccess;
}

static bool overlaps(const std::map<char *, size_t> &map, char *begin, size_t nbytes) {
  auto next = map.lower_bound(begin + nbytes);
  return next != map.begin() && (--next)->first + next->second > begin;
}

static cudaError_t register_memory(char *begin, size_t nbytes, unsigned flags) {
  if (!begin || !nbytes) return cudaErrorInvalidValue;
  bool read_only = flags & cudaHostRegisterReadOnly;
  if (read_only && !setting("FAKE_CUDA_READ_ONLY_REGISTRATION", 1)) return cudaErrorNotSupported;
  if (overlaps(registered, begin, nbytes) || overlaps(allocated_on_host, begin, nbytes))
    return cudaErrorHostMemoryAlreadyRegistered;
  if (cudaError_t error = injected("register", nbytes)) return error;
  registered[begin] = nbytes;
  counter("registered") += nbytes;
  counter("registrations")++;
  return cudaSuccess;
}

cudaError_t cudaHostRegister(void *address, size_t nbytes, unsigned flags) {
  ENTER;
  cudaError_t error = register_memory((char *)address, nbytes, flags);
  if (error != cudaSuccess) counter("failed_registrations")++;
  return report(error);
}

// Waits for the device: nothing may read the memory any more.
cudaError_t cudaHostUnregister(void *address) {
  ENTER;
  auto found = registered.find((char *)address);
  if (found == registered.end()) return report(cudaErrorHostMemoryNotRegistered);
  for (int device = 0; device < device_count(); device++) run_all(device);
  counter("registered") -= found->second;
  counter("unregistrations")++;
  registered.erase(found);
  return cudaSuccess;
}

cudaError_t cudaPointerGetAttributes(cudaPointerAttributes *attributes, const void *address) {
  Lock lock(guard);
  cudaPointerAttributes found = {};
  found.type = cudaMemoryTypeUnregistered;
  found.device = -1;
  if (on_device(address)) {
    found.type = cudaMemoryTypeDevice;
    found.device = device_of(address);
    found.devicePointer = (void *)address;
  } else if (is_pinned(address)) {
    found.type = cudaMemoryTypeHost;
    found.device = current_device();
    found.hostPointer = found.devicePointer = (void *)address;
  }
  *attributes = found;
  return cudaSuccess;
}

}  // extern "C"
