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

inline Bytes to_bytes(Ints a) { return __builtin_convertvector(a, Bytes); }

// Adding and taking away 1.5 x 2^23 rounds to the nearest integer, ties to even; the
// low bits of the sum are that integer. |a| < 2^22.
constexpr float ROUNDER = 12582912.0f;
constexpr int32_t ROUNDER_BITS = 0x4B400000;

inline Ints round_to_ints(Floats a) { return (Ints)(a + ROUNDER) - ROUNDER_BITS; }

// e^a to about 2 ulp; a is clamped to what float32 can hold as a normal number.
// Source: the polynomial of Cephes' expf.
inline Floats exponential(Floats a) {
  const Floats low = Floats{} - 87.0f, high = Floats{} + 88.0f;
  a = a > low ? a : low;
  a = a < high ? a : high;
  const Ints power = round_to_ints(a * 1.44269504088896341f);
  const Floats n = to_floats(power);
  const Floats r = (a - n * 0.693359375f) - n * -2.12194440e-4f;
  Floats p = r * 1.9875691500e-4f + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = (p * (r * r) + r) + 1.0f;
  return p * (Floats)((power + 127) << 23);
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
