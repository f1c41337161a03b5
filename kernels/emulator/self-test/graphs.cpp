// Tests of graphs: capturing runs nothing, replaying runs everything, and what may not be captured is refused.
#include <cmath>

#include "support.h"

namespace {

void begin() { EXPECT_OK(cuStreamBeginCapture(test_stream(), CU_STREAM_CAPTURE_MODE_THREAD_LOCAL)); }

CUgraphExec end(unsigned long long flags) {
  CUgraph graph = nullptr;
  CUgraphExec executable = nullptr;
  EXPECT_OK(cuStreamEndCapture(test_stream(), &graph));
  EXPECT_OK(cuGraphInstantiate(&executable, graph, flags));
  EXPECT_OK(cuGraphDestroy(graph));
  return executable;
}

// y = 2 (2 x + 1) + 3 through memory that the graph allocates and frees.
void replays_with_memory_of_its_own() {
  const CUdeviceptr x = upload(std::vector<float>{1, 2}), y = upload(std::vector<float>{0, 0});
  CUdeviceptr between = 0;
  begin();
  EXPECT_OK(cuMemAllocAsync(&between, 8, test_stream()));
  float add = 1;
  EXPECT_OK(launch("self_test_affine", 1, 32, 0, x, between, add, 2));
  add = 3;
  EXPECT_OK(launch("self_test_affine", 1, 32, 0, between, y, add, 2));
  EXPECT_OK(cuMemFreeAsync(between, test_stream()));
  const CUgraphExec executable = end(0);
  EXPECT(download<float>(y, 2)[0] == 0);
  EXPECT_OK(cuGraphLaunch(executable, test_stream()));
  EXPECT((download<float>(y, 2) == std::vector<float>{9, 13}));
  const float more[2] = {2, 3};
  EXPECT_OK(cuMemcpyHtoD(x, more, 8));
  EXPECT_OK(cuGraphLaunch(executable, test_stream()));
  EXPECT((download<float>(y, 2) == std::vector<float>{13, 17}));
  EXPECT_OK(cuGraphExecDestroy(executable));
}

// Memory that a graph leaves allocated holds its results until the next launch, which must be told to free it.
void keeps_memory_until_the_next_launch(unsigned long long flags, CUresult second_launch) {
  const CUdeviceptr x = upload(std::vector<float>{1, 2});
  CUdeviceptr y = 0;
  begin();
  EXPECT_OK(cuMemAllocAsync(&y, 12, test_stream()));
  EXPECT_OK(launch("self_test_affine", 1, 32, 0, x, y, 1.0f, 2));
  const CUgraphExec executable = end(flags);
  EXPECT_OK(cuGraphLaunch(executable, test_stream()));
  EXPECT(download<float>(y, 2)[1] == 5);
  // The third element is never written: every replay finds it fresh.
  const float one = 1;
  EXPECT_OK(cuMemcpyHtoD(y + 8, &one, 4));
  EXPECT(cuGraphLaunch(executable, test_stream()) == second_launch);
  if (second_launch == CUDA_SUCCESS) EXPECT(std::isnan(download<float>(y, 3)[2]));
  EXPECT_OK(cuMemFreeAsync(y, test_stream()));
  EXPECT_OK(cuGraphLaunch(executable, test_stream()));
}

// A copy from the host reads its source when the graph is launched.
void copies_what_is_there_at_the_launch() {
  const CUdeviceptr x = upload(std::vector<float>{0});
  float source = 1;
  begin();
  EXPECT_OK(cuMemcpyHtoDAsync(x, &source, 4, test_stream()));
  const CUgraphExec executable = end(0);
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

// A second stream that waits for the test's stream, and the event it does that with.
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

// Twice, so that both orders are seen: what the fork made is read after the join, and freed after that.
void forks_and_joins() {
  const CUdeviceptr x = upload(std::vector<float>{1}), y = upload(std::vector<float>{0}), z = upload(std::vector<float>{0});
  Fork fork;
  CUdeviceptr between = 0;
  begin();
  fork.begin();
  CUstreamCaptureStatus status;
  EXPECT_OK(cuStreamIsCapturing(fork.stream, &status));
  EXPECT(status == CU_STREAM_CAPTURE_STATUS_ACTIVE);
  EXPECT_OK(cuMemAllocAsync(&between, 4, test_stream()));
  fork.begin();
  fork.twice(x, between);
  twice(x, y);
  fork.join();
  twice(between, z);
  EXPECT_OK(cuMemFreeAsync(between, test_stream()));
  CUgraph graph;
  EXPECT(cuStreamEndCapture(fork.stream, &graph) == CUDA_ERROR_STREAM_CAPTURE_UNMATCHED);
  const CUgraphExec executable = end(0);
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

// What runs beside a fork without an order between them: reading what it writes, writing what it reads, freeing either.
void stops_at_races() {
  const CUdeviceptr x = upload(std::vector<float>{1}), y = upload(std::vector<float>{0}), z = upload(std::vector<float>{0});
  const auto beside = [=](const std::function<void(CUdeviceptr)>& run) {
    Fork fork;
    CUdeviceptr memory = 0;
    begin();
    cuMemAllocAsync(&memory, 4, test_stream());
    fork.begin();
    fork.twice(x, memory);
    fork.twice(memory, y);
    run(memory);
    fork.join();
    end(0);
  };
  beside([=](CUdeviceptr) { twice(x, z); });
  const char* message = "nothing orders self_test_affine";
  expect_abort(message, [&] { beside([=](CUdeviceptr memory) { twice(memory, z); }); });
  expect_abort(message, [&] { beside([=](CUdeviceptr) { twice(z, x); }); });
  expect_abort(message, [&] { beside([=](CUdeviceptr) { twice(z, y); }); });
  expect_abort(message, [&] { beside([](CUdeviceptr memory) { cuMemFreeAsync(memory, test_stream()); }); });
  // Memory that one stream takes while the other is on its way to it.
  expect_abort("nothing orders allocation", [&] {
    Fork fork;
    CUdeviceptr memory = 0;
    begin();
    fork.begin();
    cuMemAllocAsync(&memory, 4, test_stream());
    fork.twice(x, memory);
    fork.join();
    end(0);
  });
}

void refuses_memory_from_outside() {
  CUdeviceptr outside = 0;
  EXPECT_OK(cuMemAllocAsync(&outside, 8, test_stream()));
  begin();
  EXPECT(cuMemFreeAsync(outside, test_stream()) == CUDA_ERROR_INVALID_VALUE);
  end(0);
  EXPECT_OK(cuMemFreeAsync(outside, test_stream()));
}

}  // namespace

void test_graphs() {
  replays_with_memory_of_its_own();
  keeps_memory_until_the_next_launch(0, CUDA_ERROR_INVALID_VALUE);
  keeps_memory_until_the_next_launch(CUDA_GRAPH_INSTANTIATE_FLAG_AUTO_FREE_ON_LAUNCH, CUDA_SUCCESS);
  copies_what_is_there_at_the_launch();
  refuses_memory_from_outside();
  forks_and_joins();
  refuses_a_fork_that_is_not_joined();
  stops_at_races();
  CUdeviceptr address = 0;
  float value = 0;
  refuses(CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED, [] { return cuStreamSynchronize(test_stream()); });
  refuses(CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED, [&] { return cuMemAlloc(&address, 16); });
  refuses(CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED, [&] { return cuMemcpyDtoH(&value, 0, 4); });
  refuses(CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED, [] { return cuCtxSynchronize(); });
  // An event from before the capture cannot be waited for in it.
  CUevent event;
  EXPECT_OK(cuEventCreate(&event, 0));
  EXPECT_OK(cuEventRecord(event, test_stream()));
  refuses(CUDA_ERROR_STREAM_CAPTURE_ISOLATION, [&] { return cuStreamWaitEvent(test_stream(), event, 0); });
}
