// INT8 matrix products, exact in INT32.
//
// The path has defined, for vectors of LANES sums of 4 products each:
//   Input            four of a row's inputs, for every lane
//   Input spread(const int8_t* four)
//   Ints dot(Ints sums, Input inputs, Ints weights)
//   INPUT_OFFSET     0x80 if `dot` takes the inputs as u8, else 0
//   ACCUMULATORS, TILE_ROWS    registers for sums; most rows of a tile
//   AHEAD            if not 0, a single row takes block after block, and its weights are
//                    asked for this many bytes before they are needed
#pragma once

#include "rows.h"

namespace {

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

// One row by one block. Its weights are one run of memory, for which it waits longer
// than it multiplies.
template <class Result>
inline void multiply_row(const Matrix& w, int block, const Rows& a, int row,
                         const Result& result) {
  const int8_t* weights = w.weights + size_t(block) * w.inputs * BLOCK;
  const int8_t* inputs = a.inputs + row * a.stride;
  Ints even[PARTS] = {}, odd[PARTS] = {};
  if (INPUT_OFFSET && w.corrections)
    for (int p = 0; p < PARTS; ++p)
      even[p] = load<Ints>(w.corrections + block * BLOCK + p * LANES);
  const auto four = [&](int k, Ints* sums) {
    const int8_t* from = weights + size_t(k) * BLOCK;
    __builtin_prefetch(from + AHEAD);
    const Input input = spread(inputs + k);
    for (int p = 0; p < PARTS; ++p)
      sums[p] = dot(sums[p], input, load<Ints>(from + p * 4 * LANES));
  };
  int k = 0;
  for (; k + 8 <= a.depth; k += 8) {
    four(k, even);
    four(k + 4, odd);
  }
  if (k < a.depth) four(k, even);
  for (int p = 0; p < PARTS; ++p)
    result.take(row, block * BLOCK + p * LANES, even[p] + odd[p]);
}

constexpr int tile_blocks(int rows) {
  const int fit = ACCUMULATORS / (rows * PARTS);
  return fit >= 4 ? 4 : fit >= 2 ? 2 : 1;
}

template <int ROWS, class Result>
inline void multiply_tiles(const Matrix& w, int first, int last, const Rows& a, int row,
                           const Result& result) {
  constexpr int COUNT = tile_blocks(ROWS);
  int block = first;
  if (ROWS == 1 && AHEAD)
    for (; block < last; ++block) multiply_row(w, block, a, row, result);
  for (; block + COUNT <= last; block += COUNT)
    multiply_tile<ROWS, COUNT>(w, block, a, row, result);
  for (; block < last; ++block) multiply_tile<ROWS, 1>(w, block, a, row, result);
}

// Blocks first..last of all rows. Four blocks at a time stay in the nearest cache while
// all rows pass over them; the rows are shared out evenly among tiles.
template <class Result>
void multiply(const Matrix& w, int first, int last, const Rows& a,
              const Result& result) {
  const int tiles = (a.last - a.first + TILE_ROWS - 1) / TILE_ROWS;
  for (int panel = first; panel < last; panel += 4) {
    const int end = panel + 4 < last ? panel + 4 : last;
    for (int tile = 0, row = a.first; tile < tiles; ++tile) {
      const int rows = (a.last - row + (tiles - tile) - 1) / (tiles - tile);
      switch (rows) {
        case 1: multiply_tiles<1>(w, panel, end, a, row, result); break;
        case 2: multiply_tiles<2>(w, panel, end, a, row, result); break;
        case 3: multiply_tiles<3>(w, panel, end, a, row, result); break;
        case 4: multiply_tiles<4>(w, panel, end, a, row, result); break;
        case 5: multiply_tiles<5>(w, panel, end, a, row, result); break;
        default: multiply_tiles<6>(w, panel, end, a, row, result); break;
      }
      row += rows;
    }
  }
}

}  // namespace
