// Streams: finding them by their handles, submitting work to them, and the rules of capturing.
#include "stream.h"

namespace cuda_emulator {
namespace {

Stream legacy_stream;
thread_local Stream per_thread_stream;

CUresult invalidate(Stream& stream, CUresult error) {
  stream.capture->invalidated = true;
  return error;
}

}  // namespace

std::unique_lock<std::recursive_mutex> lock_device() {
  static std::recursive_mutex mutex;
  return std::unique_lock<std::recursive_mutex>(mutex);
}

std::vector<Stream*>& capturing_streams() {
  static std::vector<Stream*> streams;
  return streams;
}

bool is_legacy(CUstream handle) { return handle == nullptr || handle == CU_STREAM_LEGACY; }

Stream& stream_of(CUstream handle) {
  if (is_legacy(handle)) return legacy_stream;
  if (handle == CU_STREAM_PER_THREAD) return per_thread_stream;
  return *reinterpret_cast<Stream*>(handle);
}

CUresult submit(CUstream handle, Node node) {
  Stream& stream = stream_of(handle);
  if (is_legacy(handle)) {
    // The legacy stream waits for all streams that do not opt out, and a capturing stream cannot be waited for.
    for (Stream* other : capturing_streams()) {
      if ((other->flags & CU_STREAM_NON_BLOCKING) == 0) {
        return invalidate(*other, CUDA_ERROR_STREAM_CAPTURE_IMPLICIT);
      }
    }
  }
  if (stream.capture == nullptr) {
    node.run();
    return CUDA_SUCCESS;
  }
  if (stream.capture->invalidated) return CUDA_ERROR_STREAM_CAPTURE_INVALIDATED;
  auto& nodes = stream.capture->graph->nodes;
  node.after = std::move(stream.last);
  node.forked = stream.capture->origin != &stream;
  stream.last = {nodes.size()};
  nodes.push_back(std::move(node));
  return CUDA_SUCCESS;
}

CUresult forbid_on_capturing(Stream& stream) {
  if (stream.capture == nullptr) return CUDA_SUCCESS;
  return invalidate(stream, CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED);
}

CUresult forbid_on_capturing_device() {
  CUresult error = CUDA_SUCCESS;
  for (Stream* stream : capturing_streams()) error = forbid_on_capturing(*stream);
  return error;
}

CUresult forbid_unsafe_call() {
  for (Stream* stream : capturing_streams()) {
    const Capture& capture = *stream->capture;
    const bool concerned = capture.mode == CU_STREAM_CAPTURE_MODE_GLOBAL ||
                           (capture.mode == CU_STREAM_CAPTURE_MODE_THREAD_LOCAL &&
                            capture.thread == std::this_thread::get_id());
    if (concerned) {
      return invalidate(*stream, CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED);
    }
  }
  return CUDA_SUCCESS;
}

}  // namespace cuda_emulator
