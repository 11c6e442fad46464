// What happens to one token's row between two matrices.
#pragma once

#include <math.h>

#include "paths.h"
#include "vectors.h"

namespace {

struct QuantizedRow {
  int8_t* values;
  float* scale;
};

inline float largest_magnitude(const float* row, int width) {
  Lanes top;
  for (int i = 0; i < width; i += BLOCK)
    for (int p = 0; p < PARTS; ++p) {
      const Floats x = load<Floats>(row + i + p * LANES);
      top.parts[p] = larger(top.parts[p], magnitude(x));
    }
  return top.largest();
}

// INPUT_OFFSET, defined by the path: 0x80 turns int8 into what u8 x s8 products take;
// what is to be the other factor takes 0.
inline void quantize(const float* row, int width, QuantizedRow to,
                     int offset = INPUT_OFFSET) {
  const float largest = largest_magnitude(row, width);
  const float inverse = largest > 0 ? 127.0f / largest : 0.0f;
  *to.scale = largest / 127.0f;
  for (int i = 0; i < width; i += LANES) {
    const Ints rounded = round_to_ints(load<Floats>(row + i) * inverse);
    store(to.values + i, to_bytes(rounded ^ offset));
  }
}

// x / sqrt(mean(x^2) + eps) * weight, quantised. `normed` is scratch of the same width.
inline void normalize(const float* x, const float* weight, const TabwiseShape& shape,
                      float* normed, QuantizedRow to) {
  Lanes squares;
  for (int i = 0; i < shape.width; i += BLOCK)
    for (int p = 0; p < PARTS; ++p) {
      const Floats part = load<Floats>(x + i + p * LANES);
      squares.parts[p] += part * part;
    }
  const float mean = squares.sum() / float(shape.channels);
  const float inverse = 1.0f / __builtin_sqrtf(mean + shape.norm_eps);
  for (int i = 0; i < shape.width; i += LANES)
    store(normed + i, load<Floats>(x + i) * inverse * load<Floats>(weight + i));
  quantize(normed, shape.width, to);
}

// Softmax in place. `count` is a multiple of 16.
inline Softmax softmax(float* values, int count) {
  Lanes most, sums;
  Ints strange = {};
  for (Floats& part : most.parts) part += values[0];
  for (int i = 0; i < count; i += BLOCK)
    for (int p = 0; p < PARTS; ++p) {
      const Floats x = load<Floats>(values + i + p * LANES);
      most.parts[p] = larger(x, most.parts[p]);
      strange |= x != x;
    }
  for (int lane = 0; lane < LANES; ++lane)
    if (strange[lane]) return {NAN, 0};
  const float top = most.largest();
  for (int i = 0; i < count; i += BLOCK)
    for (int p = 0; p < PARTS; ++p) {
      float* at = values + i + p * LANES;
      const Floats x = exponential(load<Floats>(at) - top);
      store(at, x);
      sums.parts[p] += x;
    }
  const float sum = sums.sum();
  for (int i = 0; i < count; i += LANES)
    store(values + i, load<Floats>(values + i) / sum);
  return {top, sum};
}

// gate = gate / (1 + e^-gate) * up.
inline void silu_times(float* gate, const float* up, int width) {
  for (int i = 0; i < width; i += LANES) {
    const Floats g = load<Floats>(gate + i);
    store(gate + i, g / (exponential(-g) + 1.0f) * load<Floats>(up + i));
  }
}

// Turns the pairs (i, i + half) of one head by the angles of its position.
inline void rotate(float* head, const float* angles, int half) {
  const float* cosines = angles;
  const float* sines = angles + half;
  for (int i = 0; i < half; ++i) {
    const float a = head[i], b = head[i + half];
    head[i] = a * cosines[i] - b * sines[i];
    head[i + half] = a * sines[i] + b * cosines[i];
  }
}

}  // namespace
