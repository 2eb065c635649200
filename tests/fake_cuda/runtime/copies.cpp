// Copies and fills. They wait in their stream until somebody waits for it, and read pinned memory only then.
// Memory that the driver does not know (pageable) is read or written at once, as CUDA does.
#include "fake.h"

#include <cstdio>
#include <cstring>
#include <ctime>
#include <memory>

namespace fake {

static uint64_t now_ns() {
  timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return now.tv_sec * 1000000000ull + now.tv_nsec;
}

static void move_bytes(void *to, const void *from, size_t nbytes) {
  uint64_t began = now_ns();
  memmove(to, from, nbytes);
  counter("copy_ns") += now_ns() - began;
}

// What the code under test must not let happen: a real device would read or write another's memory.
static void freed_too_early(Stream *stream) {
  fprintf(stderr, "fake CUDA: memory of a copy was freed before the copy had run\n");
  lose(stream->device, cudaErrorIllegalAddress);
}

static void count_copy(bool to_device, bool from_device, size_t nbytes) {
  counter("copies")++;
  const char *kind = to_device ? (from_device ? "d2d_nbytes" : "h2d_nbytes") : "d2h_nbytes";
  if (to_device || from_device) counter(kind) += nbytes;
}

static cudaError_t copy(void *to, const void *from, size_t nbytes, Stream *stream) {
  if (!nbytes) return cudaSuccess;
  bool to_device = on_device(to), from_device = on_device(from);
  if ((to_device && !on_device(to, nbytes)) || (from_device && !on_device(from, nbytes)))
    return cudaErrorInvalidValue;
  if (cudaError_t error = injected("copy", nbytes)) {
    if (!is_sticky(error)) return error;
    lose(stream->device, error);  // found by the next call, like all that goes wrong on the device
    return cudaSuccess;
  }
  count_copy(to_device, from_device, nbytes);
  bool source_waits = from_device || is_pinned(from, nbytes), target_waits = to_device || is_pinned(to, nbytes);
  if (!source_waits || !target_waits) counter("pageable_nbytes") += nbytes;
  if (!target_waits) {
    run(stream);
    move_bytes(to, from, nbytes);
  } else if (!source_waits) {
    auto staged = std::make_shared<std::vector<char>>((const char *)from, (const char *)from + nbytes);
    enqueue(stream, [=] {
      if (on_device(to, nbytes) || is_pinned(to, nbytes)) return move_bytes(to, staged->data(), nbytes);
      freed_too_early(stream);
    });
  } else {
    enqueue(stream, [=] {
      bool there = (on_device(to, nbytes) || is_pinned(to, nbytes)) && (on_device(from, nbytes) || is_pinned(from, nbytes));
      there ? move_bytes(to, from, nbytes) : freed_too_early(stream);
    });
  }
  return cudaSuccess;
}

}  // namespace fake

using namespace fake;

extern "C" {

cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t nbytes, cudaMemcpyKind, cudaStream_t stream) {
  ENTER;
  return report(copy(to, from, nbytes, stream_of(stream)));
}

cudaError_t cudaMemcpy(void *to, const void *from, size_t nbytes, cudaMemcpyKind) {
  ENTER;
  Stream *stream = stream_of(nullptr);
  cudaError_t error = copy(to, from, nbytes, stream);
  run(stream);
  return report(error);
}

cudaError_t cudaMemcpyPeerAsync(void *to, int, const void *from, int, size_t nbytes, cudaStream_t stream) {
  ENTER;
  return report(copy(to, from, nbytes, stream_of(stream)));
}

cudaError_t cudaMemcpy2DAsync(void *to, size_t to_pitch, const void *from, size_t from_pitch, size_t width,
                              size_t height, cudaMemcpyKind, cudaStream_t stream) {
  ENTER;
  for (size_t row = 0; row < height; row++) {
    void *target = (char *)to + row * to_pitch;
    const void *source = (const char *)from + row * from_pitch;
    if (cudaError_t error = copy(target, source, width, stream_of(stream))) return report(error);
  }
  return cudaSuccess;
}

// Variables of device code: no kernel reads them here.
cudaError_t cudaMemcpyToSymbol(const void *, const void *, size_t, size_t, cudaMemcpyKind) {
  ENTER;
  return cudaSuccess;
}

cudaError_t cudaMemsetAsync(void *to, int value, size_t nbytes, cudaStream_t stream) {
  ENTER;
  if (nbytes && !on_device(to, nbytes) && !is_pinned(to, nbytes)) return report(cudaErrorInvalidValue);
  Stream *on = stream_of(stream);
  enqueue(on, [=] { on_device(to, nbytes) || is_pinned(to, nbytes) ? (void)memset(to, value, nbytes) : freed_too_early(on); });
  return cudaSuccess;
}

cudaError_t cudaMemset(void *to, int value, size_t nbytes) {
  cudaError_t error = cudaMemsetAsync(to, value, nbytes, nullptr);
  Lock lock(guard);
  run(stream_of(nullptr));
  return error;
}

}  // extern "C"
