// Included after cuda_device.h for candle's kernels, which support bfloat16 only from sm_80 on. The toolkit's
// headers must be read before this is defined: they would choose their assembly for the device.
#pragma once
#define __CUDA_ARCH__ 900
