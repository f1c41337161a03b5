// The driver API: names and descriptions of its errors.
#include <cuda.h>

#define CUDA_EMULATOR_ERRORS(each)                                                      \
  each(CUDA_SUCCESS, "no error")                                                        \
  each(CUDA_ERROR_INVALID_VALUE, "invalid argument")                                    \
  each(CUDA_ERROR_OUT_OF_MEMORY, "out of memory")                                       \
  each(CUDA_ERROR_NOT_INITIALIZED, "initialization error")                              \
  each(CUDA_ERROR_NO_DEVICE, "no CUDA-capable device is detected")                      \
  each(CUDA_ERROR_INVALID_DEVICE, "invalid device ordinal")                             \
  each(CUDA_ERROR_INVALID_CONTEXT, "invalid device context")                            \
  each(CUDA_ERROR_INVALID_HANDLE, "invalid resource handle")                            \
  each(CUDA_ERROR_NOT_FOUND, "named symbol not found")                                  \
  each(CUDA_ERROR_NOT_READY, "device not ready")                                        \
  each(CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES, "too many resources requested for launch")   \
  each(CUDA_ERROR_NOT_SUPPORTED, "operation not supported")                             \
  each(CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED, "operation not permitted when stream is capturing") \
  each(CUDA_ERROR_STREAM_CAPTURE_INVALIDATED, "operation failed due to a previous error during capture") \
  each(CUDA_ERROR_STREAM_CAPTURE_UNMATCHED, "capture was not initiated in this stream") \
  each(CUDA_ERROR_STREAM_CAPTURE_UNJOINED, "capturing stream has unjoined work")        \
  each(CUDA_ERROR_STREAM_CAPTURE_MERGE, "operation would result in a merge of separate capture sequences") \
  each(CUDA_ERROR_STREAM_CAPTURE_ISOLATION, "dependency created on uncaptured work in another stream") \
  each(CUDA_ERROR_STREAM_CAPTURE_IMPLICIT, "operation would make the legacy stream depend on a capturing blocking stream") \
  each(CUDA_ERROR_STREAM_CAPTURE_WRONG_THREAD, "attempt to terminate a thread-local capture sequence from another thread") \
  each(CUDA_ERROR_CAPTURED_EVENT, "operation not permitted on an event last recorded in a capturing stream") \
  each(CUDA_ERROR_ILLEGAL_STATE, "the operation cannot be performed in the present state")

extern "C" {

CUresult cuGetErrorName(CUresult error, const char** text) {
  switch (error) {
#define CUDA_EMULATOR_NAME(name, meaning) \
  case name: *text = #name; return CUDA_SUCCESS;
    CUDA_EMULATOR_ERRORS(CUDA_EMULATOR_NAME)
    default: *text = nullptr; return CUDA_ERROR_INVALID_VALUE;
  }
}

CUresult cuGetErrorString(CUresult error, const char** text) {
  switch (error) {
#define CUDA_EMULATOR_MEANING(name, meaning) \
  case name: *text = meaning; return CUDA_SUCCESS;
    CUDA_EMULATOR_ERRORS(CUDA_EMULATOR_MEANING)
    default: *text = nullptr; return CUDA_ERROR_INVALID_VALUE;
  }
}

}  // extern "C"
