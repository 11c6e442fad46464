// Any processor: vectors of 16 bytes, which the compiler turns into what there is. The
// other paths are compared with this one.
#include "paths.h"

#define LANES 4
#define INPUT_OFFSET 0
#include "vectors.h"

namespace {

static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "pairs of bytes are split");

constexpr int ACCUMULATORS = 8;
constexpr int TILE_ROWS = 2;

typedef int16_t Shorts __attribute__((vector_size(2 * 2 * LANES)));

typedef uint16_t UnsignedShorts __attribute__((vector_size(2 * 2 * LANES)));
typedef uint32_t UnsignedInts __attribute__((vector_size(4 * LANES)));

// A row's four inputs, for the low and the high bytes of weights taken in pairs.
struct Input {
  Shorts low, high;
};

inline Input spread(const int8_t* four) {
  Input input;
  for (int i = 0; i < 2 * LANES; ++i) {
    input.low[i] = four[i % 2 * 2];
    input.high[i] = four[i % 2 * 2 + 1];
  }
  return input;
}

// Two products of at most 127 x 127 fit 16 bits; pairs of those are added in 32.
inline Ints dot(Ints sums, Input inputs, Ints weights) {
  const Shorts pairs = (Shorts)weights;
  const Shorts low = (Shorts)((UnsignedShorts)pairs << 8) >> 8;
  const Ints two = (Ints)(low * inputs.low + (pairs >> 8) * inputs.high);
  return sums + ((Ints)((UnsignedInts)two << 16) >> 16) + (two >> 16);
}

}  // namespace

#include "step.h"

void step_plain(TabwiseModel& model, const Batch& batch) { Step(model, batch).run(); }

Softmax softmax_plain(float* values, int count) {
  return softmax(values, count);
}
