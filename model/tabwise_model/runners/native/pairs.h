// INT8 products of weights with AVX2. Both multiplying and widening are done by one unit
// alone, and so is half of changing signs: of eight inputs at a time the sums of both
// fours are added in 16 bits, where they fit, and widened together; and instead of -w
// there is ~w = -w - 1, which any unit makes.
//
// |a| x (w, or ~w where a is negative): what that is short of, the sum of |a| over negative
// a, is what a row's sums begin with.
#pragma once

#include <immintrin.h>

#include "linear.h"

namespace {

// A row's magnitudes; signs, -1 where it is negative, else 0; tops, the largest magnitude
// of every eight; and the sum of the magnitudes of what is negative.
struct PairedRow {
  int8_t* magnitudes;
  int8_t* signs;
  uint8_t* tops;
  int32_t* negative;
};

// `width` is a multiple of 16.
inline void pair_up(const int8_t* inputs, int width, const PairedRow& to) {
  const __m128i zero = _mm_setzero_si128();
  __m128i negative = zero;
  for (int i = 0; i < width; i += 16) {
    const __m128i a = load<__m128i>(inputs + i);
    const __m128i magnitudes = _mm_abs_epi8(a), signs = _mm_cmpgt_epi8(zero, a);
    store(to.magnitudes + i, magnitudes);
    store(to.signs + i, signs);
    const __m128i below = _mm_sad_epu8(_mm_and_si128(magnitudes, signs), zero);
    negative = _mm_add_epi64(negative, below);
    __m128i top = _mm_max_epu8(magnitudes, _mm_srli_epi64(magnitudes, 32));
    top = _mm_max_epu8(top, _mm_srli_epi64(top, 16));
    top = _mm_max_epu8(top, _mm_srli_epi64(top, 8));
    to.tops[i / 8] = uint8_t(_mm_extract_epi8(top, 0));
    to.tops[i / 8 + 1] = uint8_t(_mm_extract_epi8(top, 8));
  }
  *to.negative =
      int32_t(_mm_cvtsi128_si64(negative) + _mm_extract_epi64(negative, 1));
}

// Rows first..last, which `pair_up` has been through.
struct PairedRows {
  PairedRow start;  // of row 0
  int width;
  int first, last;
};

inline __m256i spread_four(const int8_t* from) {
  int32_t bits;
  memcpy(&bits, from, sizeof bits);
  return _mm256_set1_epi32(bits);
}

// One row by COUNT blocks of 16 outputs.
template <int COUNT, class Result>
inline void multiply_paired_row(const Matrix& w, int block, const PairedRows& a, int row,
                                const Result& result) {
  constexpr int VECTORS = COUNT * PARTS;
  const int octets = a.width / 8;
  const size_t a_block = size_t(a.width) * BLOCK;
  const int8_t* weights = w.weights + block * a_block;
  const uint16_t* bounds = w.bounds + size_t(block) * octets;
  const int8_t* magnitudes = a.start.magnitudes + size_t(row) * a.width;
  const int8_t* signs = a.start.signs + size_t(row) * a.width;
  const uint8_t* tops = a.start.tops + size_t(row) * octets;
  const __m256i ones = _mm256_set1_epi16(1);
  Ints sums[VECTORS];
  for (int v = 0; v < VECTORS; ++v) sums[v] = Ints{} + a.start.negative[row];
  for (int o = 0; o < octets; ++o) {
    int bound = bounds[o];
    for (int c = 1; c < COUNT; ++c)
      bound = bounds[c * octets + o] > bound ? bounds[c * octets + o] : bound;
    const int8_t* from = weights + size_t(o) * 8 * BLOCK;
    if (COUNT == 1)
      for (int line = 0; line < 2; ++line)
        __builtin_prefetch(from + AHEAD + line * 4 * BLOCK);
    const __m256i a0 = spread_four(magnitudes + o * 8), s0 = spread_four(signs + o * 8);
    const __m256i a1 = spread_four(magnitudes + o * 8 + 4),
                  s1 = spread_four(signs + o * 8 + 4);
    const auto products = [&](int v, const int8_t* at, __m256i some, __m256i sign) {
      const size_t place = v / PARTS * a_block + v % PARTS * 4 * LANES;
      const __m256i four = load<__m256i>(at + place);
      return _mm256_maddubs_epi16(some, _mm256_xor_si256(four, sign));
    };
    if (__builtin_expect(tops[o] * bound <= INT16_MAX, 1)) {
      for (int v = 0; v < VECTORS; ++v) {
        const __m256i both = _mm256_add_epi16(products(v, from, a0, s0),
                                              products(v, from + 4 * BLOCK, a1, s1));
        sums[v] += (Ints)_mm256_madd_epi16(both, ones);
      }
    } else {
      for (int v = 0; v < VECTORS; ++v) {
        sums[v] += (Ints)_mm256_madd_epi16(products(v, from, a0, s0), ones);
        sums[v] += (Ints)_mm256_madd_epi16(products(v, from + 4 * BLOCK, a1, s1), ones);
      }
    }
  }
  for (int v = 0; v < VECTORS; ++v)
    result.take(row, block * BLOCK + v * LANES, sums[v]);
}

// Blocks first..last of all rows, four at a time, which stay in the nearest cache; of a
// single row one at a time, which comes from memory.
template <class Result>
void multiply_paired(const Matrix& w, int first, int last, const PairedRows& a,
                     const Result& result) {
  const int together = a.last - a.first > 1 ? 4 : 1;
  for (int panel = first; panel < last; panel += together)
    for (int row = a.first; row < a.last; ++row)
      if (together == 4 && panel + 4 <= last)
        multiply_paired_row<4>(w, panel, a, row, result);
      else
        for (int block = panel; block < panel + together && block < last; ++block)
          multiply_paired_row<1>(w, block, a, row, result);
}

}  // namespace
