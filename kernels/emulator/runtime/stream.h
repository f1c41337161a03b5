// Streams and graphs. Work runs immediately when it is submitted, except on a stream that is capturing: there it
// becomes a node of a graph, and runs every time the graph is launched. A stream that waits for an event of a
// capturing stream captures too, into the same graph, until that capture ends.
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
  // Set while capturing: its predecessors, by index, and whether it was captured by a stream that joined later.
  std::vector<std::size_t> after = {};
  bool forked = false;
};

struct Graph {
  std::vector<Node> nodes;
  // Two orders that the nodes' dependencies allow: nodes of forked streams as late, and as early, as possible.
  std::vector<std::size_t> orders[2];
  int owners = 1;
};

struct GraphExecutable {
  Graph* graph;
  unsigned launches = 0;
};

struct Stream;

struct Capture {
  std::unique_ptr<Graph> graph;
  CUstreamCaptureMode mode;
  unsigned long long id;
  std::thread::id thread;
  Stream* origin;
  bool invalidated = false;
};

struct Stream {
  unsigned flags = 0;
  std::shared_ptr<Capture> capture;
  std::vector<std::size_t> last;  // predecessors of the next captured node
};

struct Event {
  bool recorded = false;
  unsigned long long capture_id = 0;  // not 0: the event is in this capture, after these nodes
  std::vector<std::size_t> nodes;
  std::chrono::steady_clock::time_point time;
};

// Locked by every call of the driver and the libraries until it returns.
std::unique_lock<std::recursive_mutex> lock_device();

// The stream behind a handle: null and the two special values included.
Stream& stream_of(CUstream handle);
bool is_legacy(CUstream handle);

// Runs the work, or records it if the stream is capturing.
CUresult submit(CUstream handle, Node node);

// Success, or the error of a call that is not allowed during a capture, which becomes invalid: a call that waits for a
// capturing stream, one that waits for the whole device while any thread's stream is capturing, or one that a driver calls
// unsafe.
CUresult forbid_on_capturing(Stream& stream);
CUresult forbid_on_capturing_device();
CUresult forbid_unsafe_call();

// The streams that are capturing.
std::vector<Stream*>& capturing_streams();

// Success, or the error of a capture with a forked stream that is not joined. Finds the orders of a graph's nodes.
CUresult finish_graph(Graph& graph, const std::vector<std::size_t>& last);

// Runs a graph's nodes in one of its two orders. The first launch also records the memory that each accesses, and aborts
// if two concurrent nodes access the same page and one of them writes.
void run_graph(const Graph& graph, unsigned launch);

}  // namespace cuda_emulator
