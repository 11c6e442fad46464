// Attention's values by weights of 15 bits with AVX2: one multiplying instruction where
// two digits take four. The sums are the same, as long as they fit 32 bits.
#pragma once

#include <immintrin.h>

#include "vectors.h"

namespace {

// So many values of 127 by weights of 127 x 128 + 127 add up to less than 2^31, and each
// of two digits' sums is a whole number in float32.
constexpr int FEW_KEYS = 1024;

// Of 0..2^15 - 1.
inline void store_shorts(int16_t* to, Ints whole) {
  const __m128i low = _mm256_castsi256_si128((__m256i)whole);
  const __m128i packed = _mm_packs_epi32(low, _mm256_extracti128_si256((__m256i)whole, 1));
  memcpy(to, &packed, sizeof packed);
}

// HEADS rows of weights by 16 channels of values, [depth / 4][16][4].
template <int HEADS>
inline void multiply_shorts(const int8_t* values, const int16_t* weights, size_t stride,
                            int depth, Floats (&products)[HEADS][PARTS]) {
  __m256i sums[HEADS][2 * PARTS] = {};  // two for each channel
  for (int t = 0; t < depth; t += 4) {
    __m256i four[HEADS];
    for (int h = 0; h < HEADS; ++h) {
      int64_t bits;
      memcpy(&bits, weights + h * stride + t, sizeof bits);
      four[h] = _mm256_set1_epi64x(bits);
    }
    for (int i = 0; i < 2 * PARTS; ++i) {
      const __m128i bytes = load<__m128i>(values + t * BLOCK + i * 16);
      const __m256i wide = _mm256_cvtepi8_epi16(bytes);
      for (int h = 0; h < HEADS; ++h)
        sums[h][i] = _mm256_add_epi32(sums[h][i], _mm256_madd_epi16(wide, four[h]));
    }
  }
  for (int h = 0; h < HEADS; ++h)
    for (int p = 0; p < PARTS; ++p) {
      const __m256i mixed = _mm256_hadd_epi32(sums[h][2 * p], sums[h][2 * p + 1]);
      products[h][p] = to_floats((Ints)_mm256_permute4x64_epi64(mixed, 0xD8));
    }
}

}  // namespace
