// INT8 matrix products, exact in INT32.
//
// The path has defined, for vectors of LANES sums of 4 products each:
//   Input            four of a row's inputs, for every lane
//   Input spread(const int8_t* four)
//   Ints dot(Ints sums, Input inputs, Ints weights)
//   INPUT_OFFSET     0x80 if `dot` takes the inputs as u8, else 0
//   ACCUMULATORS, TILE_ROWS    registers for sums; most rows of a tile
//   PAIRWISE         defined where there is no such instruction, but AVX2's for bytes
//                    that add up pairs in 16 bits: see pairs.h, shorts.h, and int4.h
#pragma once

#include <type_traits>

#include "rows.h"

namespace {

// A single row waits for its weights longer than it multiplies. PAIRWISE paths take it over
// block after block, one run of memory, and ask for that so many bytes ahead.
#ifdef PAIRWISE
constexpr int AHEAD = 4096;
#else
constexpr int AHEAD = 0;
#endif

// Quantised rows first..last: `depth` inputs of each are used, a multiple of 4.
struct Rows {
  const int8_t* inputs;
  size_t stride;
  int first, last;
  int depth;
  const int32_t* group_starts = nullptr;  // (last, groups): for INT4 matrices
};

// What becomes of the sums: scaled, and stored or added.
struct Scaled {
  const float* row_scales;
  const float* output_scales;
  float* rows;
  size_t stride;
  bool add;

  void take(int row, int output, Ints sums) const {
    float* place = rows + row * stride + output;
    const Floats y =
        to_floats(sums) * load<Floats>(output_scales + output) * row_scales[row];
    store(place, add ? load<Floats>(place) + y : y);
  }
};

// ROWS rows by COUNT blocks of 16 outputs, over all inputs, in registers.
template <int ROWS, int COUNT, class Result>
inline void multiply_tile(const Matrix& w, int block, const Rows& a, int row,
                          const Result& result) {
  constexpr int VECTORS = COUNT * PARTS;
  const size_t a_block = size_t(w.inputs) * BLOCK;
  const int8_t* weights = w.weights + block * a_block;
  const int8_t* inputs = a.inputs + row * a.stride;
  Ints sums[ROWS][VECTORS] = {};
  if (INPUT_OFFSET && w.corrections)
    for (int v = 0; v < VECTORS; ++v)
      for (int m = 0; m < ROWS; ++m)
        sums[m][v] = load<Ints>(w.corrections + block * BLOCK + v * LANES);
  for (int k = 0; k < a.depth; k += 4) {
    Ints some[VECTORS];
    for (int v = 0; v < VECTORS; ++v)
      some[v] = load<Ints>(weights + v / PARTS * a_block + size_t(k) * BLOCK +
                           v % PARTS * 4 * LANES);
    for (int m = 0; m < ROWS; ++m) {
      const Input input = spread(inputs + m * a.stride + k);
      for (int v = 0; v < VECTORS; ++v) sums[m][v] = dot(sums[m][v], input, some[v]);
    }
  }
  for (int m = 0; m < ROWS; ++m)
    for (int v = 0; v < VECTORS; ++v)
      result.take(row + m, block * BLOCK + v * LANES, sums[m][v]);
}

constexpr int tile_blocks(int rows) {
  const int fit = ACCUMULATORS / (rows * PARTS);
  return fit >= 4 ? 4 : fit >= 2 ? 2 : 1;
}

template <int ROWS>
using Constant = std::integral_constant<int, ROWS>;

// Four blocks at a time stay in the nearest cache while all rows pass over them, MOST at
// most together, shared out evenly: take(their number, a constant; the first; blocks).
template <int MOST, class Take>
inline void each_tile(int row, int last_row, int first, int last, const Take& take) {
  const int tiles = (last_row - row + MOST - 1) / MOST;
  for (int panel = first; panel < last; panel += 4) {
    const int end = panel + 4 < last ? panel + 4 : last;
    for (int tile = 0, at = row; tile < tiles; ++tile) {
      const int rows = (last_row - at + (tiles - tile) - 1) / (tiles - tile);
      switch (rows) {
        case 1: take(Constant<1>(), at, panel, end); break;
        case 2: take(Constant<2>(), at, panel, end); break;
        case 3: take(Constant<MOST < 3 ? MOST : 3>(), at, panel, end); break;
        case 4: take(Constant<MOST < 4 ? MOST : 4>(), at, panel, end); break;
        case 5: take(Constant<MOST < 5 ? MOST : 5>(), at, panel, end); break;
        default: take(Constant<MOST < 6 ? MOST : 6>(), at, panel, end); break;
      }
      at += rows;
    }
  }
}

// Blocks first..last of all rows.
template <class Result>
void multiply(const Matrix& w, int first, int last, const Rows& a,
              const Result& result) {
  each_tile<TILE_ROWS>(
      a.first, a.last, first, last, [&](auto rows, int row, int block, int end) {
        constexpr int ROWS = decltype(rows)::value, COUNT = tile_blocks(ROWS);
        for (; block + COUNT <= end; block += COUNT)
          multiply_tile<ROWS, COUNT>(w, block, a, row, result);
        for (; block < end; ++block) multiply_tile<ROWS, 1>(w, block, a, row, result);
      });
}

}  // namespace
