// The driver API: streams, and events with real times.
#include "../runtime/stream.h"

#include <cuda.h>

#include <algorithm>

#include "../runtime/memory.h"
#include "../runtime/not_emulated.h"

using namespace cuda_emulator;

namespace {

// Device memory that is counted for a stream.
constexpr std::size_t stream_bytes = 64 << 10;

Event& event_of(CUevent handle) { return *reinterpret_cast<Event*>(handle); }

float milliseconds_between(const Event& start, const Event& end) {
  return std::chrono::duration<float, std::milli>(end.time - start.time).count();
}

}  // namespace

extern "C" {

CUresult cuStreamCreate(CUstream* handle, unsigned flags) {
  const auto lock = lock_device();
  auto* stream = new Stream;
  stream->flags = flags;
  charge_memory(stream_bytes);
  *handle = reinterpret_cast<CUstream>(stream);
  return CUDA_SUCCESS;
}

CUresult cuStreamCreateWithPriority(CUstream* handle, unsigned flags, int) { return cuStreamCreate(handle, flags); }

CUresult cuStreamDestroy(CUstream handle) {
  const auto lock = lock_device();
  Stream& stream = stream_of(handle);
  if (stream.capture != nullptr) return CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
  check_guards();
  refund_memory(stream_bytes);
  delete &stream;
  return CUDA_SUCCESS;
}

CUresult cuStreamGetFlags(CUstream handle, unsigned* flags) {
  *flags = stream_of(handle).flags;
  return CUDA_SUCCESS;
}

CUresult cuStreamGetPriority(CUstream, int* priority) {
  *priority = 0;
  return CUDA_SUCCESS;
}

CUresult cuStreamSynchronize(CUstream handle) {
  const auto lock = lock_device();
  if (const CUresult error = forbid_on_capturing(stream_of(handle))) return error;
  if (is_legacy(handle)) {
    for (Stream* other : capturing_streams()) {
      if ((other->flags & CU_STREAM_NON_BLOCKING) == 0) return forbid_on_capturing(*other);
    }
  }
  check_guards();
  return CUDA_SUCCESS;
}

CUresult cuStreamQuery(CUstream handle) {
  const auto lock = lock_device();
  return forbid_on_capturing(stream_of(handle));
}

CUresult cuStreamWaitEvent(CUstream handle, CUevent event_handle, unsigned) {
  const auto lock = lock_device();
  Stream& stream = stream_of(handle);
  const Event& event = event_of(event_handle);
  if (!event.recorded) return CUDA_SUCCESS;
  if (event.capture_id == 0) {
    if (stream.capture == nullptr) return CUDA_SUCCESS;
    stream.capture->invalidated = true;
    return CUDA_ERROR_STREAM_CAPTURE_ISOLATION;
  }
  auto& capturing = capturing_streams();
  const auto of_event = std::find_if(capturing.begin(), capturing.end(), [&](const Stream* other) {
    return other->capture->id == event.capture_id;
  });
  if (of_event == capturing.end()) return CUDA_ERROR_INVALID_VALUE;
  if (stream.capture == nullptr) {
    if (is_legacy(handle)) return CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
    stream.capture = (*of_event)->capture;
    stream.last.clear();
    capturing.push_back(&stream);
  } else if (stream.capture->id != event.capture_id) {
    stream.capture->invalidated = (*of_event)->capture->invalidated = true;
    return CUDA_ERROR_STREAM_CAPTURE_MERGE;
  }
  for (const std::size_t node : event.nodes) {
    if (std::find(stream.last.begin(), stream.last.end(), node) == stream.last.end()) stream.last.push_back(node);
  }
  return CUDA_SUCCESS;
}

CUresult cuLaunchHostFunc(CUstream stream, CUhostFn function, void* data) {
  const auto lock = lock_device();
  return submit(stream, {"host function", [=] { function(data); }});
}

CUresult cuEventCreate(CUevent* handle, unsigned) {
  *handle = reinterpret_cast<CUevent>(new Event);
  return CUDA_SUCCESS;
}

CUresult cuEventDestroy(CUevent handle) {
  delete &event_of(handle);
  return CUDA_SUCCESS;
}

CUresult cuEventRecord(CUevent handle, CUstream stream_handle) {
  const auto lock = lock_device();
  const Stream& stream = stream_of(stream_handle);
  Event& event = event_of(handle);
  event.recorded = true;
  event.capture_id = stream.capture == nullptr ? 0 : stream.capture->id;
  event.nodes = stream.capture == nullptr ? std::vector<std::size_t>() : stream.last;
  event.time = std::chrono::steady_clock::now();
  return CUDA_SUCCESS;
}

CUresult cuEventRecordWithFlags(CUevent event, CUstream stream, unsigned flags) {
  if (flags != 0) not_emulated("cuEventRecordWithFlags with flags");
  return cuEventRecord(event, stream);
}

CUresult cuEventQuery(CUevent handle) {
  const auto lock = lock_device();
  if (const CUresult error = forbid_unsafe_call()) return error;
  return event_of(handle).capture_id == 0 ? CUDA_SUCCESS : CUDA_ERROR_CAPTURED_EVENT;
}

CUresult cuEventSynchronize(CUevent handle) {
  const auto lock = lock_device();
  if (event_of(handle).capture_id != 0) {
    for (Stream* stream : capturing_streams()) stream->capture->invalidated = true;
    return CUDA_ERROR_CAPTURED_EVENT;
  }
  check_guards();
  return CUDA_SUCCESS;
}

CUresult cuEventElapsedTime(float* milliseconds, CUevent start, CUevent end) {
  const auto lock = lock_device();
  const Event &from = event_of(start), &to = event_of(end);
  if (!from.recorded || !to.recorded) return CUDA_ERROR_INVALID_HANDLE;
  *milliseconds = milliseconds_between(from, to);
  return CUDA_SUCCESS;
}

}  // extern "C"

#undef cuEventElapsedTime
extern "C" CUresult cuEventElapsedTime(float* milliseconds, CUevent start, CUevent end) {
  return cuEventElapsedTime_v2(milliseconds, start, end);
}
