// Tests of the emulator: its results, and that it aborts on errors of a program.
#include <sys/wait.h>
#include <unistd.h>

#include "support.h"

CUstream test_stream() {
  static CUstream stream = [] {
    CUstream created = nullptr;
    EXPECT_OK(cuStreamCreate(&created, CU_STREAM_NON_BLOCKING));
    return created;
  }();
  return stream;
}

CUfunction kernel(const char* name) {
  CUmodule module;
  CUfunction function;
  EXPECT_OK(cuModuleLoadData(&module, "anything"));
  EXPECT_OK(cuModuleGetFunction(&function, module, name));
  return function;
}

void expect_abort(const char* message, const std::function<void()>& body) {
  int ends[2];
  EXPECT_OK(pipe(ends));
  const pid_t child = fork();
  if (child == 0) {
    dup2(ends[1], STDERR_FILENO);
    close(ends[0]);
    body();
    _exit(0);
  }
  close(ends[1]);
  std::string printed;
  char buffer[512];
  for (ssize_t count; (count = read(ends[0], buffer, sizeof buffer)) > 0;) printed.append(buffer, count);
  close(ends[0]);
  int status = 0;
  waitpid(child, &status, 0);
  const bool aborted = WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT;
  if (!aborted || printed.find(message) == std::string::npos) {
    std::fprintf(stderr, "expected an abort that prints \"%s\", got status %d and \"%s\"\n", message, status, printed.c_str());
    std::exit(1);
  }
}

std::vector<float> numbers(std::size_t count, unsigned seed) {
  std::vector<float> values(count);
  for (float& value : values) {
    seed = seed * 1664525u + 1013904223u;
    value = static_cast<float>(seed >> 8) / (1 << 23) - 1.0f;
  }
  return values;
}

int main() {
  EXPECT_OK(cuInit(0));
  test_blocks();
  test_images();
  test_memory();
  test_graphs();
  test_products();
  std::puts("the emulator's tests passed");
}
