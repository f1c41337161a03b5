// Tests of graphs: capturing runs nothing, replaying runs everything, and calls that may not be captured are errors.
#include <thread>

#include "support.h"

namespace {

void begin() { EXPECT_OK(cuStreamBeginCapture(test_stream(), CU_STREAM_CAPTURE_MODE_THREAD_LOCAL)); }

CUgraphExec end() {
  CUgraph graph = nullptr;
  CUgraphExec executable = nullptr;
  EXPECT_OK(cuStreamEndCapture(test_stream(), &graph));
  EXPECT_OK(cuGraphInstantiate(&executable, graph, 0));
  EXPECT_OK(cuGraphDestroy(graph));
  return executable;
}

// y = 2 (2 x + 1) + 3, replayed with the current x.
void replays() {
  const CUdeviceptr x = upload(std::vector<float>{1, 2}), y = upload(std::vector<float>{0, 0});
  const CUdeviceptr between = upload(std::vector<float>{0, 0});
  begin();
  float add = 1;
  EXPECT_OK(launch("self_test_affine", 1, 32, 0, x, between, add, 2));
  add = 3;
  EXPECT_OK(launch("self_test_affine", 1, 32, 0, between, y, add, 2));
  const CUgraphExec executable = end();
  EXPECT(download<float>(y, 2)[0] == 0);
  EXPECT_OK(cuGraphLaunch(executable, test_stream()));
  EXPECT((download<float>(y, 2) == std::vector<float>{9, 13}));
  const float more[2] = {2, 3};
  EXPECT_OK(cuMemcpyHtoD(x, more, 8));
  EXPECT_OK(cuGraphLaunch(executable, test_stream()));
  EXPECT((download<float>(y, 2) == std::vector<float>{13, 17}));
  EXPECT_OK(cuGraphExecDestroy(executable));
}

// A copy from the host reads its source when the graph is launched.
void copies_what_is_there_at_the_launch() {
  const CUdeviceptr x = upload(std::vector<float>{0});
  float source = 1;
  begin();
  EXPECT_OK(cuMemcpyHtoDAsync(x, &source, 4, test_stream()));
  const CUgraphExec executable = end();
  source = 2;
  EXPECT_OK(cuGraphLaunch(executable, test_stream()));
  EXPECT(download<float>(x, 1)[0] == 2);
}

void refuses(CUresult expected, const std::function<CUresult()>& call) {
  begin();
  EXPECT(call() == expected);
  CUstreamCaptureStatus status;
  EXPECT_OK(cuStreamIsCapturing(test_stream(), &status));
  EXPECT(status == CU_STREAM_CAPTURE_STATUS_INVALIDATED);
  CUgraph graph;
  EXPECT(cuStreamEndCapture(test_stream(), &graph) == CUDA_ERROR_STREAM_CAPTURE_INVALIDATED);
}

// A second stream that waits for the test's stream, and its event.
struct Fork {
  CUstream stream;
  CUevent event;

  Fork() {
    EXPECT_OK(cuStreamCreateWithPriority(&stream, CU_STREAM_NON_BLOCKING, -1));
    EXPECT_OK(cuEventCreate(&event, CU_EVENT_DISABLE_TIMING));
  }
  void begin() { order(test_stream(), stream); }
  void join() { order(stream, test_stream()); }
  void order(CUstream first, CUstream then) {
    EXPECT_OK(cuEventRecord(event, first));
    EXPECT_OK(cuStreamWaitEvent(then, event, 0));
  }
  // to = 2 from
  void twice(CUdeviceptr from, CUdeviceptr to) {
    launch_on(stream, "self_test_affine_by_struct", 1, 32, 0, Affine{0.0f, from, to, 1});
  }
};

void twice(CUdeviceptr from, CUdeviceptr to) {
  launch("self_test_affine_by_struct", 1, 32, 0, Affine{0.0f, from, to, 1});
}

// Twice, so that both orders run: the fork's result is read after the join.
void forks_and_joins() {
  const CUdeviceptr x = upload(std::vector<float>{1}), y = upload(std::vector<float>{0}), z = upload(std::vector<float>{0});
  const CUdeviceptr between = upload(std::vector<float>{0});
  Fork fork;
  begin();
  fork.begin();
  CUstreamCaptureStatus status;
  EXPECT_OK(cuStreamIsCapturing(fork.stream, &status));
  EXPECT(status == CU_STREAM_CAPTURE_STATUS_ACTIVE);
  fork.twice(x, between);
  twice(x, y);
  fork.join();
  twice(between, z);
  CUgraph graph;
  EXPECT(cuStreamEndCapture(fork.stream, &graph) == CUDA_ERROR_STREAM_CAPTURE_UNMATCHED);
  const CUgraphExec executable = end();
  EXPECT_OK(cuStreamIsCapturing(fork.stream, &status));
  EXPECT(status == CU_STREAM_CAPTURE_STATUS_NONE);
  for (const float value : {3.0f, 5.0f}) {
    EXPECT_OK(cuMemcpyHtoD(x, &value, 4));
    EXPECT_OK(cuGraphLaunch(executable, test_stream()));
    EXPECT(download<float>(y, 1)[0] == 2 * value && download<float>(z, 1)[0] == 4 * value);
  }
  EXPECT_OK(cuGraphExecDestroy(executable));
}

void refuses_a_fork_that_is_not_joined() {
  const CUdeviceptr x = upload(std::vector<float>{1}), y = upload(std::vector<float>{0});
  Fork fork;
  begin();
  fork.begin();
  fork.twice(x, y);
  CUgraph graph;
  EXPECT(cuStreamEndCapture(test_stream(), &graph) == CUDA_ERROR_STREAM_CAPTURE_UNJOINED);
}

// Two nodes in different branches of a fork, without an order between them: one reads what the other writes, or both write.
// Two parts of one allocation are separate if they share no page.
void stops_at_races() {
  const CUdeviceptr x = upload(std::vector<float>{1}), y = upload(std::vector<float>{0}), z = upload(std::vector<float>{0});
  const CUdeviceptr memory = upload(std::vector<float>(4096));
  const auto in_other_branch = [=](const std::function<void()>& run) {
    Fork fork;
    begin();
    fork.begin();
    fork.twice(x, memory);
    fork.twice(memory, y);
    run();
    fork.join();
    EXPECT_OK(cuGraphLaunch(end(), test_stream()));
  };
  in_other_branch([=] { twice(x, z); });
  // An allocation may begin anywhere in its first page; this is two pages later.
  in_other_branch([=] { twice(x, memory + 8192); });
  const char* message = "nothing orders self_test_affine";
  expect_abort(message, [&] { in_other_branch([=] { twice(memory, z); }); });
  expect_abort(message, [&] { in_other_branch([=] { twice(z, x); }); });
  expect_abort(message, [&] { in_other_branch([=] { twice(z, y); }); });
  expect_abort("(node 0 of a graph) and fill (node 2), and one writes", [&] {
    in_other_branch([=] { EXPECT_OK(cuMemsetD8Async(memory, 0, 4, test_stream())); });
  });
}

// Waiting for the device invalidates the capture of any thread.
void waiting_for_the_device_ends_captures_of_other_threads() {
  begin();
  std::thread([] { EXPECT(cuCtxSynchronize() == CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED); }).join();
  CUgraph graph;
  EXPECT(cuStreamEndCapture(test_stream(), &graph) == CUDA_ERROR_STREAM_CAPTURE_INVALIDATED);
}

}  // namespace

void test_graphs() {
  replays();
  copies_what_is_there_at_the_launch();
  forks_and_joins();
  refuses_a_fork_that_is_not_joined();
  stops_at_races();
  waiting_for_the_device_ends_captures_of_other_threads();
  CUdeviceptr address = upload(std::vector<float>{0});
  float value = 0;
  refuses(CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED, [] { return cuStreamSynchronize(test_stream()); });
  refuses(CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED, [&] { return cuMemAlloc(&address, 16); });
  refuses(CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED, [&] { return cuMemFreeAsync(address, test_stream()); });
  refuses(CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED, [&] { return cuMemAllocAsync(&address, 16, test_stream()); });
  refuses(CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED, [&] { return cuMemcpyDtoH(&value, 0, 4); });
  refuses(CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED, [] { return cuCtxSynchronize(); });
  // An event from before the capture cannot be waited for in it.
  CUevent event;
  EXPECT_OK(cuEventCreate(&event, 0));
  EXPECT_OK(cuEventRecord(event, test_stream()));
  refuses(CUDA_ERROR_STREAM_CAPTURE_ISOLATION, [&] { return cuStreamWaitEvent(test_stream(), event, 0); });
}
