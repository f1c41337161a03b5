// First and last ops of a denoising step: latents to tokens, and the update of the latents by the predicted tokens.
//
//   patchify       out[k N + n, (i, j), (c, r, s)] = x[n, c, i p + r, j p + s]       for every copy k
//   guided_step    v = u + g (c - u), or the prediction itself;   x += delta v       [N, C, H, W] f32
//                  where u and c are the tokens (i, j), elements (r, s, c) of rows n and N + n of the prediction
//   add_positions  x[b, l, d] += positions[l, d]
//
// Latents are f32, tokens T, f32 or bf16. Guidance g, delta and the step's number are in device memory, because the
// launches are recorded once and replayed for every step.
//
// Bytes at 1024 x 1024 (N = 1, C = 16, H = W = 128, p = 2, bf16): patchify 1 MB in, 1 MB out for two copies; guided_step
// 1 MB of prediction, 2 MB of latents; add_positions [2, 4096, 2432] 100 MB. Latents and tokens come from and stay in the
// L2 cache, so the first two last as long as a launch, about 3 us; the third takes 30 us at an H100's 3.35 TB/s.
#include "common.cuh"

namespace {

__device__ __forceinline__ uint32_t thread() { return blockIdx.x * blockDim.x + threadIdx.x; }

// A thread writes N neighbouring elements of one token, to every copy: stores are whole lines, and the reads, p floats
// long, hit the cache that the neighbouring tokens have filled.
template <typename T, int N>
__device__ __forceinline__ void patchify_by(const float* __restrict__ x, T* __restrict__ out, const Images& of,
                                            uint32_t copies) {
  const uint32_t patch = of.patch, columns = of.width / patch, length = of.height / patch * columns;
  const uint32_t elements = of.channels * patch * patch, vectors = elements / N;
  const uint32_t tokens = of.count * length;
  if (thread() >= tokens * vectors) return;
  const uint32_t token = thread() / vectors, element = thread() % vectors * N;
  const uint32_t image = token / length, row = token % length / columns, column = token % columns;
  uint32_t channel = element / (patch * patch), r = element / patch % patch, s = element % patch;
  const uint64_t plane = static_cast<uint64_t>(of.height) * of.width;
  const float* from = x + (image * static_cast<uint64_t>(of.channels) + channel) * plane +
                      static_cast<uint64_t>(row) * patch * of.width + column * patch;
  float values[N];
#pragma unroll
  for (int i = 0; i < N; i++) {
    values[i] = from[static_cast<uint64_t>(r) * of.width + s];
    if (++s == patch) {
      s = 0;
      if (++r == patch) {
        r = 0;
        if (++channel < of.channels) from += plane;
      }
    }
  }
  for (uint32_t copy = 0; copy < copies; copy++) {
    store(out + (static_cast<uint64_t>(copy) * tokens + token) * elements + element, values);
  }
}

// A thread takes N channels of one pixel, one vector of the prediction; neighbouring threads take neighbouring pixels of
// a row, so each of the N latents planes is read and written in whole lines.
template <typename T, int N>
__device__ __forceinline__ void guided_step_by(float* __restrict__ x, const T* __restrict__ prediction,
                                               const float* __restrict__ settings, uint32_t* __restrict__ first_bad,
                                               const Images& of, bool guided) {
  const uint32_t patch = of.patch, columns = of.width / patch, length = of.height / patch * columns;
  const uint32_t area = of.height * of.width, groups = of.channels / N;
  if (thread() >= of.count * groups * area) return;
  const uint32_t image = thread() / area / groups, channel = thread() / area % groups * N;
  const uint32_t pixel = thread() % area, row = pixel / of.width, column = pixel % of.width;
  const uint32_t token = row / patch * columns + column / patch;
  const uint32_t element = (row % patch * patch + column % patch) * of.channels + channel;
  const uint64_t elements = static_cast<uint64_t>(patch) * patch * of.channels;
  const T* from = prediction + (image * static_cast<uint64_t>(length) + token) * elements + element;
  const float guidance = settings[0], delta = settings[1];

  float v[N];
  load(from, v);
  if (guided) {
    float with[N];
    load(from + of.count * static_cast<uint64_t>(length) * elements, with);
#pragma unroll
    for (int i = 0; i < N; i++) v[i] += guidance * (with[i] - v[i]);
  }
  float* to = x + (image * static_cast<uint64_t>(of.channels) + channel) * area + pixel;
  bool bad = false;
#pragma unroll
  for (int i = 0; i < N; i++) v[i] = to[i * static_cast<uint64_t>(area)] + delta * v[i];
#pragma unroll
  for (int i = 0; i < N; i++) {
    to[i * static_cast<uint64_t>(area)] = v[i];
    bad |= !isfinite(v[i]);
  }
  if (bad) atomicMin(first_bad, static_cast<uint32_t>(settings[2]));
}

// A thread keeps one vector of the positions and adds it to every image.
template <typename T, int N>
__device__ __forceinline__ void add_positions_by(T* __restrict__ x, const T* __restrict__ positions, uint32_t batch,
                                                 uint32_t rows, uint32_t width, const Strides& strides,
                                                 int64_t positions_stride) {
  const uint32_t vectors = width / N;
  if (thread() >= rows * vectors) return;
  const uint32_t row = thread() / vectors, column = thread() % vectors * N;
  float position[N], v[N];
  load(positions + row * positions_stride + column, position);
  T* at = x + row * strides.row + column;
  for (uint32_t b = 0; b < batch; b++, at += strides.batch) {
    load(at, v);
#pragma unroll
    for (int i = 0; i < N; i++) v[i] += position[i];
    store(at, v);
  }
}

template <typename T>
__device__ __forceinline__ void patchify(const Patchify<T>& of) {
  if (of.vector > 1) {
    patchify_by<T, WORD_BYTES / sizeof(T)>(of.x, of.out, of.images, of.copies);
  } else {
    patchify_by<T, 1>(of.x, of.out, of.images, of.copies);
  }
}

template <typename T>
__device__ __forceinline__ void guided_step(const GuidedStep<T>& of) {
  if (of.vector > 1) {
    guided_step_by<T, WORD_BYTES / sizeof(T)>(of.x, of.prediction, of.settings, of.first_bad, of.images,
                                              of.guided != 0);
  } else {
    guided_step_by<T, 1>(of.x, of.prediction, of.settings, of.first_bad, of.images, of.guided != 0);
  }
}

template <typename T>
__device__ __forceinline__ void add_positions(const AddPositions<T>& of) {
  if (of.vector > 1) {
    add_positions_by<T, WORD_BYTES / sizeof(T)>(of.x, of.positions, of.batch, of.rows, of.width, of.x_strides,
                                                of.positions_stride);
  } else {
    add_positions_by<T, 1>(of.x, of.positions, of.batch, of.rows, of.width, of.x_strides, of.positions_stride);
  }
}

}  // namespace

KERNELS(patchify, Patchify, MAP_THREADS)
KERNELS(guided_step, GuidedStep, MAP_THREADS)
KERNELS(add_positions, AddPositions, MAP_THREADS)
