// Vectors of the including path's width, and the functions on them. Only operations that
// IEEE 754 defines to the last bit, none fused, so that every path computes the same.
//
// Included once by each path file, which has defined LANES: floats in one vector.
// Everything of a path lies in its file's unnamed namespace: code compiled for one
// instruction set must never be linked into another path.
#pragma once

#include <stdint.h>
#include <string.h>

#include "model.h"

namespace {

typedef float Floats __attribute__((vector_size(4 * LANES)));
typedef int32_t Ints __attribute__((vector_size(4 * LANES)));
typedef int8_t Bytes __attribute__((vector_size(LANES)));

constexpr int PARTS = BLOCK / LANES;  // vectors in a block of 16

template <class Vector>
inline Vector load(const void* from) {
  Vector vector;
  memcpy(&vector, from, sizeof vector);
  return vector;
}

template <class Vector>
inline void store(void* to, Vector vector) {
  memcpy(to, &vector, sizeof vector);
}

inline Floats larger(Floats a, Floats b) { return a > b ? a : b; }

inline Floats magnitude(Floats a) { return larger(a, -a); }

inline Floats to_floats(Ints a) { return __builtin_convertvector(a, Floats); }

#if LANES == 8  // AVX2, whose compilers take each lane by itself
inline Bytes to_bytes(Ints a) {
  const __m256i first = _mm256_set1_epi32(0x0C080400);  // of each four bytes
  const __m256i packed = _mm256_shuffle_epi8((__m256i)a, first);
  const __m128i low = _mm256_castsi256_si128(packed);
  return (Bytes)_mm_unpacklo_epi32(low, _mm256_extracti128_si256(packed, 1))[0];
}
#else
inline Bytes to_bytes(Ints a) { return __builtin_convertvector(a, Bytes); }
#endif

// Adding and taking away 1.5 x 2^23 rounds to the nearest integer, ties to even; the
// low bits of the sum are that integer. |a| < 2^22.
constexpr float ROUNDER = 12582912.0f;
constexpr int32_t ROUNDER_BITS = 0x4B400000;

inline Ints round_to_ints(Floats a) { return (Ints)(a + ROUNDER) - ROUNDER_BITS; }

// e^a for |a| < 87, and beyond that what it is there; relative error below 2e-7 times
// |a|, or 2e-7 near 0. 2^fraction by a polynomial with the least largest error on
// [-1/2, 1/2] among those that are 1 at 0; 2^whole by the exponent's bits.
inline Floats exponential(Floats a) {
  const Floats edge = Floats{} + 126.0f;
  Floats x = a * 1.44269504088896341f;
  x = x > -edge ? x : -edge;
  x = x < edge ? x : edge;
  const Floats shifted = x + ROUNDER;
  const Floats r = x - (shifted - ROUNDER);
  Floats p = r * 1.326472731307149e-3f + 9.671512991189957e-3f;
  p = p * r + 5.550733581185341e-2f;
  p = p * r + 2.402224242687225e-1f;
  p = p * r + 6.931470036506653e-1f;
  p = p * r + 1.0f;
  return (Floats)((Ints)p + ((Ints)shifted << 23));
}

// The sum of 16 lanes, folded in halves.
inline float sum_lanes(const float (&lanes)[BLOCK]) {
  float folded[8];
  for (int i = 0; i < 8; ++i) folded[i] = lanes[i] + lanes[i + 8];
  for (int i = 0; i < 4; ++i) folded[i] += folded[i + 4];
  return (folded[0] + folded[2]) + (folded[1] + folded[3]);
}

inline float largest_lane(const float (&lanes)[BLOCK]) {
  float largest = lanes[0];
  for (int i = 1; i < BLOCK; ++i) largest = lanes[i] > largest ? lanes[i] : largest;
  return largest;
}

// A sum or maximum over an array: 16 lanes whatever the vector's width.
struct Lanes {
  Floats parts[PARTS] = {};

  float sum() const {
    float lanes[BLOCK];
    memcpy(lanes, parts, sizeof lanes);
    return sum_lanes(lanes);
  }
  float largest() const {
    float lanes[BLOCK];
    memcpy(lanes, parts, sizeof lanes);
    return largest_lane(lanes);
  }
};

}  // namespace
