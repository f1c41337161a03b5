/* As much of NVIDIA's management library as the metrics need: two GPUs, the second without a sensor. */

typedef int result;
enum { OK = 0, INVALID = 2, NOT_SUPPORTED = 3 };

struct memory { unsigned version; unsigned long long total, reserved, free, used; };
struct utilization { unsigned gpu, memory; };

static char gpus[2];

result nvmlInit_v2(void) { return OK; }
result nvmlShutdown(void) { return OK; }
const char *nvmlErrorString(result r) { (void)r; return "an error"; }
result nvmlDeviceGetCount_v2(unsigned *count) { *count = 2; return OK; }

result nvmlDeviceGetHandleByIndex_v2(unsigned index, void **device) {
    if (index > 1) return INVALID;
    *device = &gpus[index];
    return OK;
}

result nvmlDeviceGetMemoryInfo_v2(void *device, struct memory *memory) {
    memory->total = 80000000000ull;
    memory->used = device == &gpus[0] ? 12000000000ull : 0;
    memory->free = memory->total - memory->used;
    return OK;
}

result nvmlDeviceGetUtilizationRates(void *device, struct utilization *rates) {
    rates->gpu = device == &gpus[0] ? 87 : 0;
    return OK;
}

result nvmlDeviceGetTemperature(void *device, unsigned sensor, unsigned *celsius) {
    if (device != &gpus[0] || sensor != 0) return NOT_SUPPORTED;
    *celsius = 64;
    return OK;
}
