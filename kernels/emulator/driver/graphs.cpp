// The driver API: capturing a stream into a graph, instantiating and launching it.
#include <cuda.h>

#include <algorithm>

#include "../runtime/memory.h"
#include "../runtime/not_emulated.h"
#include "../runtime/stream.h"

using namespace cuda_emulator;

namespace {

Graph* graph_of(CUgraph handle) { return reinterpret_cast<Graph*>(handle); }
GraphExecutable* executable_of(CUgraphExec handle) { return reinterpret_cast<GraphExecutable*>(handle); }

// Device memory that is counted for an executable graph.
std::size_t graph_bytes(const Graph& graph) { return graph.nodes.size() << 10; }

void disown(Graph* graph) {
  if (--graph->owners == 0) delete graph;
}

CUstreamCaptureStatus status_of(const Stream& stream) {
  if (stream.capture == nullptr) return CU_STREAM_CAPTURE_STATUS_NONE;
  return stream.capture->invalidated ? CU_STREAM_CAPTURE_STATUS_INVALIDATED : CU_STREAM_CAPTURE_STATUS_ACTIVE;
}

}  // namespace

extern "C" {

CUresult cuStreamBeginCapture(CUstream handle, CUstreamCaptureMode mode) {
  static unsigned long long captures = 0;
  const auto lock = lock_device();
  if (is_legacy(handle)) return CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
  Stream& stream = stream_of(handle);
  if (stream.capture != nullptr) return CUDA_ERROR_ILLEGAL_STATE;
  stream.capture = std::make_shared<Capture>();
  stream.capture->origin = &stream;
  stream.last.clear();
  stream.capture->graph = std::make_unique<Graph>();
  stream.capture->mode = mode;
  stream.capture->id = ++captures;
  stream.capture->thread = std::this_thread::get_id();
  capturing_streams().push_back(&stream);
  return CUDA_SUCCESS;
}

CUresult cuStreamEndCapture(CUstream handle, CUgraph* graph) {
  const auto lock = lock_device();
  *graph = nullptr;
  Stream& stream = stream_of(handle);
  if (stream.capture == nullptr) return CUDA_ERROR_ILLEGAL_STATE;
  if (stream.capture->origin != &stream) return CUDA_ERROR_STREAM_CAPTURE_UNMATCHED;
  if (stream.capture->mode != CU_STREAM_CAPTURE_MODE_RELAXED &&
      stream.capture->thread != std::this_thread::get_id()) {
    return CUDA_ERROR_STREAM_CAPTURE_WRONG_THREAD;
  }
  const std::shared_ptr<Capture> capture = stream.capture;
  auto& capturing = capturing_streams();
  const auto others = std::partition(capturing.begin(), capturing.end(),
                                     [&](const Stream* other) { return other->capture != capture; });
  std::for_each(others, capturing.end(), [](Stream* ended) { ended->capture.reset(); });
  capturing.erase(others, capturing.end());
  if (capture->invalidated) return CUDA_ERROR_STREAM_CAPTURE_INVALIDATED;
  if (const CUresult error = finish_graph(*capture->graph, stream.last)) return error;
  *graph = reinterpret_cast<CUgraph>(capture->graph.release());
  return CUDA_SUCCESS;
}

CUresult cuStreamIsCapturing(CUstream handle, CUstreamCaptureStatus* status) {
  const auto lock = lock_device();
  *status = status_of(stream_of(handle));
  return CUDA_SUCCESS;
}

CUresult cuStreamGetCaptureInfo(CUstream handle, CUstreamCaptureStatus* status, cuuint64_t* id, CUgraph* graph,
                                const CUgraphNode** nodes, const CUgraphEdgeData** edges, size_t* count) {
  const auto lock = lock_device();
  if (graph != nullptr || nodes != nullptr || edges != nullptr || count != nullptr) {
    not_emulated("cuStreamGetCaptureInfo about a graph's nodes");
  }
  const Stream& stream = stream_of(handle);
  *status = status_of(stream);
  if (id != nullptr) *id = stream.capture == nullptr ? 0 : stream.capture->id;
  return CUDA_SUCCESS;
}

CUresult cuThreadExchangeStreamCaptureMode(CUstreamCaptureMode*) {
  not_emulated("cuThreadExchangeStreamCaptureMode");
}

CUresult cuGraphInstantiate(CUgraphExec* handle, CUgraph graph_handle, unsigned long long flags) {
  const auto lock = lock_device();
  if ((flags & ~CUDA_GRAPH_INSTANTIATE_FLAG_USE_NODE_PRIORITY) != 0) fail("graph instantiation flags %#llx are not emulated", flags);
  Graph* graph = graph_of(graph_handle);
  ++graph->owners;
  charge_memory(graph_bytes(*graph));
  *handle = reinterpret_cast<CUgraphExec>(new GraphExecutable{graph});
  return CUDA_SUCCESS;
}

CUresult cuGraphLaunch(CUgraphExec handle, CUstream stream) {
  const auto lock = lock_device();
  if (stream_of(stream).capture != nullptr) not_emulated("launching a graph while capturing another");
  GraphExecutable* executable = executable_of(handle);
  const unsigned launch = executable->launches++;
  return submit(stream, {"graph", [=] { run_graph(*executable->graph, launch); }});
}

CUresult cuGraphUpload(CUgraphExec, CUstream) { return CUDA_SUCCESS; }

CUresult cuGraphExecDestroy(CUgraphExec handle) {
  const auto lock = lock_device();
  GraphExecutable* executable = executable_of(handle);
  refund_memory(graph_bytes(*executable->graph));
  disown(executable->graph);
  delete executable;
  return CUDA_SUCCESS;
}

CUresult cuGraphDestroy(CUgraph handle) {
  const auto lock = lock_device();
  disown(graph_of(handle));
  return CUDA_SUCCESS;
}

CUresult cuGraphGetNodes(CUgraph handle, CUgraphNode* nodes, size_t* count) {
  const auto lock = lock_device();
  if (nodes != nullptr) not_emulated("cuGraphGetNodes beyond counting them");
  *count = graph_of(handle)->nodes.size();
  return CUDA_SUCCESS;
}

}  // extern "C"
