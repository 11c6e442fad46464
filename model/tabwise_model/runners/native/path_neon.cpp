// 64-bit ARM without dot products.
#include <arm_neon.h>

#include "paths.h"

#define LANES 4
#define INPUT_OFFSET 0
#include "vectors.h"

namespace {

constexpr int ACCUMULATORS = 16;
constexpr int TILE_ROWS = 4;

using Input = int8x8_t;

inline Input spread(const int8_t* four) {
  int32_t bits;
  memcpy(&bits, four, sizeof bits);
  return vreinterpret_s8_s32(vdup_n_s32(bits));
}

// 16-bit products of 8-bit numbers, added in pairs twice: 4 products a lane.
inline Ints dot(Ints sums, Input inputs, Ints weights) {
  const int8x16_t w = (int8x16_t)weights;
  const int32x4_t low = vpaddlq_s16(vmull_s8(vget_low_s8(w), inputs));
  const int32x4_t high = vpaddlq_s16(vmull_s8(vget_high_s8(w), inputs));
  return sums + (Ints)vpaddq_s32(low, high);
}

}  // namespace

#include "step.h"

void step_neon(TabwiseModel& model, const Batch& batch) { Step(model, batch).run(); }

Softmax softmax_neon(float* values, int count) {
  return softmax(values, count);
}
