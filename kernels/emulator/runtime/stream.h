// Streams and graphs. All work is done at once when it is submitted, except on a stream that is capturing: there it
// becomes a node of a graph, and is done every time the graph is launched.
#pragma once
#include <cuda.h>

#include <chrono>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

namespace cuda_emulator {

struct Node {
  const char* name;
  std::function<void()> run;
};

// Memory that a graph allocates: the same addresses at every launch, fresh contents.
struct GraphMemory {
  CUdeviceptr address;
  std::size_t size;
};

struct Graph {
  std::vector<Node> nodes;
  std::vector<GraphMemory> memory;
  unsigned executables = 0;
  int owners = 1;
};

struct GraphExecutable {
  Graph* graph;
  bool frees_on_launch;
};

struct Capture {
  std::unique_ptr<Graph> graph;
  CUstreamCaptureMode mode;
  unsigned long long id;
  std::thread::id thread;
  bool invalidated = false;
};

struct Stream {
  unsigned flags = 0;
  std::unique_ptr<Capture> capture;
};

struct Event {
  bool recorded = false;
  unsigned long long capture_id = 0;  // not 0: it stands for a moment in this capture
  std::chrono::steady_clock::time_point time;
};

// Held by every call of the driver and the libraries for as long as it takes.
std::unique_lock<std::recursive_mutex> lock_device();

// The stream behind a handle: null and the two special values included.
Stream& stream_of(CUstream handle);
bool is_legacy(CUstream handle);

// Does the work, or records it when the stream is capturing.
CUresult submit(CUstream handle, Node node);

// Success, or the error of a call that may not happen during a capture, which is invalid from then on: a call that
// waits for a stream that is capturing, or one that a driver calls unsafe while any stream is.
CUresult forbid_on_capturing(Stream& stream);
CUresult forbid_unsafe_call();

// Streams that are capturing now.
std::vector<Stream*>& capturing_streams();

}  // namespace cuda_emulator
