// Included before every kernel source: makes CUDA C++ ordinary C++. The scalar types (half, bfloat16, fp8) are the
// toolkit's own, whose headers work on a host; the language, threads, atomics and intrinsics are here.
//
// __global__, __shared__, __align__ and __launch_bounds__ stay in the text: translate.py removes them.
#pragma once
#include <cassert>
#include <cfloat>
#include <climits>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <cuda/std/limits>

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_fp8.h>
#include <vector_functions.h>
#include <vector_types.h>

#undef __global__
#undef __shared__
#undef __align__
#undef __launch_bounds__
#undef __constant__
#undef __grid_constant__
#define __constant__ static
#define __grid_constant__

#include "threads.h"
#include "atomics.h"
#include "intrinsics.h"
#include "small_floats.h"
