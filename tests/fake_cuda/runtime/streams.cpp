// Streams and events. Work runs in the thread that waits for it; until then it does not run at all.
//
// A query is answered with "not ready" once after new work, so that the code under test meets that answer; at the
// second query the work is run. The default stream does not wait for others: PyTorch's are all non-blocking.
#include "fake.h"

#include <chrono>

namespace fake {

using Clock = std::chrono::steady_clock;

struct Event {
  Stream *stream = nullptr;
  size_t position = 0;  // recorded when so much had been enqueued in the stream
  Clock::time_point recorded;
};

static std::vector<Stream *> streams;  // never freed: events refer to them

static Stream *create(int device) {
  auto stream = new Stream;
  stream->device = device;
  streams.push_back(stream);
  return stream;
}

Stream *stream_of(cudaStream_t handle) {
  static Stream *defaults[MAX_DEVICES];
  if (handle != nullptr && handle != cudaStreamLegacy && handle != cudaStreamPerThread) return (Stream *)handle;
  Stream *&found = defaults[current_device()];
  if (!found) found = create(current_device());
  return found;
}

void enqueue(Stream *stream, std::function<void()> work) {
  stream->queue.push_back(std::move(work));
  stream->enqueued++;
  stream->asked = false;
}

static void run_until(Stream *stream, size_t position) {
  while (stream->done < position && !stream->queue.empty()) {
    auto work = std::move(stream->queue.front());
    stream->queue.pop_front();
    stream->done++;
    work();
  }
}

void run(Stream *stream) { run_until(stream, stream->enqueued); }

void run_all(int device) {
  for (size_t each = 0; each < streams.size(); each++)
    if (streams[each]->device == device) run(streams[each]);
}

static cudaError_t query(Stream *stream, size_t position) {
  if (stream->done >= position) return cudaSuccess;
  if (!stream->asked) {
    stream->asked = true;
    return cudaErrorNotReady;
  }
  run_until(stream, position);
  return cudaSuccess;
}

// After waiting: a copy that has just run may have lost the device.
static cudaError_t waited() {
  counter("syncs")++;
  return report(enter());
}

}  // namespace fake

using namespace fake;

extern "C" {

// ---- streams ----

cudaError_t cudaStreamCreateWithPriority(cudaStream_t *stream, unsigned, int) {
  ENTER;
  *stream = (cudaStream_t)create(current_device());
  return cudaSuccess;
}

cudaError_t cudaStreamCreateWithFlags(cudaStream_t *stream, unsigned) {
  return cudaStreamCreateWithPriority(stream, 0, 0);
}

cudaError_t cudaStreamCreate(cudaStream_t *stream) { return cudaStreamCreateWithPriority(stream, 0, 0); }

cudaError_t cudaStreamDestroy(cudaStream_t stream) {
  ENTER;
  run(stream_of(stream));
  return cudaSuccess;
}

cudaError_t cudaStreamGetPriority(cudaStream_t, int *priority) {
  *priority = 0;
  return cudaSuccess;
}

cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
  ENTER;
  run(stream_of(stream));
  return waited();
}

cudaError_t cudaDeviceSynchronize() {
  ENTER;
  run_all(current_device());
  return waited();
}

cudaError_t cudaStreamQuery(cudaStream_t stream) {
  ENTER;
  return report(query(stream_of(stream), stream_of(stream)->enqueued));
}

cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t handle, unsigned) {
  ENTER;
  Event event = *(Event *)handle;
  if (event.stream && event.stream != stream_of(stream))
    enqueue(stream_of(stream), [=] { run_until(event.stream, event.position); });
  return cudaSuccess;
}

cudaError_t cudaLaunchHostFunc(cudaStream_t stream, cudaHostFn_t function, void *data) {
  ENTER;
  enqueue(stream_of(stream), [=] { function(data); });
  return cudaSuccess;
}

// Nothing is captured into graphs.
cudaError_t cudaStreamIsCapturing(cudaStream_t, cudaStreamCaptureStatus *status) {
  *status = cudaStreamCaptureStatusNone;
  return cudaSuccess;
}

cudaError_t cudaStreamGetCaptureInfo(cudaStream_t, cudaStreamCaptureStatus *status, unsigned long long *id,
                                     cudaGraph_t *, const cudaGraphNode_t **, const cudaGraphEdgeData **,
                                     size_t *count) {
  *status = cudaStreamCaptureStatusNone;
  if (id) *id = 0;
  if (count) *count = 0;
  return cudaSuccess;
}

cudaError_t cudaThreadExchangeStreamCaptureMode(cudaStreamCaptureMode *) { return cudaSuccess; }

// ---- events ----

cudaError_t cudaEventCreateWithFlags(cudaEvent_t *event, unsigned) {
  ENTER;
  *event = (cudaEvent_t) new Event;
  return cudaSuccess;
}

cudaError_t cudaEventCreate(cudaEvent_t *event) { return cudaEventCreateWithFlags(event, 0); }

cudaError_t cudaEventDestroy(cudaEvent_t event) {
  Lock lock(guard);
  delete (Event *)event;
  return cudaSuccess;
}

cudaError_t cudaEventRecordWithFlags(cudaEvent_t event, cudaStream_t stream, unsigned) {
  ENTER;
  *(Event *)event = {stream_of(stream), stream_of(stream)->enqueued, Clock::now()};
  return cudaSuccess;
}

cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
  return cudaEventRecordWithFlags(event, stream, 0);
}

cudaError_t cudaEventSynchronize(cudaEvent_t handle) {
  ENTER;
  Event event = *(Event *)handle;
  if (event.stream) run_until(event.stream, event.position);
  return waited();
}

cudaError_t cudaEventQuery(cudaEvent_t handle) {
  ENTER;
  Event event = *(Event *)handle;
  return report(event.stream ? query(event.stream, event.position) : cudaSuccess);
}

cudaError_t cudaEventElapsedTime(float *milliseconds, cudaEvent_t begin, cudaEvent_t end) {
  ENTER;
  auto took = ((Event *)end)->recorded - ((Event *)begin)->recorded;
  *milliseconds = std::chrono::duration<float, std::milli>(took).count();
  return cudaSuccess;
}

}  // extern "C"
